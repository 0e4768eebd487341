"""A shim for adit-conformance around the peer in adit/: either side, with the application of the scenarios.

    ADIT_ROLE=network … python3 peer.py [--bug NAME]… [--without-resumption] [--without-hints]

The environment and the lines are described in ../README.md.
"""

import argparse
import json
import os
import pathlib
import random
import selectors
import socket
import sys
import time

from adit import faults, wire
from adit.app import App
from adit.link import AgentLink, Network, NetworkLink
from adit.transport import Connection, client_context, server_context

LIMITS = {"frame": 16_376, "window": 16_384, "binds": 1_000, "unanswered": 100, "oddities": 1_000, "retain_frames": 65_536}
STREAMS = {"agent": 16_000, "network": 384}


def say(word):
    print(json.dumps(word), flush=True)


class Loop:
    """Sockets, the tester's lines and time."""

    def __init__(self, role, limits):
        self.limits, self.app = limits, App(role, say)
        self.selector, self.lines = selectors.DefaultSelector(), b""
        self.selector.register(sys.stdin.buffer.raw, selectors.EVENT_READ, self.listen)
        self.connections = []

    def run(self):
        while True:
            now = time.monotonic()
            due = [at for at in self.deadlines(now) if at is not None]
            wait = max(0.0, min(due) - now) if due else None
            for connection in self.connections:
                writing = selectors.EVENT_WRITE if connection.out else 0
                self.selector.modify(connection.sock, selectors.EVENT_READ | writing, connection)
            for key, _ in self.selector.select(wait):
                if isinstance(key.data, Connection):
                    key.data.read_ready()
                else:
                    key.data()
            self.pump()

    def pump(self):
        now = time.monotonic()
        for connection in list(self.connections):
            connection.pump(now, lambda link: self.move(link, now))
        for connection in list(self.connections):
            connection.pump(now, lambda link: None)  # one may have ended another
            if connection.gone:
                self.connections.remove(connection)
                self.selector.unregister(connection.sock)
                connection.sock.close()
                self.ended(connection, now)
        self.after(now)

    def move(self, link, now):
        """Lets the application do its part on a link."""
        if link.session is not None:
            if not link.closed:
                link.session.expires = None
            self.app.run(link.session, now)

    def watch(self, connection):
        self.connections.append(connection)
        self.selector.register(connection.sock, selectors.EVENT_READ, connection)

    def listen(self):
        octets = os.read(0, 65_536)
        if not octets:
            sys.exit(0)
        *lines, self.lines = (self.lines + octets).split(b"\n")
        for line in lines:
            self.act(json.loads(line)["act"], time.monotonic())

    def act(self, act, now):
        for connection in reversed(self.connections):
            if connection.link is not None and connection.link.session is not None and not connection.link.closed:
                return self.app.act(connection.link.session, connection.link, act, now)
        return self.app.act(None, None, act, now)

    def deadlines(self, now):
        for connection in self.connections:
            yield connection.deadline()
        yield self.app.bind_again

    def parked(self, session, now):
        """A session has lost its link: returns whether it waits for another."""
        if session.resumable and not session.finished:
            session.expires = now + session.window
            return True
        session.finished = True
        return False


class NetworkLoop(Loop):
    def __init__(self, limits):
        super().__init__("network", limits)
        self.network = Network()
        host, port = os.environ["ADIT_ADDRESS"].rsplit(":", 1)
        self.listener = socket.create_server((host, int(port)))
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.context = server_context(os.environ["ADIT_CERTIFICATE"], os.environ["ADIT_KEY"])
        say({"ready": {"address": "%s:%d" % self.listener.getsockname()[:2]}})

    def accept(self):
        sock, _ = self.listener.accept()
        make = lambda now: NetworkLink(self.limits, now, self.network)
        self.watch(Connection(sock, self.context, make, time.monotonic()))

    def ended(self, connection, now):
        link = connection.link
        if link is None or link.session is None or link.session.link is not link:
            return
        if not self.parked(link.session, now):
            self.app.ends(link.session, wire.CODES["SESSION_LOST"])

    def after(self, now):
        self.network.expire(now)

    def deadlines(self, now):
        yield from super().deadlines(now)
        yield from (session.expires for session in self.network.sessions.values())


class AgentLoop(Loop):
    def __init__(self, limits):
        super().__init__("agent", limits)
        self.context = client_context(os.environ["ADIT_CA"])
        self.session, self.dial_at, self.tries = None, time.monotonic(), 0
        self.agent = random.randbytes(16)

    def after(self, now):
        session = self.session
        if session is not None and session.expires is not None and session.expires <= now:
            session.finished = True
            self.app.ends(session, wire.CODES["RESUME_EXPIRED"])
            self.session = None
        if not self.connections and self.dial_at <= now:
            self.dial(now)

    def move(self, link, now):
        if link.session is not None and link.session is not self.session and not link.closed:
            self.session, self.tries = link.session, 0
            self.app.begins(self.session)
        super().move(link, now)

    def dial(self, now):
        host, port = os.environ["ADIT_ADDRESS"].rsplit(":", 1)
        try:
            sock = socket.create_connection((host, int(port)), timeout=10)
        except OSError:
            self.wait(now)
            return
        hello = {
            "versions": [1], "agent": self.agent, "incarnation": 1, "token": os.environ["ADIT_TOKEN"].encode(),
            "software": "conformance peer", "heartbeat": {"interval_ms": 10_000, "tolerance_ms": 15_000},
            "limits": {name: self.limits[name] for name in ("frame", "window", "streams")},
            "resume_window_ms": 0 if faults.without_resumption else 30_000,
        }
        make = lambda at: AgentLink(self.limits, at, hello, self.session)
        self.watch(Connection(sock, self.context, make, now, os.environ["ADIT_SERVER_NAME"]))
        self.connections[-1].pump(now, lambda link: None)

    def ended(self, connection, now):
        self.wait(now)
        link = connection.link
        refusal = link.refusal if link is not None else None
        if refusal is not None:
            code, named = refusal.get("code", 0), min(refusal.get("retry_after_ms", 0), 300_000) / 1_000
            if code == wire.CODES["RESUME_UNKNOWN"] and self.session is not None:
                self.session.finished = True
                self.dial_at = now
            elif code == wire.CODES["CREDENTIALS"]:
                self.dial_at = now + max(30.0, named)
            elif code == wire.CODES["FORBIDDEN"]:
                self.dial_at = now + max(60.0, named)
            elif code == wire.CODES["VERSION"]:
                self.dial_at = now + 86_400 * 365
            else:
                self.dial_at = max(self.dial_at, now + named)
        session = self.session
        if session is None:
            return
        if link is not None and link.session is None and link.closed and refusal is None:
            session.finished = True  # the network's WELCOME was wrong: there is no session to go on with
        if session.expires is None and not self.parked(session, now) or session.finished:
            self.app.ends(session, wire.CODES["SESSION_LOST"])
            self.session = None
        else:
            self.dial_at = min(self.dial_at, now + 1)

    def wait(self, now):
        self.dial_at = now + random.uniform(0.1, min(30.0, 0.5 * 2 ** min(self.tries, 10)))
        self.tries += 1

    def deadlines(self, now):
        yield from super().deadlines(now)
        yield self.session.expires if self.session is not None else None
        if not self.connections:
            yield self.dial_at


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bug", action="append", default=[])
    parser.add_argument("--without-resumption", action="store_true")
    parser.add_argument("--without-hints", action="store_true", help="say no BLOCKED")
    arguments = parser.parse_args()
    known = json.loads((pathlib.Path(__file__).parent / "bugs.json").read_text())
    for name in arguments.bug:
        if name not in known:
            parser.error(f"there is no bug {name}")
    faults.active.update(arguments.bug)
    faults.without_resumption, faults.without_hints = arguments.without_resumption, arguments.without_hints
    role = os.environ["ADIT_ROLE"]
    limits = LIMITS | {"streams": STREAMS[role]}
    for name, value in json.loads(os.environ.get("ADIT_LIMITS", "{}")).items():
        if name not in limits:
            return say({"not_implemented": f"the limit {name}"})
        limits[name] = value
    return (AgentLoop if role == "agent" else NetworkLoop)(limits).run()


if __name__ == "__main__":
    main()
