"""The HTTP/2 of the edge, frame by frame: each rule of RFC 9113 and RFC 7541 that a caller can break, on a connection of its own.

A rule that may be answered in several ways lists them all. After each, the network still serves others.
"""

import dataclasses
import socket
import ssl
import struct

import pytest
from hpack import Decoder, Encoder

from harness.deployment import DOMAIN

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_LIST = range(1, 7)
PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM = range(1, 8)
CANCEL, COMPRESSION_ERROR = 8, 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HOST = f"web.{DOMAIN}"
GET = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", HOST)]
POST = [(":method", "POST"), *GET[1:]]


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def block(fields):
    return Encoder().encode(fields, huffman=False)


def headers(stream=1, fields=GET, flags=END_STREAM | END_HEADERS):
    return frame(HEADERS, flags, stream, block(fields))


def with_field(name, value):
    return headers(fields=[*GET, (name, value)])


def body(stream=1, octets=b"test", flags=END_STREAM):
    return frame(DATA, flags, stream, octets)


@dataclasses.dataclass(frozen=True)
class Connection:
    """The connection ends: GOAWAY with one of these codes, or it is closed without a word."""

    codes: tuple


@dataclasses.dataclass(frozen=True)
class Stream:
    """The stream ends: RST_STREAM with one of these codes, an answer of 4xx, or the whole connection ends."""

    codes: tuple


@dataclasses.dataclass(frozen=True)
class Answer:
    """The request is answered so."""

    status: int = 200
    stream: int = 1


@dataclasses.dataclass(frozen=True)
class Frame:
    """Such a frame comes back."""

    kind: int
    flags: int
    payload: bytes = b""


def connection(*codes):
    return Connection(codes)


def stream(*codes):
    return Stream(codes)


def inexact(*codes):
    """The h2 crate ends the connection as it must, and says PROTOCOL_ERROR where the RFC has a code that tells more."""
    return connection(*codes, PROTOCOL_ERROR)


RULES = [
    # RFC 9113 §3.4
    ("3.4 a preface that is none", b"INVALID CONNECTION PREFACE\r\n\r\n", connection(PROTOCOL_ERROR)),
    # The h2 crate does not insist on it; what comes is served as if the settings had their defaults.
    ("3.4 the first frame is not SETTINGS", PREFACE + frame(PING, payload=bytes(8)), Frame(PING, ACK, bytes(8))),
    # §4.1
    ("4.1 a frame of an unknown type is ignored", [frame(0x16, 0, 0, bytes(8)), headers()], Answer()),
    ("4.1 undefined flags are ignored", [frame(PING, 0x16, 0, b"8 octets")], Frame(PING, ACK, b"8 octets")),
    ("4.1 the reserved bit is ignored", [frame(PING, 0, 1 << 31, b"8 octets")], Frame(PING, ACK, b"8 octets")),
    # §4.2
    ("4.2 a frame of 16,384 octets", [headers(fields=POST, flags=END_HEADERS), body(octets=bytes(16_384))], Answer()),
    ("4.2 DATA that is too long", [headers(fields=POST, flags=END_HEADERS), body(octets=bytes(16_385))], connection(FRAME_SIZE_ERROR)),
    ("4.2 HEADERS that are too long", [frame(HEADERS, END_STREAM | END_HEADERS, 1, bytes(16_385))], connection(FRAME_SIZE_ERROR)),
    # §4.3
    ("4.3 a field block that is none", [frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff")], inexact(COMPRESSION_ERROR)),
    ("4.3 PRIORITY inside a field block", [headers(flags=END_STREAM), frame(PRIORITY, 0, 1, bytes(4) + b"\x00")], connection(PROTOCOL_ERROR)),
    ("4.3 HEADERS of another stream inside a field block", [headers(flags=END_STREAM), headers(3)], connection(PROTOCOL_ERROR)),
    # §5.1
    ("5.1 DATA on an idle stream", [body()], connection(PROTOCOL_ERROR, STREAM_CLOSED)),
    ("5.1 RST_STREAM on an idle stream", [frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL))], connection(PROTOCOL_ERROR)),
    ("5.1 WINDOW_UPDATE on an idle stream", [frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 100))], connection(PROTOCOL_ERROR)),
    ("5.1 CONTINUATION on an idle stream", [frame(CONTINUATION, END_HEADERS, 1, block(GET))], connection(PROTOCOL_ERROR)),
    ("5.1 DATA after END_STREAM", [headers(), body()], stream(STREAM_CLOSED, PROTOCOL_ERROR)),
    ("5.1 HEADERS after END_STREAM", [headers(), headers()], stream(STREAM_CLOSED, PROTOCOL_ERROR)),
    ("5.1 CONTINUATION after END_STREAM", [headers(), frame(CONTINUATION, END_HEADERS, 1, block(GET))], connection(PROTOCOL_ERROR, STREAM_CLOSED)),
    ("5.1 CONTINUATION on a stream that was reset", [headers(fields=POST, flags=END_HEADERS), frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)), frame(CONTINUATION, END_HEADERS, 1, block(GET))], connection(PROTOCOL_ERROR, STREAM_CLOSED)),
    # §5.1.1
    ("5.1.1 a stream with an even number", [headers(2)], connection(PROTOCOL_ERROR)),
    ("5.1.1 a stream with a smaller number", [headers(5), headers(3)], connection(PROTOCOL_ERROR, STREAM_CLOSED)),
    # §5.3.1: priorities are deprecated; a stream that depends on itself may be refused or not
    ("5.3.1 other streams than one that depends on itself", [frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, struct.pack(">IB", 3, 7) + block(GET))], Answer()),
    # §5.5
    ("5.5 an extension inside a field block", [headers(flags=END_STREAM), frame(0x16, 0, 0, bytes(8))], connection(PROTOCOL_ERROR)),
    # §6.1
    ("6.1 DATA on stream 0", [body(0)], connection(PROTOCOL_ERROR)),
    ("6.1 padding that is longer than DATA", [headers(fields=POST, flags=END_HEADERS), frame(DATA, END_STREAM | PADDED, 1, b"\x06test")], connection(PROTOCOL_ERROR)),
    ("6.1 DATA with padding", [headers(fields=POST, flags=END_HEADERS), frame(DATA, END_STREAM | PADDED, 1, b"\x02test\0\0")], Answer()),
    # §6.2
    ("6.2 HEADERS on stream 0", [headers(0)], connection(PROTOCOL_ERROR)),
    ("6.2 padding that is longer than HEADERS", [frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, bytes([len(block(GET)) + 2]) + block(GET))], connection(PROTOCOL_ERROR)),
    ("6.2 HEADERS with padding", [frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\x03" + block(GET) + bytes(3))], Answer()),
    ("6.2 HEADERS with a priority", [frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, 1, struct.pack(">IB", 0, 255) + block(GET))], Answer()),
    # §6.3
    ("6.3 PRIORITY on stream 0", [frame(PRIORITY, 0, 0, bytes(5))], connection(PROTOCOL_ERROR)),
    ("6.3 PRIORITY that is too short", [frame(PRIORITY, 0, 1, bytes(4))], stream(FRAME_SIZE_ERROR, PROTOCOL_ERROR)),
    ("6.3 PRIORITY in any state", [frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 255)), headers()], Answer()),
    # §6.4
    ("6.4 RST_STREAM on stream 0", [frame(RST_STREAM, 0, 0, struct.pack(">I", CANCEL))], connection(PROTOCOL_ERROR)),
    ("6.4 RST_STREAM that is too short", [headers(fields=POST, flags=END_HEADERS), frame(RST_STREAM, 0, 1, bytes(3))], inexact(FRAME_SIZE_ERROR)),
    # §6.5
    ("6.5 SETTINGS that acknowledge and say something", [frame(SETTINGS, ACK, 0, b"\0")], inexact(FRAME_SIZE_ERROR)),
    ("6.5 SETTINGS of a stream", [frame(SETTINGS, 0, 1)], connection(PROTOCOL_ERROR)),
    ("6.5 SETTINGS that are cut", [frame(SETTINGS, 0, 0, bytes(3))], inexact(FRAME_SIZE_ERROR)),
    ("6.5.2 ENABLE_PUSH that is neither 0 nor 1", [settings((ENABLE_PUSH, 2))], connection(PROTOCOL_ERROR)),
    ("6.5.2 INITIAL_WINDOW_SIZE above 2^31-1", [settings((INITIAL_WINDOW, 1 << 31))], inexact(FLOW_CONTROL_ERROR)),
    ("6.5.2 MAX_FRAME_SIZE below 16,384", [settings((MAX_FRAME, 16_383))], connection(PROTOCOL_ERROR)),
    ("6.5.2 MAX_FRAME_SIZE above 2^24-1", [settings((MAX_FRAME, 1 << 24))], connection(PROTOCOL_ERROR)),
    ("6.5.2 a setting that is not known is ignored", [settings((0xFF, 1)), headers()], Answer()),
    ("6.5.3 settings are acknowledged", [settings((MAX_STREAMS, 7))], Frame(SETTINGS, ACK)),
    # §6.6
    ("6.6 a caller promises nothing", [frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + block(GET))], connection(PROTOCOL_ERROR)),
    # §6.7
    ("6.7 PING is answered with what it says", [frame(PING, 0, 0, b"answerme")], Frame(PING, ACK, b"answerme")),
    ("6.7 an answer is not answered", [frame(PING, ACK, 0, b"invalid!"), frame(PING, 0, 0, b"answerme")], Frame(PING, ACK, b"answerme")),
    ("6.7 PING of a stream", [frame(PING, 0, 1, bytes(8))], connection(PROTOCOL_ERROR)),
    ("6.7 PING that is too short", [frame(PING, 0, 0, bytes(6))], inexact(FRAME_SIZE_ERROR)),
    # §6.8
    ("6.8 GOAWAY of a stream", [frame(GOAWAY, 0, 1, bytes(8))], connection(PROTOCOL_ERROR)),
    # §6.9
    ("6.9 WINDOW_UPDATE of 0 for the connection", [frame(WINDOW_UPDATE, 0, 0, bytes(4))], connection(PROTOCOL_ERROR)),
    ("6.9 WINDOW_UPDATE of 0 for a stream", [headers(fields=POST, flags=END_HEADERS), frame(WINDOW_UPDATE, 0, 1, bytes(4))], stream(PROTOCOL_ERROR)),
    ("6.9 WINDOW_UPDATE that is too short", [frame(WINDOW_UPDATE, 0, 0, bytes(3))], inexact(FRAME_SIZE_ERROR)),
    ("6.9.1 a window of the connection above 2^31-1", [frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1))] * 2, connection(FLOW_CONTROL_ERROR)),
    ("6.9.1 a window of a stream above 2^31-1", [headers(fields=POST, flags=END_HEADERS), *[frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", (1 << 31) - 1))] * 2], stream(FLOW_CONTROL_ERROR)),
    ("6.9.2 a window of one octet", [settings((INITIAL_WINDOW, 1)), headers()], Frame(DATA, 0, b"h")),
    ("6.9.2 settings that take a window above 2^31-1", [settings((INITIAL_WINDOW, 65_535)), headers(fields=POST, flags=END_HEADERS), frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", (1 << 31) - 1 - 65_535)), settings((INITIAL_WINDOW, 65_536))], connection(FLOW_CONTROL_ERROR)),
    # §6.10
    ("6.10 a field block in three frames", [frame(HEADERS, END_STREAM, 1, block(GET)[:4]), frame(CONTINUATION, 0, 1, block(GET)[4:9]), frame(CONTINUATION, END_HEADERS, 1, block(GET)[9:])], Answer()),
    ("6.10 DATA inside a field block", [headers(fields=POST, flags=0), body()], connection(PROTOCOL_ERROR)),
    ("6.10 CONTINUATION on stream 0", [headers(flags=END_STREAM), frame(CONTINUATION, END_HEADERS, 0)], connection(PROTOCOL_ERROR)),
    ("6.10 CONTINUATION after END_HEADERS", [headers(fields=POST, flags=END_HEADERS), frame(CONTINUATION, END_HEADERS, 1, block([("x-test", "ok")]))], connection(PROTOCOL_ERROR)),
    # §8.1
    ("8.1 trailers that do not end the stream", [headers(fields=POST, flags=END_HEADERS), frame(HEADERS, END_HEADERS, 1, block([("x-test", "ok")]))], stream(PROTOCOL_ERROR)),
    ("8.1 trailers that end the stream", [headers(fields=POST, flags=END_HEADERS), body(flags=0), frame(HEADERS, END_STREAM | END_HEADERS, 1, block([("x-test", "ok")]))], Answer()),
    # The h2 crate drops it: no upstream gets it.
    ("8.1 trailers with a pseudo-field", [headers(fields=POST, flags=END_HEADERS), body(flags=0), frame(HEADERS, END_STREAM | END_HEADERS, 1, block([(":method", "GET")]))], Answer()),
    ("8.1.1 a body that is longer than it says", [headers(fields=[*POST, ("content-length", "1")], flags=END_HEADERS), body()], stream(PROTOCOL_ERROR)),
    ("8.1.1 a body in two frames that is longer than it says", [headers(fields=[*POST, ("content-length", "1")], flags=END_HEADERS), body(flags=0), body()], stream(PROTOCOL_ERROR)),
    ("8.1.1 a body that is shorter than it says", [headers(fields=[*POST, ("content-length", "9")], flags=END_HEADERS), body()], stream(PROTOCOL_ERROR)),
    # §8.2
    ("8.2.1 a name in upper case", [with_field("X-TEST", "ok")], stream(PROTOCOL_ERROR)),
    ("8.2.1 a line feed in a value", [with_field("x-test", "a\nb: c")], stream(PROTOCOL_ERROR)),
    ("8.2.1 a NUL in a value", [with_field("x-test", "a\0b")], stream(PROTOCOL_ERROR)),
    ("8.2.1 a space in a name", [with_field("x test", "ok")], stream(PROTOCOL_ERROR)),
    ("8.2.1 a colon in a name", [with_field("x:test", "ok")], stream(PROTOCOL_ERROR)),
    ("8.2.2 Connection", [with_field("connection", "keep-alive")], stream(PROTOCOL_ERROR)),
    ("8.2.2 Transfer-Encoding", [with_field("transfer-encoding", "chunked")], stream(PROTOCOL_ERROR)),
    ("8.2.2 TE that is not trailers", [with_field("te", "trailers, deflate")], stream(PROTOCOL_ERROR)),
    # §8.3
    ("8.3 a pseudo-field that is not known", [headers(fields=[*GET, (":test", "ok")])], stream(PROTOCOL_ERROR)),
    ("8.3 a pseudo-field of answers", [headers(fields=[*GET, (":status", "200")])], stream(PROTOCOL_ERROR)),
    ("8.3 a pseudo-field after others", [headers(fields=[("x-test", "ok"), *GET])], stream(PROTOCOL_ERROR)),
    ("8.3.1 an empty path", [headers(fields=[(name, "" if name == ":path" else value) for name, value in GET])], stream(PROTOCOL_ERROR)),
    *[(f"8.3.1 without {missing}", [headers(fields=[pair for pair in GET if pair[0] != missing])], stream(PROTOCOL_ERROR)) for missing in (":method", ":scheme", ":path", ":authority")],
    *[(f"8.3.1 {twice} twice", [headers(fields=[pair for pair in GET for _ in range(1 + (pair[0] == twice))])], stream(PROTOCOL_ERROR)) for twice in (":method", ":scheme", ":path", ":authority")],
    # RFC 7541
    ("7541 2.3.3 an index beyond both tables", [frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xc6" + block(GET))], inexact(COMPRESSION_ERROR)),
    ("7541 4.2 a new size of the table after a field", [frame(HEADERS, END_STREAM | END_HEADERS, 1, block(GET) + b"\x3f\x01")], inexact(COMPRESSION_ERROR)),
    ("7541 5.2 padding of Huffman that is too long", [frame(HEADERS, END_STREAM | END_HEADERS, 1, block(GET) + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")], inexact(COMPRESSION_ERROR)),
    ("7541 5.2 padding of Huffman with zeros", [frame(HEADERS, END_STREAM | END_HEADERS, 1, block(GET) + b"\x00\x85\xf2\xb2\x4a\x87\xff\x83\x49\x50\x90")], inexact(COMPRESSION_ERROR)),
    ("7541 5.2 EOS inside Huffman", [frame(HEADERS, END_STREAM | END_HEADERS, 1, block(GET) + b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")], inexact(COMPRESSION_ERROR)),
    ("7541 6.1 index 0", [frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x80" + block(GET))], inexact(COMPRESSION_ERROR)),
    ("7541 6.3 a table that is larger than allowed", [frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x3f\xe2\xff\x03" + block(GET))], inexact(COMPRESSION_ERROR)),
]


class Caller:
    """One connection, that says only what it is told to and notes all that it hears."""

    def __init__(self, port, ca):
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=HOST)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.decoder, self.octets = Decoder(), b""

    def frames(self):
        """What comes, until the network closes."""
        while True:
            while len(self.octets) >= 9:
                length = int.from_bytes(self.octets[:3], "big")
                if len(self.octets) < 9 + length:
                    break
                kind, flags, stream = struct.unpack(">BBI", self.octets[3:9])
                payload, self.octets = self.octets[9 : 9 + length], self.octets[9 + length :]
                yield kind, flags, stream & 0x7FFFFFFF, payload
            try:
                more = self.socket.recv(65_536)
            except (ConnectionError, ssl.SSLError):
                more = b""
            if not more:
                return
            self.octets += more

    def judge(self, expected):
        """Reads until what happened is clear; returns it in words where it is not what was expected."""
        heard = []
        for kind, flags, number, payload in self.frames():
            heard.append((kind, flags, number, payload[:32]))
            if kind == GOAWAY:
                code = int.from_bytes(payload[4:8], "big")
                return None if isinstance(expected, (Connection, Stream)) and code in expected.codes else f"GOAWAY {code}"
            if kind == RST_STREAM:
                code = int.from_bytes(payload, "big")
                return None if isinstance(expected, Stream) and code in expected.codes else f"RST_STREAM {code}"
            if kind == HEADERS:
                status = int(dict(self.decoder.decode(payload))[":status"])
                if isinstance(expected, Answer):
                    return None if (status, number) == (expected.status, expected.stream) else f"{status} on {number}"
                if isinstance(expected, Stream):
                    return None if 400 <= status < 500 else f"{status} on {number}"
            if isinstance(expected, Frame) and (kind, flags, payload) == (expected.kind, expected.flags, expected.payload):
                return None
        return None if isinstance(expected, (Connection, Stream)) else f"closed after {heard}"


@pytest.mark.parametrize("said, expected", [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_a_rule_of_http2(world, said, expected):
    caller = Caller(world.network.ports["https"], world.network.ca)
    with caller.socket:
        if isinstance(said, bytes):
            caller.socket.sendall(said)
        else:
            caller.socket.sendall(PREFACE + settings() + b"".join(said))
        wrong = caller.judge(expected)
    assert wrong is None
    other = Caller(world.network.ports["https"], world.network.ca)
    with other.socket:
        other.socket.sendall(PREFACE + settings() + headers())
        assert other.judge(Answer()) is None
