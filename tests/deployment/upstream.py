"""A program that stands for one process of ``gatewise serve`` behind a proxy: ``python upstream.py PORT``.

It says on which port it is and what headers came, streams two events of which the second waits for a request, and
echoes a WebSocket.
"""

import asyncio
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

PORT = sys.argv[1]
go_on = asyncio.Event()


async def create(request):
    return JSONResponse({"id": f"{PORT}-abc", "model": "m", "position": 0}, 201)


async def show(request):
    body = await request.body()
    return JSONResponse({"port": PORT, "size": len(body), "path": request.url.path, "headers": dict(request.headers)})


async def generate(request):
    async def events():
        yield 'event: token\ndata: {"position": 1}\n\n'
        await go_on.wait()
        yield 'event: done\ndata: {"position": 1}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream")


async def finish(request):
    go_on.set()
    return JSONResponse({})


async def echo(socket):
    await socket.accept(subprotocol="gatewise")
    await socket.send_text(f"{PORT} {await socket.receive_text()} {socket.headers['origin']}")
    await socket.close()


app = Starlette(
    routes=[
        Route("/v1/sessions", create, methods=["POST"]),
        Route("/v1/sessions/{id}/generate", generate, methods=["POST"]),
        Route("/v1/sessions/{id}/finish", finish, methods=["POST"]),
        WebSocketRoute("/v1/sessions/{id}/ws", echo),
        Route("/{rest:path}", show, methods=["GET", "PUT"]),
    ]
)
uvicorn.run(app, host="127.0.0.1", port=int(PORT), log_level="error")
