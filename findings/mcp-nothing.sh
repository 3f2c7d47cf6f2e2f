#!/usr/bin/env bash
# What a tool returns as None, or as an empty list, reaches the model as no content at all.
#
# One would guess: a result is shown as JSON: `null`, `[]`, `["a", "b"]`.
# What happens: Python's MCP server makes a block of text of each item of a list. A list of two texts is two blocks
#   without a mark between them, an empty list no block, and None no block either: the three are told apart
#   only by `structured_content`, which has {"result": …}, and which a tool without a return type has not.
# Seen with: mcp 2.3.0 (MCPServer), PyPI.
# Why it matters to a host of agents: "nothing was found" and "done" are the same silence, and a model that gets an
#   empty result tries again. Who joins blocks makes "ab" of ["a", "b"]. A client should say something in the
#   place of nothing, and put a line break between blocks; a tool should return a text.
# Rule: the protocol has `content` as a list that may be empty, and advises to repeat structured content in it as
#   text.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check mcp==2.3.0

cat >"$dir/server.py" <<'PY'
from mcp.server.mcpserver import MCPServer

server = MCPServer("finding")


@server.tool()
def done() -> None:
    return None


@server.tool()
def found_none() -> list[str]:
    return []


@server.tool()
def found_none_untyped():
    return []


@server.tool()
def found_two() -> list[str]:
    return ["a", "b"]


@server.tool()
def found_a_dict() -> dict[str, list[str]]:
    return {"found": []}


server.run("stdio")
PY

cat >"$dir/client.py" <<'PY'
import asyncio
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main():
    server = StdioServerParameters(command=sys.executable, args=[sys.argv[1]])
    async with stdio_client(server, errlog=open("/dev/null", "w")) as streams:
        async with ClientSession(*streams) as session:
            await session.initialize()
            for tool in (await session.list_tools()).tools:
                answer = await session.call_tool(tool.name, {})
                blocks = [block.text for block in answer.content]
                print(f"{tool.name}: blocks {blocks}, structured {answer.structured_content}")


asyncio.run(main())
PY

expected="done: blocks [], structured {'result': None}
found_none: blocks [], structured {'result': []}
found_none_untyped: blocks [], structured None
found_two: blocks ['a', 'b'], structured {'result': ['a', 'b']}
found_a_dict: blocks ['{\n  \"found\": []\n}'], structured {'found': []}"

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/client.py" "$dir/server.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
