#!/usr/bin/env bash
# Two chat libraries send a message again by themselves when its answer is lost.
#
# One would guess: a POST that makes a message is not repeated by a library unless one asks for it, for
#   nobody knows whether the first one arrived; at most a 429 is, which says that it did not.
# What happens: slack_sdk repeats chat.postMessage once when the connection ends without an answer.
#   discord.py sends a message up to five times while the answers are 500, 502, 504 or 524. Neither adds
#   a key by which the server could tell. Both then report one success, so that the caller cannot know.
#   (503, and a lost connection in discord.py, are not repeated.)
# Seen with: slack_sdk 3.48.0, discord.py 2.7.1 (aiohttp 3.14.5), PyPI.
# Why it matters to a host of agents: whoever records "sending" before a send and "delivered" after it
#   believes that an attempt is at most one message. Here it is up to five, below the record. Give
#   WebClient(retry_handlers=[]) to Slack's, and a `nonce` of your own to each send of discord.py, which
#   then asks the server to refuse doubles (enforce_nonce).
# Rule: RFC 9110 section 9.2.2: a client SHOULD NOT automatically retry a request with a method that is
#   not idempotent, unless it can tell that the original was never applied.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
    slack_sdk==3.48.0 discord.py==2.7.1 aiohttp==3.14.5

cat >"$dir/finding.py" <<'PY'
import asyncio
import http.server
import json
import logging
import threading

import aiohttp
import discord.http
from slack_sdk import WebClient

logging.disable(logging.CRITICAL)
GONE = "no answer"


class Server(http.server.ThreadingHTTPServer):
    """Keeps each message that it gets, and answers the first as it is told to, the others well."""

    def __init__(self, first, answer):
        self.first, self.answer, self.kept = first, answer, []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.kept.append(self.rfile.read(int(self.headers["Content-Length"])))
        first = self.server.first if len(self.server.kept) == 1 else 200
        if first == GONE:
            return
        body = json.dumps(self.server.answer).encode() if first == 200 else b"try again later"
        self.send_response(first)
        self.send_header("Content-Type", "application/json" if first == 200 else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def slack(url):
    return WebClient(token="x", base_url=url + "/").chat_postMessage(channel="C1", text="hi")["ok"]


def discord_py(url):
    async def send():
        discord.http.Route.BASE = url
        client = discord.http.HTTPClient(asyncio.get_running_loop())
        client.token, client._global_over = "x", asyncio.Event()
        client._global_over.set()
        async with aiohttp.ClientSession() as client._HTTPClient__session:
            with discord.http.handle_message_parameters("hi") as parameters:
                return "id" in await client.send_message(2, params=parameters)

    return asyncio.run(send())


ANSWER = {"ok": True, "ts": "1.2", "id": "1"}
for library, send in (("slack_sdk", slack), ("discord.py", discord_py)):
    for first in (GONE, 500, 502, 503):
        server = Server(first, ANSWER)
        try:
            outcome = "success" if send(server.url) else "?"
        except Exception:
            outcome = "an error"
        print(f"{library}, {first}: {outcome} for the caller, {len(server.kept)} for the server")
        server.shutdown()
PY

expected='slack_sdk, no answer: success for the caller, 2 for the server
slack_sdk, 500: an error for the caller, 1 for the server
slack_sdk, 502: an error for the caller, 1 for the server
slack_sdk, 503: an error for the caller, 1 for the server
discord.py, no answer: an error for the caller, 1 for the server
discord.py, 500: success for the caller, 2 for the server
discord.py, 502: success for the caller, 2 for the server
discord.py, 503: an error for the caller, 1 for the server'

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/finding.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
