#!/usr/bin/env bash
# An error in the midst of a model's stream is three different things to the vendors' Python libraries.
#
# One would guess: what the server says with 529 or 500 before a stream, it raises as the same class within
#   one, and code that retries "overloaded" does so there too.
# What happens: Anthropic's library raises APIStatusError with status_code 200, not OverloadedError, so
#   that whoever tells errors apart by class or status takes it for none that passes. OpenAI's raises a bare
#   APIError for Chat Completions, without a status, and for Responses nothing at all: the event comes out
#   of the loop like any other, and the loop ends as if all were well. Only who asks the helper for the
#   final response hears of it, as a RuntimeError that does not say what the server said.
# Seen with: anthropic 2.14.0, openai 3.57.0, PyPI.
# Why it matters to a host of agents: an upstream that is overloaded in the midst of an answer looks like a
#   mistake of the program, or like a short answer. A gateway or provider has to read the events, not the
#   classes; and one that retries before anything was passed on spares its agents all three.
# Rule: both vendors document the events (`error`, `response.failed`); none says what a library makes of
#   them.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check anthropic==2.14.0 openai==3.57.0

cat >"$dir/finding.py" <<'PY'
import http.server
import json
import threading

import anthropic
import openai


def event(kind, **more):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"


ANTHROPIC = (
    event("message_start", message={
        "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}})
    + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Do not"})
    + event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
CHAT = "".join("data: " + json.dumps(chunk) + "\n\n" for chunk in (
    {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
     "choices": [{"index": 0, "delta": {"content": "Do not"}, "finish_reason": None}]},
    {"error": {"message": "Overloaded", "type": "server_error", "param": None, "code": None}}))
RESPONSES = (
    event("response.created", sequence_number=0, response={
        "id": "r", "object": "response", "created_at": 1, "model": "m", "output": [], "status": "in_progress",
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": []})
    + event("error", sequence_number=1, code="server_error", message="Overloaded", param=None))
BODIES = {"/v1/messages": ANTHROPIC, "/v1/chat/completions": CHAT, "/v1/responses": RESPONSES}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(BODIES[self.path].encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
said = [{"role": "user", "content": "hello"}]
claude = anthropic.Anthropic(api_key="x", base_url=url, max_retries=0)
gpt = openai.OpenAI(api_key="x", base_url=url + "/v1", max_retries=0)


def final_response():
    with gpt.responses.stream(model="m", input="hello") as stream:
        return stream.get_final_response()


for name, ask in (
        ("anthropic", lambda: claude.messages.create(model="m", max_tokens=9, messages=said, stream=True)),
        ("openai, chat", lambda: gpt.chat.completions.create(model="m", messages=said, stream=True)),
        ("openai, responses", lambda: gpt.responses.create(model="m", input="hello", stream=True)),
        ("openai, responses, the helper", final_response)):
    try:
        print(f"{name}: ends after {[getattr(event, 'type', 'chunk') for event in ask()]}")
    except Exception as error:
        status = getattr(error, "status_code", None)
        print(f"{name}: raises {type(error).__name__}, status {status}, says so: {'Overloaded' in str(error)}")
PY

expected="anthropic: raises APIStatusError, status 200, says so: True
openai, chat: raises APIError, status None, says so: True
openai, responses: ends after ['response.created', 'error']
openai, responses, the helper: raises RuntimeError, status None, says so: False"

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/finding.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
