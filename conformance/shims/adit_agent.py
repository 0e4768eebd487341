"""A shim for adit-conformance around the program `adit`, with an upstream that sends back what it receives.

    adit-conformance --role agent --own-application --shim 'python3 conformance/shims/adit_agent.py target/release/adit'

The environment and the lines are described in ../README.md. The program takes the place of this process, so that who ends
the shim ends it; what answers the tester is a child.
"""

import json
import os
import shutil
import socket
import sys
import tempfile
import threading


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "adit"
    if json.loads(os.environ["ADIT_LIMITS"]):
        return say({"not_implemented": "limits of the protocol: the program has its own"})
    upstream = socket.create_server(("127.0.0.1", 0))
    folder = tempfile.mkdtemp(prefix="adit-agent-")
    config = os.path.join(folder, "adit.yml")
    with open(os.open(config, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        json.dump(configuration(upstream.getsockname()[1]), file)  # which is YAML
    if os.fork() == 0:
        return serve(upstream, folder)
    os.environ["XDG_STATE_HOME"] = folder  # its lasting name is no other agent's
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.execvp(program, [program, "start", "--all", "--config", config])


def configuration(port):
    agent = {
        "connect_url": os.environ["ADIT_ADDRESS"],
        "server_name": os.environ["ADIT_SERVER_NAME"],
        "connect_cas": os.environ["ADIT_CA"],
        "authtoken": os.environ["ADIT_TOKEN"],
        "log": "stderr",
        "log_level": "debug",
    }
    endpoint = {"name": "echo", "url": "tcp://:1", "upstream": {"url": f"tcp://127.0.0.1:{port}"}}
    return {"version": 1, "agent": agent, "endpoints": [endpoint]}


def serve(upstream, folder):
    """Is the upstream, and answers the tester until it has no more to ask."""
    threading.Thread(target=accept, args=(upstream,), daemon=True).start()
    say({"ready": {}})
    for line in sys.stdin:
        say({"not_implemented": f"the act {json.dumps(json.loads(line).get('act'))}"})
    shutil.rmtree(folder, ignore_errors=True)


def accept(upstream):
    while True:
        caller, _ = upstream.accept()
        threading.Thread(target=echo, args=(caller,), daemon=True).start()


def echo(caller):
    with caller:
        try:
            while octets := caller.recv(65_536):
                caller.sendall(octets)
        except OSError:
            pass  # a reset: nobody is left to tell


def say(word):
    print(json.dumps(word), flush=True)


if __name__ == "__main__":
    main()
