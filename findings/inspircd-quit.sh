#!/usr/bin/env bash
# InspIRCd drops lines that it has received whole when the client says QUIT behind them and hangs up.
#
# One would guess: lines are handled in their order, QUIT is the last of them, and what was written before it, and
#   acknowledged by TCP, is shown to everybody. A client that says its goodbye and waits a moment has lost nothing.
# What happens: from about the eleventh line on, InspIRCd handles one line a second and keeps the rest in its
#   memory. When the connection ends meanwhile, also by a polite close, it forgets them: of twenty lines and a QUIT
#   about half are shown, and nobody is told. A client that reads on until the server has closed the connection loses
#   none, nor does one that waits for the PONG to a PING behind its last line. ngircd shows all twenty in any case.
# Seen with: InspIRCd 3.15 (Debian 12, inspircd 3.15.0-1).
# Why it matters to a host of agents: an answer of an agent is more lines than that. A script that says them and
#   leaves, as one for a cron job or a web hook does, loses the second half of every long message, with exit code 0.
#   Count a line as said when the server has answered for it, and close only after the server did.
# Rule: RFC 2812 section 3.1.7 has the server acknowledge a QUIT by an ERROR message; only that says that it was read.
set -euo pipefail

inspircd=$(PATH="$PATH:/usr/sbin" command -v inspircd || true)
if [ -z "$inspircd" ] || ! "$inspircd" --version 2>&1 | grep -q 'InspIRCd-3\.15'; then
    echo "this is about InspIRCd 3.15 of Debian 12 (apt-get install inspircd), which is not here" >&2
    exit 2
fi

dir=$(mktemp --directory)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf -- "$dir"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

cat >"$dir/conf" <<XML
<config format="xml">
<server name="i.t.local" description="test" network="T">
<admin name="a" nick="a" email="a@t.local">
<pid file="$dir/pid">
<bind address="127.0.0.1" port="$port" type="clients">
<connect allow="*" timeout="60" pingfreq="120" localmax="100" globalmax="100" resolvehostnames="no">
XML
"$inspircd" --nofork --nolog --runasroot --config "$dir/conf" >"$dir/log" 2>&1 &
server=$!

cat >"$dir/finding.py" <<'PY'
import socket
import sys
import time

LINES = 20


class Client:
    def __init__(self, port, nick):
        for _ in range(100):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                time.sleep(0.1)
        self.said = ""
        self.say(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
        self.until(" 422 ")
        self.say("JOIN #r")
        self.until(" 366 ")

    def say(self, *lines):
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def until(self, part, patience=60):
        """Reads until this was said; whether it was before the connection ended."""
        end = time.time() + patience
        while part not in self.said and time.time() < end:
            self.socket.settimeout(max(0.01, end - time.time()))
            try:
                read = self.socket.recv(65536)
            except OSError:
                break
            if not read:
                break
            self.said += read.decode()
        return part in self.said


def shown(port, name, leave):
    """How many lines the witness sees of one who says them and leaves so."""
    witness, client = Client(port, f"w{name}"), Client(port, name)
    client.say(*(f"PRIVMSG #r :line {number}" for number in range(LINES)))
    leave(client)
    assert witness.until(f":{name}!{name}@127.0.0.1 QUIT "), "it never left"
    return witness.said.count("PRIVMSG #r :line ")


def hang_up(client):
    client.say("QUIT")
    time.sleep(0.3)
    client.socket.close()


def read_on(client):
    client.say("QUIT")
    client.until("\0")
    client.socket.close()


def ping_first(client):
    client.say("PING done")
    assert client.until("PONG i.t.local :done")
    hang_up(client)


port = int(sys.argv[1])
hung_up, read, pinged = (shown(port, name, leave) for name, leave in (("h", hang_up), ("r", read_on), ("p", ping_first)))
print(f"of {LINES} lines and a QUIT are shown: {hung_up} if the client hangs up after 0.3 s,")
print(f"{read} if it reads until the server does, {pinged} if it waits for a PONG before the QUIT")
sys.exit(0 if hung_up < LINES and read == pinged == LINES else 1)
PY
python3 "$dir/finding.py" "$port"
