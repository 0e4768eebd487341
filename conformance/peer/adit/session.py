"""A session: streams, credit, binds and counted frames. It outlives its links. See streams.md, credit.md, resume.md."""

from collections import deque

from . import faults, messages, wire
from .faults import bug
from .wire import MAX_OFFSET, Violation


class Stream:
    def __init__(self, number, mine, window, credit):
        self.number, self.mine, self.held = number, mine, True
        # from the peer
        self.inbox, self.received, self.consumed, self.granted = bytearray(), 0, 0, window
        self.ended, self.code, self.stopped = None, None, False
        # to the peer
        self.outbox, self.sent, self.credit, self.blocked_at = bytearray(), 0, credit, None
        self.finishing, self.done, self.accepted = False, False, False


class Bucket:
    """A burst, of which some are forgiven each second."""

    def __init__(self, burst, each_second):
        self.burst, self.each_second, self.level, self.at = burst, each_second, 0.0, None

    def spend(self, now, clause):
        if self.at is not None:
            self.level = max(0.0, self.level - (now - self.at) * self.each_second)
        self.at, self.level = now, self.level + 1
        if self.level > self.burst and not bug("forgives-floods"):
            raise Violation("EXCESSIVE", clause)


class Session:
    def __init__(self, role, name, limits, theirs):
        self.role, self.name, self.limits = role, name, limits
        self.frame_limit = theirs.get("frame", wire.FRAME_DEFAULT)
        self.window_out = theirs.get("window", 0)
        self.streams, self.events, self.order = {}, deque(), deque()
        self.highest = {True: 0, False: 0}  # of mine, of the peer's
        self.may_open, self.may_be_opened, self.over = theirs.get("streams", 0), limits["streams"], 0
        self.queue, self.retained, self.replay = deque(), deque(), deque()
        self.counted_out, self.acknowledged, self.unacknowledged_since = 0, 0, None
        self.counted_in, self.told, self.unacked_octets, self.ack_due = 0, 0, 0, None
        self.oddities = Bucket(limits["oddities"], 10)
        self.binds, self.commands, self.asked, self.withheld = {}, set(), {}, set()
        self.lists = 10, 0.0  # how many revocation lists are heard, and since when
        self.goaway_heard, self.goaway_said, self.drain_until = None, None, None
        self.resumable, self.finished, self.expires = False, False, None
        self.attempt = 0  # to resume: as an agent the last, as a network the highest that was good

    # what the application does

    def open(self, **fields):
        number = self.next_number()
        if self.goaway_heard is not None or self.goaway_said is not None or self.finished:
            return None
        if (self.highest[True] + 1) // 2 >= self.may_open and not bug("opens-beyond-the-grant"):
            return None
        if not bug("uses-numbers-again"):
            self.highest[True] = number
        stream = self.streams[number] = Stream(number, True, self.limits["window"], self.window_out)
        self.order.append(stream)
        self.say(wire.OPEN, number, messages.encode("Open", fields))
        return stream

    def next_number(self):
        first = 1 if (self.role == "agent") != bug("opens-with-the-wrong-parity") else 2
        return self.highest[True] + 2 if self.highest[True] else first

    def accept(self, stream):
        if not stream.accepted and not bug("accepts-without-a-word"):
            self.say(wire.ACCEPT, stream.number)
        stream.accepted = True

    def read(self, stream):
        """Returns what has arrived, and announces credit for as much."""
        data, stream.inbox = bytes(stream.inbox), bytearray()
        stream.consumed += len(data) * (2 if bug("counts-credit-twice") else 1)
        window = self.limits["window"]
        if bug("renews-credit-late") and stream.granted - stream.consumed > window // 8:
            return data
        if stream.consumed + window - stream.granted >= max(window // 2, 1) and stream.ended is None and data:
            stream.granted = stream.consumed + window
            if not bug("never-renews-credit"):
                self.say(wire.CREDIT, stream.number, wire.number(stream.granted))
        return data

    def write(self, stream, data):
        if stream.done or stream.finishing:
            return False
        if not (bug("ends-both-directions") and stream.ended == "fin"):
            stream.outbox += data
        return True

    def finish(self, stream):
        stream.finishing = True
        self.settle(stream)

    def reset(self, stream, code):
        if not stream.done:
            stream.done, stream.finishing, stream.outbox = True, False, bytearray()
            self.say(wire.RESET, stream.number, wire.code(code))

    def stop(self, stream, code):
        if stream.ended is None and not stream.stopped:
            stream.stopped, stream.inbox = True, bytearray()
            if not bug("lets-go-without-stop"):
                self.say(wire.STOP, stream.number, wire.code(code))

    def release(self, stream, code="CANCELLED"):
        """Lets go of a stream: what is not over ends now."""
        stream.held = False
        if not stream.finishing:
            self.reset(stream, code)
        self.stop(stream, code)
        self.settle(stream)

    def drain(self, code, now):
        if self.goaway_said is None:
            self.goaway_said = self.highest[False]
            self.drain_until = now + 30
            fields = {"last": self.goaway_said, "code": wire.CODES[code]}
            if not bug("drains-without-goaway"):
                self.say(wire.GOAWAY, 0, messages.encode("GoAway", fields))

    def say(self, kind, stream=0, payload=b""):
        self.queue.append(wire.frame(kind, stream, payload))

    def say_message(self, kind, name, fields):
        self.say(kind, 0, messages.encode(name, fields))

    # what goes out

    def next_frame(self, now):
        """Returns the next counted frame for the link, or None."""
        if self.replay:
            return self.replay.popleft()
        if self.resumable and len(self.retained) >= self.limits["retain_frames"]:
            return None
        frame = self.queue.popleft() if self.queue else self.next_data()
        if frame is not None:
            self.counted_out += 1
            self.retained.append(frame)
            if self.unacknowledged_since is None:
                self.unacknowledged_since = now
        return frame

    def next_data(self):
        for _ in range(len(self.order)):
            stream = self.order.popleft()
            frame = self.data_of(stream)
            if not stream.done:
                self.order.append(stream)
            if frame is not None:
                self.settle(stream)
                return frame
        return None

    def data_of(self, stream):
        if stream.done:
            return None
        if stream.outbox:
            room = len(stream.outbox) if bug("sends-beyond-credit") else stream.credit - stream.sent
            length = min(len(stream.outbox), room, 16_376 if bug("sends-long-frames") else self.frame_limit)
            if length > 0:
                data = bytes(stream.outbox[:length])
                del stream.outbox[:length]
                stream.sent += length
                if bug("alters-data"):
                    data = data[:-1] + bytes([data[-1] ^ 1])
                return wire.frame(wire.DATA, stream.number, data)
            if stream.blocked_at != stream.credit and not faults.without_hints:
                stream.blocked_at = stream.credit
                return wire.frame(wire.BLOCKED, stream.number, wire.number(stream.credit))
            return None
        if stream.finishing:
            stream.done = True
            return wire.frame(wire.FIN, stream.number, wire.number(stream.sent + bug("states-a-wrong-final-offset")))
        return None

    def ack(self, now):
        """Returns the ACK that is due, or None."""
        if self.counted_in == self.told or bug("never-acknowledges"):
            return None
        if self.unacked_octets < 65_536 and now < self.ack_due:
            return None
        self.told, self.unacked_octets, self.ack_due = self.counted_in, 0, None
        return wire.frame(wire.ACK, 0, wire.number(self.told))

    def is_drained(self):
        if self.goaway_said is None or self.streams or self.queue:
            return False
        return self.acknowledged == self.counted_out or bug("ends-a-drain-early")

    # what comes in

    def receive(self, kind, stream, payload, now):
        if wire.is_counted(kind):
            self.counted_in += 1
            self.unacked_octets += 8 + len(payload)
            if self.ack_due is None:
                self.ack_due = now + 0.025
        if wire.is_extension(kind):
            if bug("refuses-extensions"):
                raise Violation("PROTOCOL", "FRAME-007")
            return self.oddities.spend(now, "LIM-003")
        if kind not in wire.KNOWN:
            return None
        if kind in wire.FROM_AGENT | wire.FROM_NETWORK and not bug("takes-messages-of-the-wrong-side"):
            if (kind in wire.FROM_AGENT) != (self.role == "network"):
                raise Violation("PROTOCOL", "MSG-006")
        if kind == wire.OPEN:
            return self.on_open(stream, messages.decode("Open", payload))
        if kind in wire.OF_STREAM:
            return self.on_stream(kind, stream, payload)
        if kind == wire.STREAMS:
            self.may_open = max(self.may_open, self.offset(payload))
            return None
        if kind == wire.REVOCATIONS:
            return self.on_revocations(payload, now)
        return self.on_message(kind, payload, now)

    def on_revocations(self, payload, now):
        """Ten in a row are heard, and one more each ten seconds."""
        left, since = self.lists
        gained = int((now - since) // 10)
        left, since = (10, now) if left + gained >= 10 else (left + gained, since + 10 * gained)
        self.lists = max(0, left - 1), since
        if left == 0 and not bug("hears-lists-in-haste"):
            return self.oddities.spend(now, "LIM-003")  # spec: CRL-003
        return self.events.append(("Revocations", wire.REVOCATIONS, {"octets": len(payload)}))

    def offset(self, payload):
        found = int.from_bytes(payload, "big")
        if found > MAX_OFFSET and not bug("takes-any-offset"):
            raise Violation("FLOW_CONTROL", "CREDIT-004")
        return found

    def is_mine(self, number):
        return (number % 2 == 1) == (self.role == "agent")

    def on_open(self, number, fields):
        if self.is_mine(number) and not bug("takes-any-parity"):
            raise Violation("PROTOCOL", "STREAM-001")
        if number <= self.highest[False] and not bug("takes-numbers-again"):
            raise Violation("PROTOCOL", "STREAM-002")
        count, before = (number + 1) // 2, (self.highest[False] + 1) // 2
        if count > self.may_be_opened and not bug("forgets-the-grant"):
            raise Violation("STREAM_LIMIT", "STREAM-004")
        self.highest[False] = max(number, self.highest[False])
        self.over += max(0, count - before - 1)
        stream = self.streams[number] = Stream(number, False, self.limits["window"], self.window_out)
        self.order.append(stream)
        if self.goaway_said is not None:
            return self.release(stream, "REFUSED")
        self.events.append(("opened", stream, fields))
        return self.grant()

    def on_stream(self, kind, number, payload):
        mine = self.is_mine(number)
        if number > self.highest[mine]:
            if bug("takes-frames-of-idle-streams"):
                return None
            raise Violation("PROTOCOL", "STREAM-007")
        stream = self.streams.get(number)
        if kind in (wire.CREDIT, wire.BLOCKED):
            offset = self.offset(payload)
            if kind == wire.CREDIT and stream is not None:
                lowers = bug("takes-credit-back")
                stream.credit = offset if lowers else max(stream.credit, offset)
        elif kind == wire.ACCEPT:
            if not mine and not bug("takes-accept-of-the-opener"):
                raise Violation("PROTOCOL", "STREAM-013")
        elif kind == wire.DATA:
            self.on_data(stream, payload)
        elif kind == wire.FIN:
            self.on_fin(stream, int.from_bytes(payload, "big"))
        elif kind == wire.RESET:
            self.on_reset(stream, int.from_bytes(payload, "big"))
        elif stream is not None and not stream.done and not bug("ignores-stop"):
            self.reset(stream, "CANCELLED" if bug("answers-stop-with-its-own-code") else int.from_bytes(payload, "big"))
            self.settle(stream)
        return None

    def on_data(self, stream, payload):
        if stream is None or stream.ended is not None:
            if bug("takes-data-after-the-end"):
                return
            raise Violation("STREAM_CLOSED", "STREAM-009")
        if stream.received + len(payload) > stream.granted and not bug("forgets-its-credit"):
            raise Violation("FLOW_CONTROL", "CREDIT-002")
        stream.received += len(payload)
        if not stream.stopped:
            stream.inbox += payload
            self.events.append(("readable", stream))

    def on_fin(self, stream, offset):
        if stream is None or stream.ended is not None:
            if bug("takes-data-after-the-end"):
                return
            raise Violation("STREAM_CLOSED", "STREAM-009" if stream is None else "END-008")
        if offset != stream.received and not bug("believes-final-offsets"):
            raise Violation("FINAL_SIZE", "END-002")
        stream.ended = "fin"
        self.events.append(("readable", stream))
        self.settle(stream)

    def on_reset(self, stream, code):
        if stream is None or bug("ignores-reset") or stream.ended == "reset":
            return
        if stream.ended == "fin" and not stream.inbox:
            return
        stream.ended, stream.inbox = "reset", bytearray()
        stream.code = wire.CODES["CANCELLED"] if bug("forgets-codes") else code
        self.events.append(("readable", stream))
        self.settle(stream)

    def settle(self, stream):
        """A stream is over when both directions have ended and the application has let go of it."""
        held = stream.held and not (bug("grants-for-resets") and stream.ended == "reset")
        if stream.done and stream.ended is not None and not held and stream.number in self.streams:
            del self.streams[stream.number]
            if not stream.mine:
                self.over += 1
                self.grant()

    def grant(self):
        willing = self.limits["streams"]
        if self.over + willing - self.may_be_opened >= max(1, willing // 4):
            self.may_be_opened = self.over + willing
            if not bug("never-grants-again"):
                self.say(wire.STREAMS, 0, wire.number(self.may_be_opened))

    def on_message(self, kind, payload, now):
        name = {
            wire.BIND: "Bind", wire.BOUND: "Bound", wire.REJECTED: "BindRefusal", wire.UNBIND: "Unbind",
            wire.UNBOUND: "BindRefusal", wire.COMMAND: "CommandRequest", wire.COMMAND_RESULT: "CommandResult",
            wire.GOAWAY: "GoAway", wire.WITHHELD: "Withheld",
        }[kind]
        fields = messages.decode(name, payload)
        number = fields.get("id", 0)
        if kind == wire.GOAWAY:
            return self.on_goaway(fields, now)
        if kind == wire.BIND:
            return self.on_bind(number, fields, now)
        if kind == wire.WITHHELD:
            return self.on_withheld(fields, now)
        if kind == wire.COMMAND:
            if number in self.commands:
                return self.oddities.spend(now, "LIM-003")
            if len(self.commands) >= self.limits["unanswered"]:
                raise Violation("EXCESSIVE", "CMD-003")
            self.commands.add(number)
        elif kind == wire.COMMAND_RESULT:
            if number not in self.commands:
                return self.oddities.spend(now, "LIM-003")
            self.commands.discard(number)
        else:
            due = {wire.BOUND: "asked", wire.REJECTED: "asked", wire.UNBOUND: "bound", wire.UNBIND: None}[kind]
            state = self.binds.get(number)
            if state is None or due not in (None, state):
                return self.oddities.spend(now, "BIND-009")
            if kind == wire.BOUND and not self.ends_as_asked(number, fields.get("tls_end", 0)):
                # spec: BIND-018
                del self.binds[number]
                why = {} if bug("gives-up-without-a-word") else {"code": wire.CODES["UNSUPPORTED"], "text": "BIND-018"}
                self.say_message(wire.UNBIND, "Unbind", {"id": number, "cut": True, **why})  # spec: BIND-020
                refused = {"id": number, "refusal": {"code": wire.CODES["UNSUPPORTED"]}}
                return self.events.append(("BindRefusal", wire.REJECTED, refused))
            if kind == wire.BOUND:
                self.binds[number] = "bound"
            elif kind == wire.UNBIND and fields.get("code", 0) > 0x113 and bug("takes-known-reasons-only"):
                pass
            else:
                del self.binds[number]
        return self.events.append((name, kind, fields))

    def ends_as_asked(self, number, said):
        """Silence is the answer of who does not know of the field, and ends TLS of https itself."""
        url, asked = self.asked.get(number, ("", 0))
        known = asked in (0, 1) or not url.startswith("https://") or bug("takes-silence-for-consent")
        return said == asked or said == 0 and known or bug("takes-any-end-of-tls")

    def on_goaway(self, fields, now):
        last = fields.get("last", 0)
        if self.goaway_heard is not None:
            if last > self.goaway_heard and not bug("takes-raised-goaways"):
                raise Violation("PROTOCOL", "GO-002")
            self.oddities.spend(now, "LIM-003")
        else:
            self.events.append(("GoAway", wire.GOAWAY, fields))
        if not bug("opens-after-goaway"):
            self.goaway_heard = last

    def on_bind(self, number, fields, now):
        if number in self.binds and not bug("takes-bind-numbers-again"):
            raise Violation("PROTOCOL", "BIND-008")
        if sum(state == "asked" for state in self.binds.values()) >= self.limits["unanswered"]:
            raise Violation("EXCESSIVE", "BIND-007")
        if len(self.binds) >= self.limits["binds"]:
            self.oddities.spend(now, "LIM-003")
            refusal = {"code": wire.CODES["LIMIT"]}
            return self.say_message(wire.REJECTED, "BindRefusal", {"id": number, "refusal": refusal})
        url = fields.get("url", "")
        if url in self.withheld and not bug("withholds-what-is-asked-for"):
            self.withheld.discard(url)
            self.events.append(("Withheld", wire.WITHHELD, {"url": url}))
        self.binds[number] = "asked"
        return self.events.append(("Bind", wire.BIND, fields))

    def on_withheld(self, fields, now):
        url, is_over = fields.get("url", ""), fields.get("code", 0) == 0
        if url not in self.withheld and (is_over or not url or len(self.withheld) >= self.limits["binds"]):
            return None if bug("forgives-odd-hints") else self.oddities.spend(now, "LIM-003")
        (self.withheld.discard if is_over else self.withheld.add)(url)
        return self.events.append(("Withheld", wire.WITHHELD, fields))

    def acknowledge(self, count):
        if count > self.counted_out and not bug("believes-any-ack"):
            raise Violation("ACK_RANGE", "RES-002")
        while self.acknowledged < count and self.retained:
            self.retained.popleft()
            self.acknowledged += 1
            self.unacknowledged_since = None

    # another link

    def can_resume_at(self, count):
        return self.acknowledged <= count <= self.counted_out

    def resume_at(self, count):
        """The peer has processed so many: what comes after is said again, before all else."""
        self.acknowledge(count)
        if bug("forgets-hints"):
            self.withheld.clear()
        again = list(self.retained)
        if bug("repeats-from-the-wrong-place"):
            again = again[1:]
        if bug("repeats-with-changes"):
            again = [one[:-1] + bytes([one[-1] ^ 1]) if one[3] == wire.DATA else one for one in again]
        self.replay = deque(again)
        self.told, self.unacked_octets, self.ack_due, self.unacknowledged_since = self.counted_in, 0, None, None
