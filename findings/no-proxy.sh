#!/usr/bin/env bash
# There is one NO_PROXY, and each client reads it in its own way.
#
# One would guess: the proxy variables are a convention so old that a host, a network, a port and a
#   suffix mean the same everywhere; at worst a newer form is unknown to an old client.
# What happens: only a plain host name or address, in lower case variables and separated by commas, is
#   read alike by these five. A network in CIDR form: curl and requests. ADDRESS:PORT: urllib and httpx, and
#   requests, which knows CIDR, does not. A leading dot covers the name itself, except in httpx. Blanks
#   as separators: curl. `a,*`: httpx alone. ALL_PROXY: not urllib, not aiohttp. HTTP_PROXY in capitals:
#   all but curl.
# Seen with: curl 7.88.1 (Debian 12), Python 3.11's urllib, requests 2.34.2, httpx 0.28.1,
#   aiohttp 3.14.5, PyPI.
# Why it matters to a host of agents: an agent without a network of its own is given a gateway by these
#   variables, and what it may reach directly by NO_PROXY. With one of the newer forms half of its tools go
#   through the gateway, which refuses them, and half do not. Write the address itself and the name
#   itself, several times over if need be, in lower case and in capitals.
# Rule: none; curl's is in its manual under ENVIRONMENT, the others' in their code.
set -euo pipefail

curl --version | grep -q '^curl 7\.88\.1 ' || {
    echo "this is about curl 7.88.1 of Debian 12; here is: $(curl --version | head -n 1)" >&2
    exit 2
}

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check \
    requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5

cat >"$dir/finding.py" <<'PY'
import asyncio
import http.server
import os
import subprocess
import threading
import urllib.request

import aiohttp
import httpx
import requests

def serve(text):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


PORT, PROXY = serve(b"direct"), f"http://127.0.0.1:{serve(b'proxy')}"
CLEAN = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}


async def with_aiohttp(url):
    async with aiohttp.ClientSession(trust_env=True) as session, session.get(url) as answer:
        return await answer.text()


CLIENTS = {
    "curl": lambda url: subprocess.check_output(["curl", "--silent", "--max-time", "9", url], text=True),
    "urllib": lambda url: urllib.request.build_opener().open(url, timeout=9).read().decode(),
    "requests": lambda url: requests.get(url, timeout=9).text,
    "httpx": lambda url: httpx.get(url, timeout=9).text,
    "aiohttp": lambda url: asyncio.run(with_aiohttp(url)),
}


def ask(host, variables):
    os.environ.clear()
    os.environ.update(CLEAN | variables)
    for name, get in CLIENTS.items():
        yield name, get(f"http://{host}:{PORT}/")


for host, no_proxy in (
    ("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "a,127.0.0.1"), ("127.0.0.1", "a 127.0.0.1"),
    ("127.0.0.1", "127.0.0.0/8"), ("127.0.0.1", "127.0.0.1:PORT"), ("localhost", ".localhost"),
    ("127.0.0.1", "*"), ("127.0.0.1", "a,*"),
):
    variables = {"http_proxy": PROXY, "no_proxy": no_proxy.replace("PORT", str(PORT))}
    direct = [name for name, way in ask(host, variables) if way == "direct"]
    print(f"no_proxy={no_proxy}, {host} is asked directly by:", *direct)
for variable in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
    users = [name for name, way in ask("127.0.0.1", {variable: PROXY}) if way == "proxy"]
    print(f"{variable} is used by:", *users)
PY

expected="no_proxy=127.0.0.1, 127.0.0.1 is asked directly by: curl urllib requests httpx aiohttp
no_proxy=a,127.0.0.1, 127.0.0.1 is asked directly by: curl urllib requests httpx aiohttp
no_proxy=a 127.0.0.1, 127.0.0.1 is asked directly by: curl
no_proxy=127.0.0.0/8, 127.0.0.1 is asked directly by: curl requests
no_proxy=127.0.0.1:PORT, 127.0.0.1 is asked directly by: urllib httpx
no_proxy=.localhost, localhost is asked directly by: curl urllib requests aiohttp
no_proxy=*, 127.0.0.1 is asked directly by: curl urllib requests httpx aiohttp
no_proxy=a,*, 127.0.0.1 is asked directly by: httpx
http_proxy is used by: curl urllib requests httpx aiohttp
HTTP_PROXY is used by: urllib requests httpx aiohttp
ALL_PROXY is used by: curl requests httpx"

seen=$(timeout 100 "$dir/venv/bin/python" "$dir/finding.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
