"""Frames: eight octets of header, and a payload. See frames.md."""

from .faults import bug

HELLO, WELCOME, REFUSE, PING, PONG, ACK, CLOSE = 0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x07
OPEN, DATA, FIN, RESET, STOP, CREDIT, BLOCKED, ACCEPT = range(0x10, 0x18)
BIND, BOUND, REJECTED, UNBIND, UNBOUND, COMMAND, COMMAND_RESULT, GOAWAY, STREAMS, WITHHELD = range(0x20, 0x2A)
REVOCATIONS = 0x2A

KNOWN = {HELLO, WELCOME, REFUSE, PING, PONG, ACK, CLOSE, *range(OPEN, ACCEPT + 1), *range(BIND, WITHHELD + 1), REVOCATIONS}
LENGTHS = {PING: 8, PONG: 8, ACK: 8, FIN: 8, RESET: 4, STOP: 4, CREDIT: 8, BLOCKED: 8, ACCEPT: 0, STREAMS: 8}
OF_STREAM = set(range(OPEN, ACCEPT + 1))
FROM_AGENT = {HELLO, BIND, UNBIND, COMMAND_RESULT, WITHHELD}
FROM_NETWORK = {WELCOME, REFUSE, BOUND, REJECTED, UNBOUND, COMMAND, REVOCATIONS}

CODES = {
    "NO_ERROR": 0x000, "PROTOCOL": 0x001, "FRAME_SIZE": 0x002, "MESSAGE": 0x003, "FLOW_CONTROL": 0x004,
    "STREAM_LIMIT": 0x005, "STREAM_CLOSED": 0x006, "FINAL_SIZE": 0x007, "ACK_RANGE": 0x008, "EXCESSIVE": 0x009,
    "HANDSHAKE_TIMEOUT": 0x00A, "INTERNAL": 0x00B, "DEAD": 0x00C,
    "VERSION": 0x100, "CREDENTIALS": 0x101, "LIMIT": 0x103, "FORBIDDEN": 0x104, "IN_USE": 0x105, "BAD_NAME": 0x106,
    "REPLACED": 0x107, "SHUTDOWN": 0x108,
    "RESUME_UNKNOWN": 0x109, "RESUME_EXPIRED": 0x10A, "UNKNOWN": 0x10B, "UNSUPPORTED": 0x10C, "UNBOUND": 0x10D,
    "REFUSED": 0x200, "CANCELLED": 0x201, "SESSION_LOST": 0x208, "DRAIN_TIMEOUT": 0x209,
}
MAX_OFFSET = 2**62 - 1
FRAME_DEFAULT = 16_376


class Violation(Exception):
    """The peer broke a clause: the session ends."""

    def __init__(self, code, clause):
        super().__init__(f"{clause}: {code}")
        self.code, self.clause = code, clause


def frame(kind, stream=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind]) + stream.to_bytes(4, "big") + payload


def number(value):
    return value.to_bytes(8, "big")


def code(value):
    return (CODES[value] if isinstance(value, str) else value).to_bytes(4, "big")


def is_extension(kind):
    return kind >= 0x80


def is_counted(kind):
    return 0x10 <= kind < 0xC0


def check_header(length, kind, stream, limit):
    """Refuses what the header alone forbids, in the order of FRAME-011."""
    if kind not in KNOWN and not is_extension(kind) and not bug("takes-unknown-types"):
        raise Violation("PROTOCOL", "FRAME-007")
    if length > limit and not bug("takes-long-frames"):
        raise Violation("FRAME_SIZE", "FRAME-003")
    if kind in LENGTHS and length != LENGTHS[kind] and not bug("takes-wrong-lengths"):
        raise Violation("FRAME_SIZE", "FRAME-004")
    if kind in KNOWN and (kind in OF_STREAM) != (stream != 0) and not bug("takes-wrong-streams"):
        raise Violation("PROTOCOL", "FRAME-008")
    if kind == DATA and length == 0 and not bug("takes-empty-data"):
        raise Violation("PROTOCOL", "STREAM-012")
    if kind == OPEN and length > 4_096:
        raise Violation("MESSAGE", "STREAM-006")
