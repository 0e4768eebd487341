"""`make run`, as a person or a program runs it."""

import json
import os
import pathlib
import signal
import subprocess
import urllib.request

from harness.deployment import ROOT
from harness.http_upstream import HttpUpstream
from harness.ports import free_port

PORTS = {f"{name}_PORT": "0" for name in ("HTTP", "HTTPS", "TCP", "INGRESS", "ADMIN")}


def make_run(**settings):
    """Starts `make run` in a process group of its own, as a terminal does."""
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # a make inside make says which folder it enters
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    environment |= {**PORTS, **settings}
    # Whoever runs the tests in the background ignores SIGINT, and what it starts would too.
    command = ["env", "--default-signal=INT", "make", "run"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def interrupt(child):
    """Ctrl-C; returns what else was said on standard output."""
    os.killpg(child.pid, signal.SIGINT)
    rest, _ = child.communicate(timeout=30)
    left = subprocess.run(["pgrep", "-s", str(child.pid)], capture_output=True, text=True).stdout
    assert left == "", "a program was left running"
    return rest


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_make_run_prints_one_json_line_and_serves_until_it_is_interrupted():
    child = make_run(JSON="1")
    ready = json.loads(child.stdout.readline())
    assert sorted(ready) == ["admin_url", "ca", "connect_url", "public_url", "tcp_addr"]
    assert "Hello from behind the tunnel" in fetch(ready["public_url"])
    assert "Hello from behind the tunnel" in fetch(f"http://{ready['tcp_addr']}")
    assert fetch(f"{ready['admin_url']}/healthz") is not None
    assert pathlib.Path(ready["ca"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert interrupt(child) == ""
    assert not pathlib.Path(ready["ca"]).exists()


def test_make_run_tunnels_a_service_of_ones_own():
    upstream = HttpUpstream(name="own")
    child = make_run(JSON="1", UPSTREAM=upstream.url)
    ready = json.loads(child.stdout.readline())
    assert fetch(f"{ready['public_url']}/hello") == "hello from own\n"
    interrupt(child)
    upstream.close()


def test_make_run_says_which_port_is_taken():
    upstream = HttpUpstream()
    child = make_run(HTTP_PORT=str(upstream.port), ADMIN_PORT=str(free_port()))
    _, said = child.communicate(timeout=30)
    assert child.returncode != 0
    assert f"port {upstream.port} is taken; choose another with HTTP_PORT=" in said
    upstream.close()
