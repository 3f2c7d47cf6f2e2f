#!/usr/bin/env bash
# The first request on a connection decides which form of MCP a Python server speaks there, and no fallback is heard.
#
# One would guess: a client that asks `server/discover` first, as the form of 2026-07-28 wants, and gets no
#   answer it can use, may still send `initialize` as before, and the other way round: each request says by
#   itself which form it is of.
# What happens: `initialize` behind a `server/discover` that was answered is refused with -32022, by a server
#   that takes the same `initialize` as the first word of a connection. And behind `initialize` it refuses
#   `server/discover` with -32600.
# Seen with: mcp 2.3.0, PyPI.
# Why it matters to a host of agents: a client that probes with a time limit and falls back must not fall back
#   on the same connection: the late answer to the probe has already decided. It has to start the server
#   anew, or read the refusal and go on in the form that it asked for first.
# Rule: the specification of 2026-07-28 says what a server does that knows both forms, and not what becomes
#   of a connection on which both were spoken.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check mcp==2.3.0

cat >"$dir/server.py" <<'PY'
from mcp.server.mcpserver import MCPServer

server = MCPServer("finding")


@server.tool()
def twice(text: str) -> str:
    return text + text


server.run()
PY

cat >"$dir/finding.py" <<'PY'
import json
import subprocess
import sys

INITIALIZE = ("initialize", {
    "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}})
DISCOVER = ("server/discover", {"_meta": {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {}}})


def spoken(*requests):
    """What a fresh server answers to these, one after the other: "result", or the code of its error."""
    server = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    answers = []
    for number, (method, params) in enumerate(requests):
        line = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        server.stdin.write(json.dumps(line) + "\n")
        server.stdin.flush()
        while (answer := json.loads(server.stdout.readline())).get("id") != number:
            pass
        answers.append("result" if "result" in answer else answer["error"]["code"])
        if method == "initialize":
            server.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
    server.stdin.close()
    server.wait()
    return answers


for name, requests in {
        "initialize": [INITIALIZE], "discover": [DISCOVER],
        "discover, initialize": [DISCOVER, INITIALIZE],
        "initialize, discover": [INITIALIZE, DISCOVER]}.items():
    print(f"{name}: {spoken(*requests)}")
PY

expected="initialize: ['result']
discover: ['result']
discover, initialize: ['result', -32022]
initialize, discover: ['result', -32600]"

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/finding.py" "$dir/server.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
