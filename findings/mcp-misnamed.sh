#!/usr/bin/env bash
# A tool is run although an argument that it was given does not exist, and without what was meant by it.
#
# One would guess: an argument that no parameter is called by is refused, as a Python function refuses it, and the
#   model is told which names there are.
# What happens: Python's MCP server drops it without a word and calls the function with the default. `remove(path,
#   dry_run: bool = False)`, asked for with "dryRun": true, removes. The answer is a success. Only a parameter
#   without a default is missed, by its own name.
# Seen with: mcp 2.3.0 (MCPServer), PyPI.
# Why it matters to a host of agents: models write dryRun for dry_run, and what is usually optional is what makes a tool
#   harmless. Give such a parameter no default, or compare the arguments with the schema's properties before
#   the tool is called; a host that shows a person what is to be run shows an argument that does not count.
# Rule: the schema that the server publishes has no "additionalProperties", so by JSON Schema any more are allowed.
#   A model that is told the same schema by its vendor in strict mode is refused it.
set -euo pipefail

dir=$(mktemp --directory)
trap 'rm -rf -- "$dir"' EXIT

python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check mcp==2.3.0

cat >"$dir/server.py" <<'PY'
from mcp.server.mcpserver import MCPServer

server = MCPServer("finding")


@server.tool()
def remove(path: str, dry_run: bool = False) -> str:
    return f"would remove {path}" if dry_run else f"removed {path}"


@server.tool()
def remove_or_not(path: str, dry_run: bool) -> str:
    return remove(path, dry_run)


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
                print(tool.name, "allows more:", tool.input_schema.get("additionalProperties", "it does not say"))
                for name in ("dry_run", "dryRun"):
                    answer = await session.call_tool(tool.name, {"path": "a", name: True})
                    outcome = "refused" if answer.is_error else answer.content[0].text
                    print(f"{tool.name}, {name}: {outcome}")


asyncio.run(main())
PY

expected="remove allows more: it does not say
remove, dry_run: would remove a
remove, dryRun: removed a
remove_or_not allows more: it does not say
remove_or_not, dry_run: would remove a
remove_or_not, dryRun: refused"

seen=$(timeout 60 "$dir/venv/bin/python" "$dir/client.py" "$dir/server.py")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'this has changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
