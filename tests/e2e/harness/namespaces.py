"""Two hosts in one: network namespaces with a TUN device each, joined by whatever passes packets between the two.

The vendor's side (network, callers) is in NEAR, the customer's (agent, upstreams) in FAR.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import struct
import subprocess
import threading

from .deployment import AGENT, NETWORK, Agent, Network
from .process import Process

# The names are the machine's: others may run tests at the same time.
NEAR, FAR = f"adit-near-{os.getpid()}", f"adit-far-{os.getpid()}"
NEAR_IP, FAR_IP = "10.77.0.1", "10.77.0.2"
INGRESS = 7_003

# From <linux/if_tun.h> and <linux/sched.h>.
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000


def sh(*argv):
    subprocess.run([str(part) for part in argv], check=True)


def inside(namespace, *argv):
    """The arguments that run a program in a namespace."""
    return ["ip", "netns", "exec", namespace, *map(str, argv)]


@contextlib.contextmanager
def entered(namespace):
    """Sockets and devices that this thread opens meanwhile are in the namespace, and stay there."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(handle):
        if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    with open("/proc/thread-self/ns/net") as home, open(f"/var/run/netns/{namespace}") as there:
        enter(there)
        try:
            yield
        finally:
            enter(home)


def tun(namespace):
    """Opens a TUN device that is in a namespace; the descriptor works anywhere."""
    with entered(namespace):
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"adit0", IFF_TUN | IFF_NO_PI))
    return device


@contextlib.contextmanager
def namespaces(mtu=1_500):
    """Makes both; gives the descriptors of their devices, that of NEAR first. Needs root."""
    if os.geteuid() != 0:
        raise PermissionError("network namespaces and TUN devices need root")
    devices = []
    try:
        for namespace in (NEAR, FAR):
            subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL, check=False)
            sh("ip", "netns", "add", namespace)
            devices.append(tun(namespace))
        for namespace, own in ((NEAR, NEAR_IP), (FAR, FAR_IP)):
            sh("ip", "-n", namespace, "link", "set", "lo", "up")
            sh("ip", "-n", namespace, "addr", "add", f"{own}/24", "dev", "adit0")
            sh("ip", "-n", namespace, "link", "set", "adit0", "mtu", mtu, "txqueuelen", 10_000, "up")
        yield devices
    finally:
        for device in devices:
            os.close(device)
        for namespace in (NEAR, FAR):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


@contextlib.contextmanager
def wire(devices):
    """Passes packets as they come, while it is open."""

    def pass_on(source, sink, end):
        with contextlib.suppress(OSError):
            while not end.is_set():
                os.write(sink, os.read(source, 65_536))

    end, (near, far) = threading.Event(), devices
    for source, sink in ((near, far), (far, near)):
        threading.Thread(target=pass_on, args=(source, sink, end), daemon=True).start()
    try:
        yield
    finally:
        end.set()


class NearNetwork(Network):
    """A network in NEAR; agents reach it at NEAR_IP, callers inside the namespace at the usual addresses."""

    def __init__(self, directory, **settings):
        ingress = {"listen": [f"{NEAR_IP}:{INGRESS}"], "names": [NEAR_IP, "localhost"]}
        super().__init__(directory, ingress=ingress, **settings)

    def start(self):
        self.process = Process(self.name, inside(NEAR, NETWORK, "serve", "--config", self.config, "--ready"))
        self.runs.append(self.process)
        self.ready = json.loads(self.process.first_stdout_line())
        return self

    @property
    def connect_url(self):
        return f"{NEAR_IP}:{INGRESS}"


class FarAgent(Agent):
    """An agent in FAR."""

    def spawn(self):
        state = {"XDG_STATE_HOME": str(self.directory / "state")}
        argv = inside(FAR, AGENT, "start", "--all", "--config", self.config)
        self.process = Process(self.name, argv, cwd=self.directory, env=state)
        self.runs.append(self.process)
        return self
