#!/usr/bin/env bash
# A tool whose parameter is an optional text does not get the text `null`, nor any that looks like JSON.
#
# One would guess: what a model sends as a string arrives in the tool as that string.
# What happens: Python's MCP server reads each string argument as JSON first, unless the parameter's type
#   is exactly `str`. With `str | None`, which is how one writes an optional text, "null" arrives as None,
#   and '[1, 2]' or '{"a": 1}' is refused ("Input should be a valid string"). Numbers, `true` and plain
#   text arrive as they are, so the tool works until somebody sends such a text.
# Seen with: mcp 2.3.0 (MCPServer), PyPI.
# Why it matters to a host of agents: `send_message(text, thread: str | None)`, `write_file(content:
#   str | None)` are the tools that agents have. The model is told that its JSON, a perfectly good string
#   in the schema that it was shown, is not one, and tries again and again; or an answer vanishes.
#   Give such a parameter the type `str` with a default of "".
# Rule: the schema that the server itself publishes says {"anyOf": [{"type": "string"}, {"type":
#   "null"}]}; by it all of these are valid strings.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check mcp==2.3.0

cat >"$dir/server.py" <<'PY'
from mcp.server.mcpserver import MCPServer

server = MCPServer("finding")


@server.tool()
def optional(text: str | None = None) -> str:
    return repr(text)


@server.tool()
def defaulted(text: str = "") -> str:
    return repr(text)


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
            tools = (await session.list_tools()).tools
            print("schema of optional:", tools[0].input_schema["properties"]["text"]["anyOf"])
            for tool in ("optional", "defaulted"):
                for text in ("hello", "12", "true", "null", "[1, 2]", '{"a": 1}'):
                    answer = await session.call_tool(tool, {"text": text})
                    outcome = "refused" if answer.is_error else answer.content[0].text
                    print(f"{tool}: {text} arrives as {outcome}")


asyncio.run(main())
PY

expected="schema of optional: [{'type': 'string'}, {'type': 'null'}]
optional: hello arrives as 'hello'
optional: 12 arrives as '12'
optional: true arrives as 'true'
optional: null arrives as None
optional: [1, 2] arrives as refused
optional: {\"a\": 1} arrives as refused
defaulted: hello arrives as 'hello'
defaulted: 12 arrives as '12'
defaulted: true arrives as 'true'
defaulted: null arrives as 'null'
defaulted: [1, 2] arrives as '[1, 2]'
defaulted: {\"a\": 1} arrives as '{\"a\": 1}'"

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/client.py" "$dir/server.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
