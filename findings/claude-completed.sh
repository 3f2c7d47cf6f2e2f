#!/usr/bin/env bash
# Claude Code calls one message completed after the answer to it and another before, and answers both with one.
#
# One would guess: each message that is written to its input is answered by one `result`, and `completed`, which
#   names the message, comes after that, when there is nothing left to lose of it.
# What happens: a message that begins a turn is `completed` after the `result`. One that comes while a tool runs is
#   taken up in the same turn beside it, is `completed` before the `result`, and gets no other one: there
#   is one `result` for both. That names both messages in `user_message_uuids`.
# Seen with: Claude Code 2.1.332 (in claude-agent-sdk 0.2.189, PyPI), `--input-format stream-json`.
# Why it matters to a host of agents: who takes a message off its list at `completed` forgets one whose answer is
#   not there yet, and loses it if the program dies in between; who counts a result for each message waits for ever.
#   Keep a message until a `result` names it.
# Rule: none that we know of. The events are of the program's own output, and the order is nowhere written down.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --no-deps --disable-pip-version-check claude-agent-sdk==0.2.189

cat >"$dir/finding.py" <<'PY'
import http.server
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import threading
import uuid

PACKAGE = importlib.util.find_spec("claude_agent_sdk").submodule_search_locations[0]
CLAUDE = pathlib.Path(PACKAGE, "_bundled/claude")
HOME = pathlib.Path(sys.argv[1])
WAITS = {"command": "while [ ! -e go ]; do sleep 0.1; done", "description": "wait"}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if self.server.asked == 1:
            block = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(WAITS)}
            reason = "tool_use"
        else:
            block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": "to both"}
            reason = "end_turn"
        self.event("message_start", message={
            "id": f"m{self.server.asked}", "type": "message", "role": "assistant", "model": "m", "content": [],
            "stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}})
        self.event("content_block_start", index=0, content_block=block)
        self.event("content_block_delta", index=0, delta=delta)
        self.event("content_block_stop", index=0)
        self.event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 1})
        self.event("message_stop")

    def do_GET(self):
        self.send_error(404)

    do_HEAD = do_GET

    def event(self, kind, **more):
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.asked = 0
threading.Thread(target=server.serve_forever, daemon=True).start()

environment = {"PATH": os.environ["PATH"], "HOME": str(HOME), "CLAUDE_CONFIG_DIR": str(HOME / "kept"),
               "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}", "ANTHROPIC_API_KEY": "x",
               "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
line = [CLAUDE, "-p", "--verbose", "--input-format", "stream-json", "--output-format", "stream-json",
        "--model", "m", "--allowedTools", "Bash", "--setting-sources", "", "--strict-mcp-config"]
process = subprocess.Popen(line, cwd=HOME, env=environment, text=True, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
ids = {str(uuid.uuid4()): words for words in ("first", "second")}


def say(words):
    message = {"role": "user", "content": words}
    own = next(it for it in ids if ids[it] == words)
    process.stdin.write(json.dumps({"type": "user", "uuid": own, "message": message}) + "\n")
    process.stdin.flush()


say("first")
for line in process.stdout:
    try:
        event = json.loads(line)
    except ValueError:
        continue
    kind, own = event["type"], ids.get(event.get("command_uuid"))
    if kind == "command_lifecycle":
        print(f"{own}: {event['state']}")
        if (own, event["state"]) == ("second", "queued"):
            (HOME / "go").touch()  # the tool ends
        if (own, event["state"]) == ("first", "completed"):
            process.stdin.close()
    elif kind == "assistant" and server.asked == 1:
        print("a tool runs")
        say("second")
    elif kind == "result":
        print("result:", event["result"], [ids[it] for it in event["user_message_uuids"]])
process.wait()
PY

expected="first: queued
first: started
a tool runs
second: queued
second: started
second: completed
result: to both ['first', 'second']
first: completed"

mkdir "$dir/home"
seen=$(timeout 60 "$dir/venv/bin/python" "$dir/finding.py" "$dir/home")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
