"""A connection goes on when the agent's host has another address: real namespaces, real packets."""

import contextlib
import subprocess

from harness.deployment import DEADLINE
from harness.namespaces import FAR, FAR_IP, NEAR, FarAgent, NearNetwork, inside, namespaces, sh, wire
from harness.process import Process, wait_until

UPSTREAM, ENDPOINT = 7_001, 7_002
OTHER_IP = "10.77.0.77"


@contextlib.contextmanager
def caller():
    """A connection through the endpoint; gives what says a line and returns the echo."""
    with subprocess.Popen(inside(NEAR, "ncat", "127.0.0.1", ENDPOINT), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:

        def say(line):
            child.stdin.write(line)
            child.stdin.flush()
            return child.stdout.readline()

        try:
            yield say
        finally:
            child.kill()


def test_a_connection_survives_a_new_address_of_the_agents_host(tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(wire(stack.enter_context(namespaces())))
        echo = Process("echo", inside(FAR, "ncat", "-l", "-k", "127.0.0.1", UPSTREAM, "--exec", "/bin/cat"))
        stack.callback(echo.kill)
        network = NearNetwork(tmp_path)
        stack.callback(lambda: network.process and network.process.kill())
        network.start()
        endpoint = {"url": f"tcp://:{ENDPOINT}", "upstream": {"url": f"tcp://127.0.0.1:{UPSTREAM}"}}
        heartbeat = {"heartbeat_interval": "1s", "heartbeat_tolerance": "1s"}
        token = network.token(f"tcp:{ENDPOINT}")
        agent = FarAgent(network, tmp_path / "agent", token, {"far": endpoint}, **heartbeat)
        stack.callback(lambda: agent.process and agent.process.kill())
        agent.start()
        say = stack.enter_context(caller())
        assert say(b"before\n") == b"before\n"
        seen = len(agent.process.lines)

        sh("ip", "-n", FAR, "addr", "del", f"{FAR_IP}/24", "dev", "adit0")
        sh("ip", "-n", FAR, "addr", "add", f"{OTHER_IP}/24", "dev", "adit0")

        assert say(b"after\n") == b"after\n"
        agent.process.wait_for("session resumed", deadline=DEADLINE, after=seen)
        assert OTHER_IP in sockets(FAR)
        wait_until(lambda: f"{FAR_IP}:" not in sockets(NEAR), "the network lets go of the connection that is lost")


def sockets(namespace):
    """The established connections of a namespace."""
    argv = inside(namespace, "ss", "-Htn", "state", "established")
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
