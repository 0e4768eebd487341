"""The two ends of a measurement: `serve PORT` and `bulk|ask HOST PORT …`, each run inside a namespace."""

import socket
import statistics
import sys
import threading
import time

CHUNK = 1 << 20


def serve(port):
    """Answers each connection as its first octet says: D for data until the peer goes, P for one octet."""
    listener = socket.create_server(("0.0.0.0", port), backlog=256)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection):
    data = bytes(CHUNK)
    with connection:
        try:
            wish = connection.recv(1)
            if wish == b"P":
                connection.sendall(b"p")
            while wish == b"D":
                connection.sendall(data)
        except OSError:
            pass  # the peer has gone: the measurement is over


def bulk(host, port, streams, ramp, seconds):
    """Reads from all streams; prints the octets a second of those seconds that come after the ramp."""
    counts = [0] * streams
    ended = []

    def read(index):
        buffer = bytearray(CHUNK)
        with socket.create_connection((host, port), timeout=30) as connection:
            connection.sendall(b"D")
            while not ended:
                count = connection.recv_into(buffer)
                if count == 0:
                    raise SystemExit("the stream ended")
                counts[index] += count

    threads = [threading.Thread(target=read, args=(index,), daemon=True) for index in range(streams)]
    for thread in threads:
        thread.start()
    time.sleep(ramp)
    before, start = sum(counts), time.monotonic()
    time.sleep(seconds)
    read_octets, took = sum(counts) - before, time.monotonic() - start
    ended.append(True)
    print(read_octets / took)


def ask(host, port, times):
    """Prints the median of the seconds that a new connection, a request and its answer take."""
    took = []
    for _ in range(times):
        start = time.monotonic()
        with socket.create_connection((host, port), timeout=30) as connection:
            connection.sendall(b"P")
            if connection.recv(1) != b"p":
                raise SystemExit("no answer")
        took.append(time.monotonic() - start)
    print(statistics.median(took))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "serve":
        serve(int(arguments[0]))
    elif command == "bulk":
        bulk(arguments[0], int(arguments[1]), int(arguments[2]), float(arguments[3]), float(arguments[4]))
    elif command == "ask":
        ask(arguments[0], int(arguments[1]), int(arguments[2]))
