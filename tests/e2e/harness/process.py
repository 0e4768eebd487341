"""A child process whose every line is kept and can be waited for."""

import os
import queue
import re
import signal
import subprocess
import threading
import time

DEADLINE = 20.0


class Timeout(AssertionError):
    """Something that had to happen did not, within its deadline."""


def wait_until(condition, what, deadline=DEADLINE):
    """Polls an observable condition; returns its first true value. `what` is a text, or makes one of how things are at the end."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Timeout(f"not within {deadline} s: {what() if callable(what) else what}")
        time.sleep(0.01)  # the pace of looking, not a wait for the event


class Process:
    """One run of a program. `lines` holds standard output and standard error in the order of arrival."""

    def __init__(self, name, argv, stdin=None, env=None, cwd=None, user=None, interactive=False):
        self.name = name
        self.lines = []
        self.stdout = queue.Queue()
        self._changed = threading.Condition()
        self._ends = 0
        self.child = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.PIPE if stdin is not None or interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            user=user,
            extra_groups=[] if user else None,
            start_new_session=True,
        )
        for pipe, sink in ((self.child.stdout, self.stdout), (self.child.stderr, None)):
            threading.Thread(target=self._collect, args=(pipe, sink), daemon=True).start()
        if stdin is not None:
            threading.Thread(target=self._feed, args=(stdin,), daemon=True).start()

    def _feed(self, data):
        try:
            self.child.stdin.write(data)
            self.child.stdin.close()
        except BrokenPipeError:
            pass

    def say(self, line):
        """Gives a line to a program that was started to be spoken to."""
        self.child.stdin.write(f"{line}\n".encode())
        self.child.stdin.flush()

    def _collect(self, pipe, sink):
        for raw in pipe:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
            if sink is not None:
                sink.put(line)
        with self._changed:
            self._ends += 1
            self._changed.notify_all()

    @property
    def pid(self):
        return self.child.pid

    def text(self):
        with self._changed:
            return "\n".join(self.lines)

    def mark(self):
        """Names the present end of the output, for `wait_for(after=…)`."""
        with self._changed:
            return len(self.lines)

    def wait_for(self, pattern, deadline=DEADLINE, after=0):
        """Waits for a line that matches; returns the match."""
        expression = re.compile(pattern)
        end = time.monotonic() + deadline
        seen = after
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    found = expression.search(line)
                    if found:
                        return found
                seen = len(self.lines)
                if self._ends == 2:
                    raise Timeout(f"{self.name} ended without saying {pattern!r}:\n" + "\n".join(self.lines[-30:]))
                if not self._changed.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    raise Timeout(f"{self.name} did not say {pattern!r} in {deadline} s:\n" + "\n".join(self.lines[-30:]))

    def first_stdout_line(self, deadline=DEADLINE):
        try:
            return self.stdout.get(timeout=deadline)
        except queue.Empty:
            raise Timeout(f"{self.name} printed nothing in {deadline} s:\n{self.text()}") from None

    def alive(self):
        return self.child.poll() is None

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        """SIGKILL, and the wait for the end."""
        if self.alive():
            self.child.kill()
        self.child.wait(DEADLINE)

    def stop(self, deadline=DEADLINE):
        """SIGTERM, and the wait for the end; returns the exit status."""
        if self.alive():
            self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def wait(self, deadline=DEADLINE):
        try:
            code = self.child.wait(deadline)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.name} did not end in {deadline} s:\n{self.text()[-4000:]}") from None
        wait_until(lambda: self._ends == 2, f"the output of {self.name} to end")
        return code

    def rss(self):
        """Resident memory in bytes."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name} is gone")


def run(argv, stdin=None, deadline=120, check=True, env=None):
    """Runs a program to its end; returns the completed process with bytes."""
    done = subprocess.run(
        [str(part) for part in argv],
        input=stdin,
        capture_output=True,
        timeout=deadline,
        env={**os.environ, **(env or {})},
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-4000:]}")
    return done
