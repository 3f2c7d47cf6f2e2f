#!/usr/bin/env python3
"""For the `bridge` channel of Twobox: bridge.py data/host.sock CHANNEL FOLDER. Needs nothing but Python.

A chat is a folder in FOLDER. A file CHAT/ID.in is said there, and becomes ID.said when it is safe. What an agent says
is a file CHAT/*.out. Its name is made of the message's key, so that what is delivered twice is there once."""
import collections, hashlib, json, os, pathlib, select, socket, sys, time
def write(path, text):
    with open(path.with_suffix(".new"), "w") as fresh:
        print(text, end="", file=fresh, flush=True)
        os.fsync(fresh.fileno())
    os.replace(fresh.name, path)

def deliver(folder, letter):
    if letter["chat"] not in os.listdir(folder):  # never a path that somebody made up
        return {"outcome": "permanent", "error": "there is no such folder"}
    name = hashlib.sha256(letter["key"].encode()).hexdigest()
    try:
        write(folder / letter["chat"] / f"{name}.out", letter["text"])
    except OSError as error:
        return {"outcome": "transient", "error": str(error)}
    return {"outcome": "delivered", "platform_message_id": name}

def settle(file, event):
    if event["event"] == "accepted" or not event.get("retry"):
        file.rename(file.with_suffix(".said" if event["event"] == "accepted" else ".refused"))
    if event.get("say"):
        write(file.with_suffix(".out"), event["say"])

def carry(host, channel, folder):
    say = lambda **line: host.sendall(json.dumps(line).encode() + b"\n")
    say(op="bridge", channel=channel, name="bridge.py", keys=True)
    sits, asked, rest = False, collections.deque(), b""  # answers come in the order of what was asked
    while True:
        for file in sorted(folder.glob("*/*.in")) if sits else ():
            if file not in asked and len(asked) < 20:
                text = file.read_text(errors="replace")
                say(op="message", channel=channel, chat=file.parent.name, id=file.stem, text=text)
                asked.append(file)
        if not select.select([host], [], [], 0.2)[0]:
            continue
        if not (data := host.recv(1 << 16)):
            raise OSError("the host has left")
        *lines, rest = (rest + data).split(b"\n")
        for event in map(json.loads, lines):
            sits = sits or event["event"] == "bridging"
            if event["event"] == "deliver":
                say(op="outcome", key=event["key"], **deliver(folder, event))
            elif event["event"] in ("accepted", "refused", "error"):
                if not asked:
                    raise OSError(event["reason"])
                settle(asked.popleft(), event)

while True:
    try:
        with socket.socket(socket.AF_UNIX) as host:
            host.connect(sys.argv[1])
            carry(host, sys.argv[2], pathlib.Path(sys.argv[3]))
    except OSError as error:
        print(f"{error}: trying again", file=sys.stderr, flush=True)
    time.sleep(1)
