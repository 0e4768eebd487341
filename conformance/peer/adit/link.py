"""A link: handshake, heartbeat, and the end. See transport.md, heartbeat.md, ending.md."""

import hmac
import secrets

from . import faults, messages, wire
from .faults import bug
from .session import Bucket, Session
from .wire import Violation

HANDSHAKE_TIMEOUT = 10.0


class Link:
    """One link of either side; a subclass does the handshake."""

    role = None

    def __init__(self, limits, now):
        self.limits, self.inbox = limits, bytearray()
        self.session, self.closed, self.lost = None, False, False
        self.began, self.interval, self.tolerance = now, None, None
        self.last_heard, self.ping_at, self.ping_out, self.ping_next, self.pings = now, None, None, None, 0
        self.ping_bucket, self.pong_bucket = Bucket(20, 10), Bucket(10, 1)
        self.pong_owed, self.first = None, []

    # what comes in

    def receive(self, octets, now):
        if self.closed:
            return
        self.tick(now)
        self.last_heard = now
        self.inbox += octets
        try:
            self.take_frames(now)
        except Violation as violation:
            self.fail(violation)

    def take_frames(self, now):
        while len(self.inbox) >= 8 and not self.closed:
            length, kind = int.from_bytes(self.inbox[:3], "big"), self.inbox[3]
            stream = int.from_bytes(self.inbox[4:8], "big")
            if not bug("keeps-the-reserved-bit"):
                stream &= 0x7FFFFFFF
            try:
                self.check(length, kind, stream)
                if len(self.inbox) < 8 + length:
                    return
                payload = bytes(self.inbox[8:8 + length])
                del self.inbox[:8 + length]
                self.take(kind, stream, payload, now)
            except Violation as violation:
                if not bug("goes-on-after-violations"):
                    raise
                fields = {"code": wire.CODES[violation.code]}
                self.first.append(wire.frame(wire.CLOSE, 0, messages.encode("Close", fields)))
                del self.inbox[:8 + length]

    def check(self, length, kind, stream):
        if self.session is None:
            if kind != wire.CLOSE and not self.may_come_first(kind):
                raise Violation("PROTOCOL", "PRE-001" if self.role == "network" else "PRE-002")
        announced = self.session is not None or self.role == "agent"
        wire.check_header(length, kind, stream, self.limits["frame"] if announced else wire.FRAME_DEFAULT)

    def take(self, kind, stream, payload, now):
        if kind == wire.CLOSE:
            messages.decode("Close", payload)
            if bug("answers-close"):
                self.first.append(wire.frame(wire.CLOSE, 0, b""))
            return self.end()
        if self.session is None or kind in (wire.HELLO, wire.WELCOME, wire.REFUSE):
            if self.session is not None and not bug("shakes-hands-twice"):
                raise Violation("PROTOCOL", "PRE-005")
            return self.handshake(kind, payload, now)
        if kind == wire.PING:
            self.ping_bucket.spend(now, "HB-011")
            self.pong_owed = bytes(8) if bug("answers-with-zeros") else payload
        elif kind == wire.PONG:
            self.session.counted_in += bug("counts-link-frames")
            if payload != self.ping_out:
                return self.pong_bucket.spend(now, "HB-007")
            self.ping_out = None
        elif kind == wire.ACK:
            self.session.acknowledge(int.from_bytes(payload, "big"))
            self.confirmed()
        else:
            self.session.receive(kind, stream, payload, now)
            if wire.is_counted(kind):
                self.confirmed()
        return None

    def confirmed(self):
        """The peer has shown that it knows the newest secret."""

    def established(self, session, heartbeat, now):
        self.session = session
        self.interval = min(max(heartbeat.get("interval_ms", 0), 1_000), 3_600_000) / 1_000
        self.tolerance = min(max(heartbeat.get("tolerance_ms", 0), self.interval * 500), 3_600_000) / 1_000
        self.ping_next = now

    # how it ends

    def fail(self, violation):
        self.close(violation.code, str(violation))

    def close(self, code, text=""):
        if not self.closed:
            fields = {"code": wire.CODES[code], "text": text}
            if not bug("closes-in-silence"):
                self.first.append(wire.frame(wire.CLOSE, 0, messages.encode("Close", fields)))
            self.end()

    def end(self):
        """The session is over, and so is the link."""
        self.closed = True
        if self.session is not None:
            self.session.finished = True

    # what goes out

    def output(self, now, room):
        """Returns octets for the transport, somewhat more than `room` at most."""
        out, self.first = b"".join(self.first), []
        if self.closed or self.session is None:
            return out
        if self.pong_owed is not None and not bug("ignores-pings"):
            if bug("answers-pings-last"):
                out += b"".join(iter(lambda: self.session.next_frame(now) or b"", b""))
            out += wire.frame(wire.PONG, 0, self.pong_owed)
        self.pong_owed = None
        if self.ping_next is not None and self.ping_next <= now and self.ping_out is None and not bug("never-asks"):
            self.pings += 1
            self.ping_out, self.ping_at = wire.number(self.pings), now
            self.ping_next = now + self.interval
            out += wire.frame(wire.PING, 0, self.ping_out)
        out += self.session.ack(now) or b""
        while len(out) < room:
            frame = self.session.next_frame(now)
            if frame is None:
                break
            out += frame
        if self.session.is_drained():
            self.close("NO_ERROR")
            out, self.first = out + b"".join(self.first), []
        return out

    # time

    def deadlines(self):
        """Yields each time at which something is due, and what."""
        if self.closed:
            return
        if self.session is None:
            yield self.began + HANDSHAKE_TIMEOUT, "handshake"
            return
        if self.ping_out is not None:
            heard = self.last_heard > self.ping_at
            yield (self.last_heard + self.interval if heard else self.ping_at) + self.tolerance, "dead"
        elif self.ping_next is not None:
            yield self.ping_next, "ping"
        session = self.session
        if session.ack_due is not None and session.counted_in != session.told:
            yield session.ack_due, "ack"
        if session.drain_until is not None:
            yield session.drain_until, "drain"
        if session.resumable and session.unacknowledged_since is not None:
            yield session.unacknowledged_since + 3 * self.tolerance, "dead"

    def tick(self, now):
        due = {what for at, what in self.deadlines() if at <= now}
        if "handshake" in due:
            self.close("HANDSHAKE_TIMEOUT", "PRE-004")
        elif "drain" in due:
            self.close("DRAIN_TIMEOUT", "GO-005")
        elif "dead" in due and not bug("waits-for-ever"):
            if self.session.resumable:
                self.closed = self.lost = True
            else:
                self.close("DEAD", "HB-004")


class NetworkLink(Link):
    role = "network"

    def __init__(self, limits, now, network):
        super().__init__(limits, now)
        self.network, self.resumed = network, False

    def may_come_first(self, kind):
        return kind == wire.HELLO

    def handshake(self, kind, payload, now):
        hello = messages.decode("Hello", payload)
        if 1 not in hello.get("versions", []) and not bug("speaks-any-version"):
            return self.refuse("VERSION", "version 1 is spoken here")
        if hello.get("token", b"") == b"no" and not bug("takes-any-token"):
            return self.refuse("CREDENTIALS")
        session, resumed = None, hello.get("resume")
        if resumed is not None:
            session = self.network.named(resumed, hello)
            if session is None:
                return self.refuse("RESUME_UNKNOWN")
        welcome = {"version": 1, "heartbeat": self.clamped(hello.get("heartbeat", {}))}
        welcome["limits"] = {name: self.limits[name] for name in ("frame", "window", "streams")}
        if session is not None:
            session.link.replaced()
            welcome["resumed"] = session.counted_in + bug("counts-wrong-at-resume")
            session.resume_at(resumed.get("received", 0))
            session.attempt = max(session.attempt, resumed.get("attempt", 0))
            self.resumed = True
        else:
            session = Session("network", secrets.token_bytes(16), self.limits, hello.get("limits", {}))
            self.network.begins(session, hello)
        session.link = self
        welcome["session"] = session.name
        window = min(hello.get("resume_window_ms", 0), 30_000)
        session.resumable = window > 0 and not faults.without_resumption
        if session.resumable:
            self.network.offers(session, window / 1_000)
            welcome["resume"] = {"secret": session.secret, "window_ms": window}
        self.first.append(wire.frame(wire.WELCOME, 0, messages.encode("Welcome", welcome)))
        return self.established(session, welcome["heartbeat"], now)

    @staticmethod
    def clamped(heartbeat):
        interval, tolerance = heartbeat.get("interval_ms", 0), heartbeat.get("tolerance_ms", 0)
        if not bug("takes-any-heartbeat"):
            interval = min(max(interval, 1_000), 3_600_000)
            tolerance = min(max(tolerance, interval // 2), 3_600_000)
        return {"interval_ms": interval, "tolerance_ms": tolerance}

    def refuse(self, code, text=""):
        fields = {"code": wire.CODES[code], "text": text}
        self.first.append(wire.frame(wire.REFUSE, 0, messages.encode("Refusal", fields)))
        self.end()

    def replaced(self):
        """Another link has the session."""
        if not self.closed:
            self.first.append(wire.frame(wire.CLOSE, 0, messages.encode("Close", {"code": wire.CODES["REPLACED"]})))
            self.closed = True

    def confirmed(self):
        self.session.old_secret = None


class Network:
    """The sessions of a network, by name."""

    def __init__(self):
        self.sessions = {}

    def begins(self, session, hello):
        session.agent, session.token = hello["agent"], hello.get("token", b"")
        session.secret = session.old_secret = session.expires = None
        session.window = 0.0
        for other in list(self.sessions.values()):
            if (other.agent, other.token) == (session.agent, session.token) and not other.finished:
                other.link.close("REPLACED")
                other.finished = True
        self.sessions[session.name] = session

    def offers(self, session, window):
        if not bug("keeps-its-secret") or session.secret is None:
            session.old_secret, session.secret = session.secret, secrets.token_bytes(16)
        session.window = window

    def named(self, resume, hello):
        """Returns the session that may be resumed so, or None."""
        session = self.sessions.get(resume["session"])
        if session is None or not session.resumable or session.finished and not bug("resumes-what-ended"):
            return None
        if (session.agent, session.token) != (hello["agent"], hello.get("token", b"")):
            return None
        shown = resume.get("secret", b"")
        good = [one for one in (session.secret, session.old_secret) if one is not None]
        if not any(hmac.compare_digest(shown, one) for one in good) and not bug("takes-any-secret"):
            return None
        if not session.can_resume_at(resume.get("received", 0)):
            return None
        if resume.get("attempt", 0) < session.attempt and not bug("resumes-what-was-given-up"):
            return None
        return session

    def expire(self, now):
        for name, session in list(self.sessions.items()):
            if session.expires is not None and session.expires <= now or session.finished:
                session.finished = True
                if not bug("resumes-what-ended"):
                    del self.sessions[name]


class AgentLink(Link):
    role = "agent"

    def __init__(self, limits, now, hello, session):
        """`session` is the one that is to go on, or None."""
        super().__init__(limits, now)
        self.old, self.refusal = session, None
        hello = dict(hello)
        if session is not None:
            received = session.counted_in + bug("counts-wrong-at-resume")
            session.attempt += not bug("counts-no-attempts")
            hello["resume"] = {"session": session.name, "secret": session.secret, "received": received, "attempt": session.attempt}
            if bug("forgets-its-secret"):
                hello["resume"]["secret"] = bytes(16)
        self.first.append(wire.frame(wire.HELLO, 0, messages.encode("Hello", hello)))
        if bug("talks-before-welcome"):
            self.first.append(wire.frame(wire.PONG, 0, bytes(8)))

    def may_come_first(self, kind):
        return kind in (wire.WELCOME, wire.REFUSE) or bug("takes-frames-before-welcome")

    def handshake(self, kind, payload, now):
        if kind == wire.REFUSE:
            self.refusal = messages.decode("Refusal", payload)
            if bug("answers-a-refusal"):
                self.first.append(wire.frame(wire.PONG, 0, bytes(8)))
            return self.end()
        if kind != wire.WELCOME:
            return None
        welcome = messages.decode("Welcome", payload)
        if welcome.get("version", 0) != 1 and not bug("speaks-any-version"):
            raise Violation("VERSION", "PRE-003")
        resumed, session = welcome.get("resumed"), self.old
        if session is None:
            if resumed is not None and not bug("resumes-unasked"):
                raise Violation("PROTOCOL", "RES-015")
            session = Session("agent", welcome["session"], self.limits, welcome.get("limits", {}))
        elif not bug("believes-any-welcome"):
            if resumed is None or welcome["session"] != session.name or not session.can_resume_at(resumed):
                raise Violation("PROTOCOL", "RES-015")
        if self.old is not None:
            session.resume_at(resumed or 0)
        offer = welcome.get("resume")
        session.resumable = offer is not None
        if offer is not None and not (bug("keeps-its-secret") and self.old is not None):
            session.secret, session.window = offer["secret"], offer.get("window_ms", 0) / 1_000
        heartbeat = {} if bug("keeps-its-heartbeat") else welcome.get("heartbeat", {})
        return self.established(session, heartbeat, now)
