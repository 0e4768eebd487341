"""Two connections ask for the same session with the same secret at the same moment: the independent peer, on real sockets."""

import contextlib
import copy
import random
import select
import socket
import sys
import tempfile
import threading
import time

from harness.deployment import ROOT, Network

sys.path.insert(0, str(ROOT / "conformance" / "peer"))

from adit import messages, wire  # noqa: E402
from adit.link import AgentLink  # noqa: E402
from adit.transport import Connection, client_context  # noqa: E402

from figures import Figure  # noqa: E402

LIMITS = {"frame": 16_376, "window": 16_384, "streams": 16_000, "oddities": 1_000, "retain_frames": 65_536, "binds": 10, "unanswered": 100}
#: The second comes too late, or takes the session over because the first has not acknowledged its new secret yet.
LOSES = {wire.CODES["RESUME_UNKNOWN"], wire.CODES["REPLACED"]}


class Contender(AgentLink):
    """A link that remembers with which code it was turned away or closed."""

    code = None

    def take(self, kind, stream, payload, now):
        if kind in (wire.REFUSE, wire.CLOSE):
            self.code = messages.decode("Refusal" if kind == wire.REFUSE else "Close", payload).get("code", 0)
        super().take(kind, stream, payload, now)


class Dial:
    """A connection of the peer; it has said HELLO once `ready` says so."""

    def __init__(self, network, context, hello, session=None, ready=lambda: None):
        def make(now):
            ready()
            return Contender(LIMITS, now, hello, session)

        sock = socket.create_connection(("127.0.0.1", network.ports["ingress"]), timeout=10)
        self.connection = Connection(sock, context, make, time.monotonic(), "localhost")

    def run(self, seconds, until=lambda link: False):
        """Serves the connection for so long, or until its link is as wanted."""
        end, connection = time.monotonic() + seconds, self.connection
        while time.monotonic() < end and not connection.gone:
            connection.pump(time.monotonic(), lambda link: None)
            if connection.link is not None and until(connection.link):
                break
            select.select([connection.sock], [], [], 0.02)
            connection.read_ready()
        return connection.link

    @property
    def lives(self):
        link = self.connection.link
        return link is not None and link.session is not None and not link.closed and not self.connection.eof

    def cut(self):
        self.connection.sock.close()


def measure(times):
    """Races so many pairs; every second time the old connection still stands."""
    winners, told = [], []
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        network = Network(directory, log={"format": "json", "level": "info"})
        stack.callback(lambda: network.process and network.process.kill())
        network.start()
        token, context = network.token().secret.encode(), client_context(str(network.ca))
        for number in range(times):
            hello = {
                "versions": [1], "agent": random.randbytes(16), "incarnation": 1, "token": token, "software": "race",
                "heartbeat": {"interval_ms": 10_000, "tolerance_ms": 15_000}, "resume_window_ms": 30_000,
                "limits": {name: LIMITS[name] for name in ("frame", "window", "streams")},
            }
            first = Dial(network, context, hello)
            session = first.run(10, lambda link: link.session is not None).session
            first.run(0.1)
            if number % 2:
                first.cut()
            start, ends = threading.Barrier(2), threading.Barrier(2)
            dials = [Dial(network, context, hello, copy.deepcopy(session), start.wait) for _ in range(2)]
            threads = [threading.Thread(target=contend, args=(dial, ends)) for dial in dials]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            winners.append(sum(dial.lives for dial in dials))
            told.append(sum(dial.connection.link.code in LOSES for dial in dials if not dial.lives))
            for dial in [first, *dials]:
                dial.cut()
    return [
        Figure("two resumes race: winners", "", winners, (1, 1)),
        Figure("two resumes race: losers that are told so", "", told, (1, 1)),
    ]


def contend(dial, ends):
    """Resumes, and waits a moment to see whether it lasts."""
    dial.run(10, lambda link: link.session is not None or link.closed)
    ends.wait()
    dial.run(0.5)
