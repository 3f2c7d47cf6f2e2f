"""A server of the Python library `mcp` over HTTP, in both forms, for the client of the provider `model`. Says the port
at which it listens. Its arguments are that port, 0 for any, and `json` if it is to answer without streams where it
can."""

import socket
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("judge")


@server.tool()
def add(a: int, b: int) -> str:
    """Adds."""
    return f"sum={a + b}"


@server.tool()
async def talk(ctx: Context) -> str:
    """Says what it does in between, so that its answer is a stream."""
    for done in range(3):
        await ctx.report_progress(done, 3)
        await ctx.info("going on")
    return "talked"


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("it broke")


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print(listener.getsockname()[1], flush=True)
app = server.streamable_http_app(json_response="json" in sys.argv)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
