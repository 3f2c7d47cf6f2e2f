"""An agent of the `command` provider that uses the host's tools by the vendors' own client, in each of its
modes, and answers with what became of it."""

import asyncio
import json
import os
import sys

from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError


def outcome(result):
    return [result.is_error, result.content[0].text]


async def use(mode):
    launch = json.loads(os.environ["TWOBOX_MCP"])
    server = StdioServerParameters(command=launch["command"], args=launch["args"])
    async with Client(server, mode=mode) as client:
        said = {
            "version": client.protocol_version,
            "tools": [tool.name for tool in (await client.list_tools()).tools],
            "sent": outcome(await client.call_tool("send_message", {"to": "team", "text": mode})),
            "lost": outcome(await client.call_tool("send_message", {"to": "nobody", "text": mode})),
        }
        try:
            await client.list_prompts()
        except MCPError as error:
            said["unknown"] = error.error.code
        return said


def say(**line):
    print(json.dumps(line), flush=True)


for line in sys.stdin:
    turn = json.loads(line)
    if turn["type"] == "turn":
        said = {mode: asyncio.run(use(mode)) for mode in ("auto", "legacy", "2026-07-28")}
        say(type="reply", text=json.dumps(said))
        say(type="turn_done")
