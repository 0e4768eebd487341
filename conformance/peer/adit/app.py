"""The application of the scenarios; see ../../scenarios/README.md and the shim's acts and events in ../../README.md."""

from . import wire
from .faults import bug
from .messages import encode


class App:
    def __init__(self, role, say):
        self.role, self.say = role, say
        self.echoes, self.readers, self.urls, self.ends_at, self.bind_again = set(), set(), {}, {}, None

    def begins(self, session):
        """An agent has a session that is new."""
        self.echoes, self.readers = set(), set()
        self.bind(session, 1, "tcp://:1")

    def ends(self, session, code):
        for stream in list(session.streams.values()):
            if stream.number in self.echoes | self.readers:
                self.tell_end(stream.number, "fin" if bug("takes-a-loss-for-an-end") else "reset", code)
        session.streams.clear()
        self.say({"event": "closed"})

    def run(self, session, now):
        """Does all that can be done."""
        while session.events:
            kind, *event = session.events.popleft()
            if kind == "opened":
                self.on_opened(session, *event)
            elif kind == "readable":
                self.on_readable(session, *event)
            else:
                self.on_message(session, kind, *event, now)
        if self.bind_again is not None and self.bind_again <= now:
            self.bind_again = None
            self.bind(session, 1, "tcp://:1")

    def on_opened(self, session, stream, fields):
        endpoint = fields.get("endpoint", "")
        if endpoint == "drop":
            session.release(stream)
        elif endpoint != "deaf":
            session.accept(stream)
            if endpoint != "sink":
                self.echoes.add(stream.number)

    def on_readable(self, session, stream):
        if stream.number in self.echoes:
            data = session.read(stream)
            if data and not session.write(stream, data):
                self.tell_end(stream.number, "reset", stream.code or wire.CODES["CANCELLED"])
                session.release(stream)
                self.echoes.discard(stream.number)
            elif stream.ended is not None:
                self.echoes.discard(stream.number)
                self.at_end(session, stream)
        elif stream.number in self.readers:
            session.read(stream)
            if stream.ended is not None:
                self.readers.discard(stream.number)
                self.at_end(session, stream)

    def at_end(self, session, stream):
        if stream.ended == "fin":
            self.tell_end(stream.number, "fin")
            session.finish(stream)
        else:
            self.tell_end(stream.number, "reset", stream.code)
            session.reset(stream, stream.code)
        session.release(stream)

    def tell_end(self, number, how, code=None):
        told = {"event": "ended", "stream": number, "by": how}
        if how == "reset":
            told["code"] = code
        self.say(told)

    def on_message(self, session, kind, frame, fields, now):
        number = fields.get("id", 0)
        if kind == "Bind":
            self.on_bind(session, number, fields.get("url", ""), fields.get("tls_end", 0))
        elif kind == "Unbind":
            self.say({"event": "given_up", "id": number, "code": fields.get("code", 0), "text": fields.get("text", "")})
            if "drain" in self.urls.get(number, ""):
                session.drain("SHUTDOWN", now)
        elif kind == "Withheld":
            told = {"url": fields.get("url", ""), "code": fields.get("code", 0), "text": fields.get("text", "")}
            self.say({"event": "withheld", **told})
        elif kind == "Bound":
            self.say({"event": "bound", "id": number, "url": fields.get("url", "")})
        elif kind == "BindRefusal":
            code = fields.get("refusal", {}).get("code", 0)
            self.say({"event": "rejected" if frame == wire.REJECTED else "unbound", "id": number, "code": code})
            self.bind_again = now + (60 if code in (wire.CODES["FORBIDDEN"], 0x106, 0x10C) else 1)
            if bug("ends-streams-with-the-bind"):
                for stream in list(session.streams.values()):
                    session.release(stream)
        elif kind == "CommandRequest":
            self.on_command(session, number, fields.get("command", 0))
        elif kind == "CommandResult":
            self.say({"event": "result", "id": number, "code": fields.get("code", 0)})
        elif kind == "Revocations":
            self.say({"event": "revocations", "octets": fields["octets"]})
        elif kind == "GoAway":
            self.say({"event": "goaway", "code": fields.get("code", 0)})

    def on_bind(self, session, number, url, tls_end):
        self.urls[number] = url
        if "silent" in url or bug("answers-no-bind"):
            return
        code = self.refuses(session, url, tls_end)
        if code is not None:
            del session.binds[number]
            refusal = {"code": wire.CODES[code]}
            session.say_message(wire.REJECTED, "BindRefusal", {"id": number, "refusal": refusal})
            return
        session.binds[number] = "bound"
        self.ends_at[number] = (url, tls_end)
        if "call" in url and bug("opens-before-bound"):
            self.call(session, number)
        said = 0 if bug("says-nothing-of-tls") else 1 if bug("ends-tls-at-the-network") else tls_end
        session.say_message(wire.BOUND, "Bound", {"id": number, "url": url, **({"tls_end": said} if said else {})})
        if "call" in url and not bug("opens-before-bound"):
            self.call(session, number)

    def refuses(self, session, url, tls_end):
        """The code with which a bind is refused, or None."""
        scheme, _, host = url.partition("://")
        name, _, port = host.partition(":")
        internal = name == "internal" or name.endswith(".internal")
        if "refused" in url or bug("refuses-binds"):
            return "FORBIDDEN"
        possible = name != "internal" and not name.startswith("*.") and (scheme == "tcp") == (port not in ("", "0"))
        if internal and not possible and not bug("binds-any-internal-name"):
            return "BAD_NAME"  # spec: BIND-017
        fitting = {"https": (0, 1) if internal else (0, 1, 2), "tls": (0, 2, 3)}.get(scheme, (0,))
        if tls_end not in fitting and not bug("takes-any-model-of-tls"):
            return "UNSUPPORTED"  # spec: BIND-018
        others = (ends for number, ends in self.ends_at.items() if session.binds.get(number) == "bound")
        if any(self.differs(url, tls_end, *other) for other in others) and not bug("changes-where-tls-ends"):
            return "IN_USE"  # spec: BIND-019
        return None

    def differs(self, url, tls_end, other_url, other_end):
        (scheme, _, host), (other, _, name) = url.partition("://"), other_url.partition("://")
        usual = {"https": 1, "tls": 3}
        return host == name and scheme in usual and other in usual and (tls_end or usual[scheme]) != (other_end or usual[other])

    def call(self, session, number):
        stream = session.open(**({} if bug("forgets-the-bind-in-open") else {"bind": number}))
        if stream is not None:
            self.echoes.add(stream.number)

    def on_command(self, session, number, command):
        session.commands.discard(number)
        code = "FORBIDDEN" if command in ((1, 2, 3) if bug("knows-no-documents") else (1, 2, 3, 4)) else "UNKNOWN"
        if bug("obeys"):
            code = "NO_ERROR"
        if not bug("answers-no-command"):
            fields = {"id": number, "code": wire.CODES[code]}
            session.say(wire.COMMAND_RESULT, 0, encode("CommandResult", fields))

    def bind(self, session, number, url, tls_end=0):
        session.binds[number], session.asked[number] = "asked", (url, tls_end)
        session.say_message(wire.BIND, "Bind", {"id": number, "url": url, **({"tls_end": tls_end} if tls_end else {})})

    def act(self, session, link, act, now):
        """Does what the tester asks for, and answers."""
        (name, asked), = act.items() if len(act) == 1 else (("", {}),)
        if session is None:
            return self.say({"failed": "there is no session"})
        if name == "open":
            stream = session.open(**{key: asked[key] for key in ("bind", "endpoint") if key in asked})
            if stream is None:
                return self.say({"failed": "no stream can be opened"})
            self.readers.add(stream.number)
            session.write(stream, asked.get("text", "").encode())
            if asked.get("finish"):
                session.finish(stream)
        elif name == "drain":
            session.drain("SHUTDOWN", now)
        elif name == "close":
            fields = {"code": asked.get("code", 0)}
            link.first.append(wire.frame(wire.CLOSE, 0, encode("Close", fields)))
            link.end()
        elif name == "bind" and self.role == "agent":
            self.bind(session, asked["id"], asked["url"], asked.get("tls_end", 0))
        elif name == "unbind" and self.role == "agent":
            session.binds.pop(asked["id"], None)
            session.say_message(wire.UNBIND, "Unbind", asked)
        elif name == "withheld" and self.role == "agent":
            session.say_message(wire.WITHHELD, "Withheld", asked)
        elif name == "unbound" and self.role == "network" and asked["id"] in session.binds:
            del session.binds[asked["id"]]
            refusal = {"id": asked["id"], "refusal": {"code": asked.get("code", 0)}}
            session.say_message(wire.UNBOUND, "BindRefusal", refusal)
        elif name == "command" and self.role == "network":
            number = max(session.commands, default=0) + 1
            session.commands.add(number)
            document = {} if bug("forgets-documents") else {key: asked[key] for key in ("document",) if key in asked}
            fields = {"id": number, "command": asked["command"], **document}
            session.say_message(wire.COMMAND, "CommandRequest", fields)
        elif name == "revocations" and self.role == "network":
            session.say(wire.REVOCATIONS, 0, asked["text"].encode())
        else:
            return self.say({"not_implemented": f"the act {name}"})
        return self.say({"done": True})
