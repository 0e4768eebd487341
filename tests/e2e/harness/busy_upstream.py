"""Upstreams that are never idle, in a process of their own: their work is not done in the thread that measures."""

import asyncio
import json
import pathlib
import sys

CHUNK = bytes(range(256)) * 64


class Busy:
    """The process. `echo` is a port that sends back what comes, `endless` one that answers a request of HTTP and never ends."""

    def __init__(self):
        from .process import Process

        self.process = Process("upstreams", [sys.executable, "-u", pathlib.Path(__file__)])
        self.echo, self.endless = json.loads(self.process.first_stdout_line())

    def close(self):
        self.process.kill()


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def endless(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nconnection: close\r\n\r\n")
    while True:
        writer.write(CHUNK)
        await writer.drain()


def guarded(serve):
    async def run(reader, writer):
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # that is how it ends
        finally:
            writer.close()

    return run


async def main():
    servers = [await asyncio.start_server(guarded(serve), "127.0.0.1", 0, backlog=256) for serve in (echo, endless)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main())
