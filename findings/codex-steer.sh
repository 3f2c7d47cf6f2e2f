#!/usr/bin/env bash
# Words that are added to a turn of Codex while its model answers throw that answer away.
#
# One would guess: `turn/steer` adds to the turn that is under way, so the answer that the model is at is
#   finished first and the words come after it, as they do while a tool runs; `turn/start` begins a
#   second turn, or is refused because one is under way.
# What happens: both do the same. The stream of the model is broken off in the middle and a new request is sent,
#   with both messages and without the half that was already shown. The item of that half gets no end of its
#   own, and is in no list at the end. `turn/start` is answered with the id of the turn that runs, and begins none.
# Seen with: Codex 0.163.0 (openai-codex-cli-bin, PyPI), `codex app-server`.
# Why it matters to a host of agents: people write in bursts. Each message that is handed on at once costs an
#   answer, which is paid for and never seen, and one who writes often enough keeps the agent from ever
#   answering. Who waits for a second `turn/completed` waits for ever. Give it more only while a tool
#   runs, and close by yourself what was shown of an item that is not finished when the next begins.
# Rule: none that says when the words are taken up. The documentation says that `turn/steer` adds user input to
#   the turn in flight, and creates no new one.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --no-deps --disable-pip-version-check openai-codex-cli-bin==0.163.0

cat >"$dir/finding.py" <<'PY'
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import codex_cli_bin

CODEX = pathlib.Path(codex_cli_bin.__path__[0], "bin/codex")
ANSWERS = ["One half, the other half.", "To both."]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append([part["text"] for item in body["input"] if item["type"] == "message"
                                  for part in item["content"] if part["text"] in ("first", "second")
                                  or item["role"] == "assistant"])
        number = len(self.server.asked)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        item = {"type": "message", "role": "assistant", "id": f"item {number}", "content": []}
        text = ANSWERS[number - 1]
        try:
            self.event("response.created", response={"id": f"r{number}"})
            self.event("response.output_item.added", output_index=0, item=item)
            self.delta(item, text[:8])
            if number == 1:  # the rest comes when the next request is there, or nothing came for long
                self.server.next.wait(10)
            else:
                self.server.next.set()
            self.delta(item, text[8:])
            content = [{"type": "output_text", "text": text, "annotations": []}]
            self.event("response.output_item.done", output_index=0, item={**item, "content": content})
            usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
            self.event("response.completed", response={"id": f"r{number}", "usage": usage})
        except OSError:
            pass  # it has hung up

    def delta(self, item, text):
        self.event("response.output_text.delta", item_id=item["id"], output_index=0, content_index=0, delta=text)

    def event(self, kind, **more):
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode())

    def log_message(self, *_):
        pass


class App:
    def __init__(self, home):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.asked, self.server.next = [], threading.Event()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        home.mkdir()
        (home / "config.toml").write_text(f"""
model = "m"
model_provider = "stub"
check_for_update_on_startup = false
analytics.enabled = false
features.plugins = false
features.apps = false

[model_providers.stub]
name = "stub"
base_url = "http://127.0.0.1:{self.server.server_port}"
wire_api = "responses"
env_key = "STUB_KEY"
""")
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "CODEX_HOME": str(home), "STUB_KEY": "x"}
        self.process = subprocess.Popen([CODEX, "app-server"], cwd=home, env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.number, self.events = 0, []
        self.call("initialize", clientInfo={"name": "f", "title": "f", "version": "1"})
        self.tell(method="initialized")

    def tell(self, **message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def call(self, method, **params):
        self.number += 1
        self.tell(id=self.number, method=method, params=params)
        while True:
            line = self.read()
            if line.get("id") == self.number:
                return line["result"]

    def read(self):
        line = json.loads(self.process.stdout.readline())
        if "method" in line:
            self.events.append((line["method"], line["params"]))
        return line

    def await_event(self, method):
        while not any(name == method for name, _ in self.events):
            self.read()


def text(words):
    return [{"type": "text", "text": words}]


for method in ("turn/steer", "turn/start"):
    app = App(pathlib.Path(sys.argv[1], method.replace("/", "-")))
    thread = app.call("thread/start")["thread"]["id"]
    turn = app.call("turn/start", threadId=thread, input=text("first"))["turn"]["id"]
    app.await_event("item/agentMessage/delta")
    expected = {"expectedTurnId": turn} if method == "turn/steer" else {}
    given = app.call(method, threadId=thread, input=text("second"), **expected)
    given = given.get("turnId") or given["turn"]["id"]
    app.await_event("turn/completed")
    app.process.stdin.close()
    app.process.wait()
    app.events += [(line["method"], line["params"]) for line in map(json.loads, app.process.stdout)]
    said = {event: [params["item"]["id"] for name, params in app.events
                    if name == f"item/{event}" and params["item"]["type"] == "agentMessage"]
            for event in ("started", "completed")}
    over = [params["turn"] for name, params in app.events if name == "turn/completed"]
    print(f"{method}:")
    print("  is of the turn that runs:", given == turn)
    print("  the model was asked:", app.server.asked)
    print("  begun:", said["started"], "finished:", said["completed"])
    print("  turns that ended:", len(over), "with", [item["id"] for item in over[0]["items"]])
PY

expected=""
for method in turn/steer turn/start; do
    expected+="$method:
  is of the turn that runs: True
  the model was asked: [['first'], ['first', 'second']]
  begun: ['item 1', 'item 2'] finished: ['item 2']
  turns that ended: 1 with ['item 2']
"
done

mkdir "$dir/homes"
seen=$(timeout 60 "$dir/venv/bin/python" "$dir/finding.py" "$dir/homes")
printf '%s\n' "$seen"
[ "$seen" = "${expected%$'\n'}" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
