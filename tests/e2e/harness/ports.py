"""Free ports of the loopback."""

import errno
import socket


def free_port(host=None):
    """A port that was free a moment ago, of IPv4 and IPv6 unless one is named. The kernel hands out others first, so that it stays free for the test."""
    while True:
        port = _bind(host or "127.0.0.1", 0)
        if host or not socket.has_ipv6 or _bind("::1", port):
            return port


def _bind(host, port):
    """Binds a port and gives it back; returns it, or nothing when somebody has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            raise
        return sock.getsockname()[1]
