#!/usr/bin/env bash
# Claude Code sends what was refused as invalid six times, also if it may repeat nothing, and calls it a success.
#
# One would guess: with CLAUDE_CODE_MAX_RETRIES=0 each request is sent once, and 400, by which the server
#   says that the request itself is wrong, is never repeated; a turn that ended in an error is no `success`.
# What happens: 400 is sent six times and 404 twice, whatever the number of retries. Half of the six are another
#   request: all tools are written out, which were deferred before, and the body is larger by
#   30 KB. 401 counts as something to repeat, 403 does not. The result of each is `"subtype": "success"`, with
#   the complaint as its text, and only `is_error` says that it is none.
# Seen with: Claude Code 2.1.332 (in claude-agent-sdk 0.2.189, PyPI).
# Why it matters to a host of agents: a gateway that refuses with 400 or 404 is asked six times, or twice, for each
#   turn, and who counts refusals counts that many; to refuse once and be heard, answer 403 or 413. Who looks at
#   `subtype` sends "API Error: 400 …" to people as the agent's answer.
# Rule: the documentation calls CLAUDE_CODE_MAX_RETRIES how often failed requests are repeated.
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

PACKAGE = importlib.util.find_spec("claude_agent_sdk").submodule_search_locations[0]
CLAUDE = pathlib.Path(PACKAGE, "_bundled/claude")
KINDS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
         404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.tools.append(len(body.get("tools", [])))
        self.refuse(self.server.status)

    def do_GET(self):
        self.refuse(404)

    do_HEAD = do_GET

    def refuse(self, status):
        error = {"type": "error", "error": {"type": KINDS[status], "message": "no"}}
        body = json.dumps(error).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
home = sys.argv[1]


def ask(status, retries):
    server.status, server.tools = status, []
    environment = {"PATH": os.environ["PATH"], "HOME": home, "CLAUDE_CONFIG_DIR": f"{home}/kept",
                   "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}", "ANTHROPIC_API_KEY": "x",
                   "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_RETRIES": str(retries)}
    line = [CLAUDE, "-p", "--output-format", "json", "--model", "m", "--setting-sources", "", "hello"]
    ended = subprocess.run(line, cwd=home, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    result = json.loads(ended.stdout.splitlines()[-1])
    assert ended.returncode == 1 and str(status) == str(result["api_error_status"]), ended
    return len(server.tools), len(set(server.tools)), result["subtype"], result["is_error"]


for status in KINDS:
    (none, kinds, subtype, is_error), (two, *_) = ask(status, 0), ask(status, 2)
    print(f"{status}: {none} requests without retries, {kinds} sets of tools, {two} with two; {subtype}, error {is_error}")
PY

expected="400: 6 requests without retries, 2 sets of tools, 6 with two; success, error True
401: 1 requests without retries, 1 sets of tools, 3 with two; success, error True
403: 1 requests without retries, 1 sets of tools, 1 with two; success, error True
404: 2 requests without retries, 1 sets of tools, 2 with two; success, error True
413: 1 requests without retries, 1 sets of tools, 1 with two; success, error True
429: 1 requests without retries, 1 sets of tools, 3 with two; success, error True
500: 1 requests without retries, 1 sets of tools, 3 with two; success, error True"

mkdir "$dir/home"
seen=$(timeout 120 "$dir/venv/bin/python" "$dir/finding.py" "$dir/home")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
