#!/usr/bin/env bash
# curl sends a POST twice, without a word, if a connection that it used before ends without an answer.
#
# One would guess: curl never repeats a request unless --retry is given; what it cannot get an answer to
#   is "Empty reply from server", exit code 52.
# What happens: so it is on a fresh connection. On one that has served a request before, a POST that
#   was sent whole and got no byte in answer is sent again on a new connection, and only the second
#   answer is shown; exit code 0. curl takes it for a connection that had been closed meanwhile, and the
#   server may well have read and done it. Python's http.client and requests do not repeat it.
# Seen with: curl 7.88.1, Debian 12 (and so for programs that use its libcurl).
# Why it matters to a host of agents: a bot's script that posts two messages with one curl, or a
#   program with libcurl, which keeps connections, doubles a message whenever the server or a proxy
#   before it restarts at the wrong moment. Give each message that must not be doubled a connection
#   of its own (-H 'Connection: close' on the one before it, or --fresh-connect in libcurl).
# Rule: RFC 9110 section 9.2.2: no automatic retry of a method that is not idempotent, unless the
#   client can tell that the original was never applied.
set -euo pipefail

curl --version | grep -q '^curl 7\.88\.1 ' || {
    echo "this is about curl 7.88.1 of Debian 12; here is: $(curl --version | head -n 1)" >&2
    exit 2
}

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

cat >"$dir/finding.py" <<'PY'
import http.client
import http.server
import subprocess
import threading

got = []


class Handler(http.server.BaseHTTPRequestHandler):
    """Reads each request whole; answers all but the first `lost`, where it hangs up instead."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        got.append(body)
        if body == "lost" and got.count("lost") == 1:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"


def curl(*arguments):
    got.clear()
    code = subprocess.run(["curl", "--silent", "--max-time", "10", *arguments], stdout=subprocess.DEVNULL)
    return f"exit code {code.returncode}, the server has read {got}"


print("curl, fresh connection: ", curl("-d", "lost", url))
print("curl, used connection:  ", curl("-d", "first", url, "--next", "-s", "-d", "lost", url))
closing = ("-d", "first", "-H", "Connection: close", url)
print("curl, closed in between:", curl(*closing, "--next", "-s", "-d", "lost", url))

got.clear()
connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
connection.request("POST", "/", "first")
connection.getresponse().read()
try:
    connection.request("POST", "/", "lost")
    connection.getresponse()
    outcome = "success"
except http.client.RemoteDisconnected:
    outcome = "RemoteDisconnected"
print(f"http.client, used:       {outcome}, the server has read {got}")
PY

expected="curl, fresh connection:  exit code 52, the server has read ['lost']
curl, used connection:   exit code 0, the server has read ['first', 'lost', 'lost']
curl, closed in between: exit code 52, the server has read ['first', 'lost']
http.client, used:       RemoteDisconnected, the server has read ['first', 'lost']"

seen=$(timeout 60 python3 "$dir/finding.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
