"""systemd, the real one, as the first process of namespaces of its own over a copy of this system: it can be booted, asked and killed.

The copy is an overlay that is thrown away; /etc/systemd/system, /etc/adit and /var/lib/private are the machine's own and last over a boot. The network is this machine's. As
root; what is done there reaches no unit and no control group of this machine.
"""

import os
import pathlib
import shutil
import signal
import subprocess

from .process import DEADLINE, Timeout, run, wait_until

BOOT = r"""
scratch=$1 state=$2 target=$3 group=$4
echo $$ >"$group/cgroup.procs"
exec unshare --mount --pid --fork --cgroup --uts --ipc --propagation private --kill-child bash -euc '
scratch=$1 state=$2 target=$3
mount -t tmpfs none "$scratch"
root=$scratch/root
mkdir "$scratch"/upper "$scratch"/work "$root"
mount -t overlay overlay -o lowerdir=/,upperdir="$scratch/upper",workdir="$scratch/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 none "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
touch "$root/dev/console"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mkdir -p "$root/etc/systemd/system" "$root/etc/adit" "$root/.before" "$root/run/units"
mount --bind "$state/system" "$root/etc/systemd/system"
mount --bind "$state/adit" "$root/etc/adit"
mkdir -p -m 700 "$root/var/lib/private"
mount --bind "$state/private" "$root/var/lib/private"
cp "$state"/units/* "$root/run/units"
cd "$root"
pivot_root . .before
umount -l /.before
mount --make-rshared /
exec env -i container=adit-e2e SYSTEMD_UNIT_PATH=/run/units:/etc/systemd/system PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit="$target" --log-target=journal-or-kmsg --show-status=no
' boot "$scratch" "$state" "$target"
"""

# What is there before the service; the journal's units are systemd's own.
TARGETS = ["basic", "multi-user", "network-online", "nss-lookup", "shutdown", "sysinit", "umount", "sockets"]
JOURNAL = ["systemd-journald.service", "systemd-journald.socket"]


class Machine:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.scratch = self.folder / "scratch"
        self.state = self.folder / "state"
        for path in (self.scratch, self.state / "system", self.state / "adit", self.state / "units"):
            path.mkdir(parents=True)
        (self.state / "private").mkdir(mode=0o700)
        for name in TARGETS:
            (self.state / "units" / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        wants = "[Unit]\nDefaultDependencies=no\nWants=systemd-journald.socket systemd-journald.service\n"
        (self.state / "units" / "basic.target").write_text(wants + "After=systemd-journald.service\n")
        (self.state / "units" / "multi-user.target").write_text("[Unit]\nWants=basic.target\nAfter=basic.target\n")
        for name in JOURNAL:
            shutil.copy(f"/lib/systemd/system/{name}", self.state / "units")
        self.group = unified() / f"adit-e2e-{os.getpid()}"
        self.child = None
        self.first = None

    def boot(self):
        """Starts systemd, and waits until it has started what it wants."""
        self.group.mkdir(exist_ok=True)
        argv = ["bash", "-euc", BOOT, "boot", self.scratch, self.state, "multi-user.target", self.group]
        self.child = subprocess.Popen([str(part) for part in argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        self.first = wait_until(self._first, "the first process of the namespaces")
        wait_until(lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in (b"running", b"degraded", b"starting"), "systemd to answer")
        return self

    def _first(self):
        if self.child.poll() is not None:
            raise AssertionError(f"systemd was not started: {self.child.stderr.read().decode()}")
        children = pathlib.Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        is_systemd = lambda pid: pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"
        try:
            return next((int(pid) for pid in children if is_systemd(pid)), None)
        except FileNotFoundError:
            return None

    def run(self, *argv, check=True, stdin=None):
        """Runs a program inside."""
        root = f"/proc/{self.first}/root"
        enter = ["nsenter", f"--target={self.first}", "--mount", "--pid", "--ipc", "--uts", "--cgroup", f"--root={root}", f"--wd={root}"]
        return run([*enter, *argv], check=check, stdin=stdin)

    def show(self, unit, key):
        return self.run("systemctl", "show", unit, "--value", f"--property={key}").stdout.decode().strip()

    def wait_for(self, unit, key, value, deadline=3 * DEADLINE):
        try:
            return wait_until(lambda: self.show(unit, key) == value, f"{key}={value} of {unit}", deadline)
        except Timeout as timeout:
            log = self.run("journalctl", "--no-pager", check=False).stdout.decode()
            raise Timeout(f"{timeout}; it is {self.show(unit, key)}:\n{log[-4000:]}") from None

    def kill(self):
        """Takes the power away."""
        if self.child is None:
            return
        for pid in (self.first, self.child.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, TypeError):
                pass
        self.child.wait(DEADLINE)
        self.child.stderr.close()
        self.child = None
        wait_until(self._tidied, "the control groups of the machine to go")

    def _tidied(self):
        for folder, _, _ in os.walk(self.group, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return False
        return True


def unified():
    """Where control groups of the second version are, beside those of the first or alone."""
    both = pathlib.Path("/sys/fs/cgroup/unified")
    return both if both.exists() else pathlib.Path("/sys/fs/cgroup")
