#!/usr/bin/env bash
# A client of a model waits as long as the server says, an hour if need be, or not at all.
#
# One would guess: a library with a time limit of five seconds for a request waits for its two retries at
#   most a little longer than that, and both vendors' libraries, whose code is much alike, agree.
# What happens: Anthropic's sleeps for whatever `retry-after` says before each of its two retries, in the
#   calling thread; `timeout` does not count it, and the cap in its code is 4294967 s. OpenAI's waits up to
#   120 s and gives up at once above that, before it looks at `x-should-retry: true`.
# Seen with: anthropic 2.14.0, openai 3.57.0, PyPI.
# Why it matters to a host of agents: a gateway that passes an upstream's honest "in an hour" on to an
#   agent's program stops that program for two hours, with nothing in its output, and its turn dies of its
#   deadline instead of failing with a reason. A gateway should keep long waits for itself, and answer
#   with `x-should-retry: false` where it will not have the request again.
# Rule: RFC 9110, 10.2.3: `Retry-After` says how long a client ought to wait; how long it may be, nobody
#   says.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check anthropic==2.14.0 openai==3.57.0

cat >"$dir/finding.py" <<'PY'
import http.server
import threading
import time

import anthropic
import openai


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"error": {"message": "later", "type": "rate_limit_error"}}'
        self.send_response(429)
        for name, value in self.server.more.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
said = [{"role": "user", "content": "hello"}]
slept = []
time.sleep = slept.append


def ask_anthropic():
    client = anthropic.Anthropic(api_key="x", base_url=url, timeout=5)
    client.messages.create(model="m", max_tokens=9, messages=said)


def ask_openai():
    client = openai.OpenAI(api_key="x", base_url=url, timeout=5)
    client.chat.completions.create(model="m", messages=said)


for more in ({"retry-after": "120"}, {"retry-after": "3600"},
             {"retry-after": "3600", "x-should-retry": "true"}, {"retry-after": "3600", "x-should-retry": "false"}):
    for name, ask in (("anthropic", ask_anthropic), ("openai", ask_openai)):
        server.more = more
        slept.clear()
        try:
            ask()
        except Exception as error:
            print(f"{more}: {name} sleeps {[round(span) for span in slept]}, then {type(error).__name__}")
PY

expected="{'retry-after': '120'}: anthropic sleeps [120, 120], then RateLimitError
{'retry-after': '120'}: openai sleeps [120, 120], then RateLimitError
{'retry-after': '3600'}: anthropic sleeps [3600, 3600], then RateLimitError
{'retry-after': '3600'}: openai sleeps [], then RateLimitError
{'retry-after': '3600', 'x-should-retry': 'true'}: anthropic sleeps [3600, 3600], then RateLimitError
{'retry-after': '3600', 'x-should-retry': 'true'}: openai sleeps [], then RateLimitError
{'retry-after': '3600', 'x-should-retry': 'false'}: anthropic sleeps [], then RateLimitError
{'retry-after': '3600', 'x-should-retry': 'false'}: openai sleeps [], then RateLimitError"

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/finding.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
