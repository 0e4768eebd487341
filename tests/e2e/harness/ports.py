"""Free ports of the loopback."""

import socket


def free_port(host="127.0.0.1"):
    """A port that was free a moment ago. The kernel hands out others first, so that it stays free for the test."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


