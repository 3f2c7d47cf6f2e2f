import json
import sys

for line in sys.stdin:
    request = json.loads(line)
    if request["type"] == "error":
        print(request["detail"], file=sys.stderr)
        continue
    asked = [m for m in request["messages"] if m["trigger"]]
    if request["type"] == "follow_up":
        print(json.dumps({"type": "used", "ids": [m["id"] for m in asked]}), flush=True)
    for message in asked:
        answer = {"type": "reply", "text": "you said: " + message["text"]}
        print(json.dumps(answer), flush=True)
    if request["type"] == "turn":
        print(json.dumps({"type": "turn_done"}), flush=True)
