#!/usr/bin/env python3
"""Holds a static agent to resolving names as its documentation says: /etc/hosts, a server over UDP, and over TCP where the answer is long. try-names.py FILE

As root, in network and mount namespaces of its own: nothing outside is asked, and nothing here is changed.
"""

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

SERVER = ("127.0.0.77", 53)
EXPECTED = {"hosts.example": "127.0.0.5", "short.example": "127.0.0.10", "long.example": "127.0.0.10"}
asked = []


def answer(query, over):
    """An address; for a name that begins with long so many that UDP has no room for them."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    name, kind = ".".join(labels), struct.unpack(">H", query[at + 1 : at + 3])[0]
    asked.append((name, over))
    count = (60 if name.startswith("long") else 1) if kind == 1 else 0
    head, flags = query[12 : at + 5], b"\x81\x80"
    if count > 1 and over == "udp":
        count, flags = 0, b"\x83\x80"
    records = b"".join(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + bytes([127, 0, 0, 10 + one]) for one in range(count))
    return query[:2] + flags + struct.pack(">HHHH", 1, count, 0, 0) + head + records


def serve_udp(listener):
    while True:
        query, caller = listener.recvfrom(4096)
        listener.sendto(answer(query, "udp"), caller)


def serve_tcp(listener):
    while True:
        caller, _ = listener.accept()
        with caller:
            length = struct.unpack(">H", caller.recv(2, socket.MSG_WAITALL))[0]
            reply = answer(caller.recv(length, socket.MSG_WAITALL), "tcp")
            caller.sendall(struct.pack(">H", len(reply)) + reply)


def inside(program):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    holder = tempfile.TemporaryDirectory()
    folder = holder.name
    for file, text in (("resolv.conf", f"nameserver {SERVER[0]}\n"), ("hosts", f"{EXPECTED['hosts.example']} hosts.example\n")):
        with open(f"{folder}/{file}", "w", encoding="ascii") as written:
            written.write(text)
        subprocess.run(["mount", "--bind", f"{folder}/{file}", f"/etc/{file}"], check=True)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket()
    udp.bind(SERVER)
    tcp.bind(SERVER)
    tcp.listen()
    for work, listener in ((serve_udp, udp), (serve_tcp, tcp)):
        threading.Thread(target=work, args=(listener,), daemon=True).start()
    for name, address in EXPECTED.items():
        # Nobody listens there: which address refuses is what the name was resolved to.
        argv = [program, "tcp", "1", "--url", "tcp://:5", "--connect-url", f"{name}:9", "--connect-cas", "host", "--log", "stderr"]
        done = subprocess.run(argv, env={"ADIT_AUTHTOKEN": "adit_x_y", "HOME": folder}, capture_output=True, text=True, timeout=60)
        if f"{address}:9" not in done.stderr:
            sys.exit(f"{name} is not {address}: {done.stderr}")
    if ("long.example", "tcp") not in asked or ("hosts.example", "udp") in asked:
        sys.exit(f"not asked as expected: {asked}")
    print("names: by /etc/hosts, by a server over UDP, and over TCP where the answer is long")


if sys.argv[1:2] == ["--inside"]:
    inside(sys.argv[2])
else:
    os.execvp("unshare", ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, __file__, "--inside", os.path.abspath(sys.argv[1])])
