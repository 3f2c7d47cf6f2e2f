import json
import sys


def say(**line):
    print(json.dumps(line), flush=True)


for line in sys.stdin:
    turn = json.loads(line)
    if turn["type"] != "turn":
        continue  # a follow-up that came after turn_done: it will have a turn of its own
    for message in turn["messages"]:
        if message["trigger"]:
            say(type="reply", text="you said: " + message["text"])
    say(type="turn_done")
