"""Control messages in the encoding of protocol buffers. See messages.md and adit.proto."""

from .faults import bug
from .wire import FRAME_DEFAULT, Violation

U32, U64, BOOL, ENUM, TEXT, BYTES, LIST = "u32", "u64", "bool", "enum", "text", "bytes", "list"

# name: number, kind, and the most octets or numbers; a kind in capitals is a message of its own
SCHEMA = {
    "Hello": {
        "versions": (1, LIST, 16), "agent": (2, BYTES, 16), "incarnation": (3, U64, None), "token": (4, BYTES, 512),
        "software": (5, TEXT, 256), "metadata": (6, TEXT, 4_096), "heartbeat": (7, "Heartbeat", None),
        "limits": (8, "Limits", None), "resume": (9, "Resume", None), "resume_window_ms": (10, U64, None),
        "lane": (11, U32, None),
    },
    "Resume": {"session": (1, BYTES, 16), "secret": (2, BYTES, 64), "received": (3, U64, None), "attempt": (4, U64, None)},
    "Welcome": {
        "version": (1, U32, None), "session": (2, BYTES, 16), "heartbeat": (3, "Heartbeat", None),
        "limits": (4, "Limits", None), "region": (5, TEXT, 64), "node": (6, TEXT, 253),
        "resume": (7, "ResumeOffer", None), "resumed": (8, U64, None),
    },
    "ResumeOffer": {"secret": (1, BYTES, 64), "window_ms": (2, U64, None)},
    "Heartbeat": {"interval_ms": (1, U64, None), "tolerance_ms": (2, U64, None)},
    "Limits": {"frame": (1, U32, None), "window": (2, U32, None), "streams": (3, U32, None)},
    "Refusal": {"code": (1, U32, None), "retry_after_ms": (2, U64, None), "text": (3, TEXT, 1_024)},
    "Close": {"code": (1, U32, None), "text": (2, TEXT, 1_024)},
    "GoAway": {
        "last": (1, U32, None), "code": (2, U32, None), "retry_after_ms": (3, U64, None), "text": (4, TEXT, 1_024),
    },
    "Open": {
        "bind": (1, U32, None), "caller": (2, BYTES, 18), "local": (3, BYTES, 18), "tls": (4, "TlsInfo", None),
        "endpoint": (5, TEXT, 512),
    },
    "TlsInfo": {name: (place, TEXT, 255) for place, name in enumerate(["sni", "alpn", "version", "cipher"], 1)},
    "Bind": {
        "id": (1, U32, None), "url": (2, TEXT, 512), "pooling": (3, BOOL, None), "upstream_protocol": (4, ENUM, None),
        "name": (5, TEXT, 253), "description": (6, TEXT, 1_024), "metadata": (7, TEXT, 4_096), "tls_end": (8, ENUM, 3),
    },
    "Bound": {"id": (1, U32, None), "url": (2, TEXT, 512), "tls_end": (3, ENUM, 3)},
    "Unbind": {"id": (1, U32, None), "cut": (2, BOOL, None), "code": (3, U32, None), "text": (4, TEXT, 1_024)},
    "Withheld": {"url": (1, TEXT, 512), "code": (2, U32, None), "text": (3, TEXT, 1_024), "tls_end": (4, ENUM, 3)},
    "BindRefusal": {"id": (1, U32, None), "refusal": (2, "Refusal", None)},
    "CommandRequest": {"id": (1, U32, None), "command": (2, U32, None), "text": (3, TEXT, 1_024), "document": (4, TEXT, 6_144)},
    "CommandResult": {"id": (1, U32, None), "code": (2, U32, None), "text": (3, TEXT, 1_024)},
}


def malformed(clause="MSG-001"):
    return Violation("MESSAGE", clause)


def encode(name, fields):
    out = bytearray()
    for field, (place, kind, _) in SCHEMA[name].items():
        value = fields.get(field)
        if value is None:
            continue
        if kind in (U32, U64, BOOL, ENUM):
            out += varint(place << 3) + varint(int(value))
            continue
        if kind == LIST:
            value = b"".join(varint(one) for one in value)
        elif kind == TEXT:
            value = value.encode()
        elif kind != BYTES:
            value = encode(kind, value)
        out += varint(place << 3 | 2) + varint(len(value)) + value
    return bytes(out)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(name, octets):
    """Returns the fields that are there; defaults are for the reader."""
    places = {place: (field, kind, most) for field, (place, kind, most) in SCHEMA[name].items()}
    fields, reader = {}, Reader(octets)
    while reader.rest:
        tag = reader.varint()
        place, wire = tag >> 3, tag & 7
        if not 1 <= place < 2**29:
            raise malformed()
        if place not in places:
            if bug("refuses-unknown-fields"):
                raise malformed()
            reader.skip(wire)
            continue
        field, kind, most = places[place]
        if kind == LIST:
            numbers = fields.setdefault(field, [])
            numbers += [reader.varint()] if wire == 0 else packed(reader, wire)
            if len(numbers) > most:
                raise malformed("MSG-004")
            if any(one >= 2**32 for one in numbers):
                raise malformed("MSG-003")
        else:
            fields[field] = value(reader, wire, kind, most)
    check(name, fields)
    return fields


def packed(reader, wire):
    if wire != 2:
        raise malformed()
    inner, numbers = Reader(reader.chunk()), []
    while inner.rest:
        numbers.append(inner.varint())
    return numbers


def value(reader, wire, kind, most):
    if kind in (U32, U64, BOOL, ENUM):
        if wire != 0:
            raise malformed()
        found = reader.varint()
        if kind == U32 and found >= 2**32 or kind == ENUM and found > (most or 1):
            raise malformed("MSG-003")
        return bool(found) if kind == BOOL else found
    if wire != 2:
        raise malformed()
    content = reader.chunk()
    if kind not in (TEXT, BYTES):
        return decode(kind, content)
    if len(content) > most and not bug("takes-long-texts") and not (most == 6_144 and bug("takes-long-documents")):
        raise malformed("MSG-004")
    if kind == BYTES:
        return content
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise malformed() from None


def check(name, fields):
    if name == "Hello" and len(fields.get("agent", b"")) != 16:
        raise malformed("MSG-003")
    if name == "Hello" and fields.get("lane", 0) > 7 and not bug("takes-any-lane"):
        raise malformed("AUTH-008")
    if name in ("Welcome", "Resume") and len(fields.get("session", b"")) != 16:
        raise malformed("MSG-003")
    for field in ("caller", "local"):
        if name == "Open" and len(fields.get(field, b"")) not in (0, 6, 18):
            raise malformed("MSG-003")
    if name == "ResumeOffer" and len(fields.get("secret", b"")) < 16:
        raise malformed("RES-006")
    if name == "Limits" and not bug("takes-any-limits"):
        if not 8_192 <= fields.get("frame", FRAME_DEFAULT) <= 65_536 or fields.get("window", 0) > 2**30:
            raise malformed("MSG-005")


class Reader:
    def __init__(self, octets):
        self.rest = octets

    def take(self, count):
        if count > len(self.rest):
            raise malformed()
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def varint(self):
        found = 0
        for place in range(10):
            octet = self.take(1)[0]
            found |= (octet & 0x7F) << (7 * place)
            if octet < 0x80:
                if found >= 2**64:
                    raise malformed()
                return found
        raise malformed()

    def chunk(self):
        return self.take(self.varint())

    def skip(self, wire):
        if wire == 0:
            self.varint()
        elif wire == 1:
            self.take(8)
        elif wire == 2:
            self.chunk()
        elif wire == 5:
            self.take(4)
        else:
            raise malformed()
