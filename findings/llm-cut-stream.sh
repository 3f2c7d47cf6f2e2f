#!/usr/bin/env bash
# A model's answer that was cut off is a whole answer to both vendors' Python libraries.
#
# One would guess: the protocols have an end mark (`message_stop`, `data: [DONE]`), so a stream that ends
#   without it is an error; least of all would a tool call come out of it.
# What happens: if the HTTP body ends properly (a gateway finishes its side after its upstream died, or
#   the length of the body is the connection's life), nothing is raised. Anthropic's `get_final_message()`
#   returns what there is, and repairs the JSON of a tool call that was cut: `{"path": "/srv/a", "keep": tr`
#   becomes the complete-looking input {"path": "/srv/a"}. OpenAI's stream just ends, and its
#   `get_final_completion()` returns the half text. The one trace is a stop reason of None. Only a body
#   that is broken off in the midst of a chunk raises.
# Seen with: anthropic 2.14.0, openai 3.57.0, PyPI.
# Why it matters to a host of agents: a gateway between agent and model is exactly what turns an
#   upstream's death into a proper end. Half an answer is then delivered as one, and a tool is run
#   with arguments missing. An agent must ask for the stop reason before it uses anything; a gateway
#   must break the connection off, not end it, if its upstream's stream had no end mark.
# Rule: none that we know of says what a client does without the end mark; the HTML standard, whose
#   event streams these are, drops only an *event* that is incomplete at the end.
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


def anthropic_event(kind, **more):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"


START = anthropic_event("message_start", message={
    "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
    "stop_reason": None, "usage": {"input_tokens": 1, "output_tokens": 1}})


def anthropic_half(block, delta):
    return (START + anthropic_event("content_block_start", index=0, content_block=block)
            + anthropic_event("content_block_delta", index=0, delta=delta))


TEXT = anthropic_half({"type": "text", "text": ""}, {"type": "text_delta", "text": "Do not"})
TOOL = anthropic_half({"type": "tool_use", "id": "t", "name": "clean", "input": {}},
                      {"type": "input_json_delta", "partial_json": '{"path": "/srv/a", "keep": tr'})
CHAT = "data: " + json.dumps({
    "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
    "choices": [{"index": 0, "delta": {"content": "Do not"}, "finish_reason": None}]}) + "\n\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = self.server.body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        if self.server.proper:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"


def ask_anthropic():
    client = anthropic.Anthropic(api_key="x", base_url=url, max_retries=0)
    with client.messages.stream(model="m", max_tokens=9, messages=[]) as stream:
        message = stream.get_final_message()
    block = message.content[0]
    return f"{block.text if block.type == 'text' else block.input}, stop reason {message.stop_reason}"


def ask_openai():
    client = openai.OpenAI(api_key="x", base_url=url, max_retries=0)
    with client.chat.completions.stream(model="m", messages=[]) as stream:
        choice = stream.get_final_completion().choices[0]
    return f"{choice.message.content}, stop reason {choice.finish_reason}"


for proper in (True, False):
    print("the body ends properly:" if proper else "the body is broken off:")
    for name, ask, body in (("anthropic, text", ask_anthropic, TEXT),
                            ("anthropic, tool", ask_anthropic, TOOL),
                            ("openai, text", ask_openai, CHAT)):
        server.body, server.proper = body, proper
        try:
            print(f"  {name}: {ask()}")
        except Exception as error:
            print(f"  {name}: raises {type(error).__name__}")
PY

expected="the body ends properly:
  anthropic, text: Do not, stop reason None
  anthropic, tool: {'path': '/srv/a'}, stop reason None
  openai, text: Do not, stop reason None
the body is broken off:
  anthropic, text: raises RemoteProtocolError
  anthropic, tool: raises RemoteProtocolError
  openai, text: raises APIConnectionError"

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/finding.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
