"""A shop in FastAPI, where each request is a task: what it led to, how it ended, how long it took.

    uvicorn --app-dir examples fastapi_app:app
    curl localhost:8000/orders/17
    eliot-etw tree fastapi_app.log

`LoggedRequests` is what to take along. It is plain ASGI, so it fits Starlette and any other
framework too. A request lasts until all of its answer is sent and its background tasks are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eliot_etw import log_call, log_message, start_task, to_file


class LoggedRequests:
    """Makes each request a task, with the status of the response; or the exception, if it fails.

    To the client, a failed request is a status 500 that the framework made of the exception. A
    status 500 that the application chose is none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, as ASGI wants it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with start_task(
            action_type="http:request", method=scope["method"], path=scope["path"]
        ) as action:

            async def note_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    action.add_success_fields(status=message["status"])
                await send(message)

            await self._app(scope, receive, note_status)


@asynccontextmanager
async def log_to_file(_app: FastAPI) -> AsyncIterator[None]:
    """Begin to log when the server starts."""
    to_file("fastapi_app.log")
    yield


app = FastAPI(lifespan=log_to_file)
app.add_middleware(LoggedRequests)


@log_call(action_type="shop:find")
def find(number: int) -> float:
    """Return what an order costs."""
    if number > 1000:
        raise LookupError(f"order {number} is lost")
    return number * 1.5


@app.get("/orders/{number}")
async def order(number: int) -> dict[str, float]:
    """Answer; one order is not there, and some are lost."""
    if number == 404:
        raise HTTPException(404)
    return {"total": find(number)}


@app.get("/threads/{number}")
def order_in_thread(number: int) -> dict[str, float]:
    """Answer from one of the framework's threads, where the request is current too."""
    return {"total": find(number)}


@app.get("/report")
async def report(first: int, last: int) -> StreamingResponse:
    """Stream an answer, line by line."""

    def lines() -> Iterator[str]:
        for number in range(first, last + 1):
            yield f"{number}: {find(number)}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.post("/orders", status_code=202)
async def add_order(item: str, tasks: BackgroundTasks) -> None:
    """Answer, and go on after that."""
    tasks.add_task(pack, item)


async def pack(item: str) -> None:
    """Take a while."""
    await asyncio.sleep(0.01)
    log_message("shop:packed", item=item)
