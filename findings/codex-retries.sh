#!/usr/bin/env bash
# Codex asks again what was refused for good, does not ask again what it was told to repeat, and multiplies.
#
# One would guess: `stream_max_retries` counts reconnections of a stream that had begun, and
#   `request_max_retries` requests that failed; of those 429 and 5xx are repeated, and a wrong key or a body
#   that is too large never is.
# What happens: `stream_max_retries` begins anew whatever failed, also where no stream ever began: 401, 403
#   and 413 are asked as often as 503. Only 400 ends at once, and 429, which asks for it, is repeated by neither
#   ("exceeded retry limit", after one request). `request_max_retries` repeats 5xx alone, within each
#   of these attempts: both at two make nine requests, and the defaults, four and five, thirty.
# Seen with: Codex 0.163.0 (openai-codex-cli-bin, PyPI).
# Why it matters to a host of agents: a gateway that refuses a conversation without budget or key is asked on
#   and on, and a 500 that may have been paid for is paid for again. Set both to 0 and let the gateway repeat
#   what may be, or give refusals the status 400.
# Rule: none. The configuration's reference calls one the retries of a request and the other the reconnections
#   of a stream.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --no-deps --disable-pip-version-check openai-codex-cli-bin==0.163.0

cat >"$dir/finding.py" <<'PY'
import http.server
import os
import pathlib
import subprocess
import sys
import threading

import codex_cli_bin

CODEX = pathlib.Path(codex_cli_bin.__path__[0], "bin/codex")
HOME = pathlib.Path(sys.argv[1])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        body = b'{"error": {"message": "no"}}'
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()


def requests(status, request_retries, stream_retries):
    server.status, server.asked = status, 0
    (HOME / "config.toml").write_text(f"""
model = "m"
model_provider = "stub"
check_for_update_on_startup = false
analytics.enabled = false
features.plugins = false
features.apps = false

[model_providers.stub]
name = "stub"
base_url = "http://127.0.0.1:{server.server_port}"
wire_api = "responses"
env_key = "STUB_KEY"
request_max_retries = {request_retries}
stream_max_retries = {stream_retries}
""")
    environment = {"PATH": os.environ["PATH"], "HOME": str(HOME), "CODEX_HOME": str(HOME), "STUB_KEY": "x"}
    ended = subprocess.run([CODEX, "exec", "--skip-git-repo-check", "hello"], cwd=HOME, env=environment,
                           stdin=subprocess.DEVNULL, capture_output=True)
    assert ended.returncode == 1, ended
    return server.asked


print("requests with 2 retries of: requests, streams, both")
for status in (400, 401, 403, 413, 429, 500, 503):
    print(f"{status}:", *(requests(status, *retries) for retries in ((2, 0), (0, 2), (2, 2))))
PY

expected="requests with 2 retries of: requests, streams, both
400: 1 1 1
401: 1 3 3
403: 1 3 3
413: 1 3 3
429: 1 1 1
500: 3 3 9
503: 3 3 9"

mkdir "$dir/home"
seen=$(timeout 120 "$dir/venv/bin/python" "$dir/finding.py" "$dir/home")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
