"""A shop in FastAPI, where each request is a task: what it led to, how it ended, how long it took.

    uvicorn --app-dir examples fastapi_app:app
    curl localhost:8000/orders/17
    eliot-etw tree fastapi_app.log

The middleware is plain ASGI, so it fits Starlette and any other framework too. A request lasts
until all of its answer is sent and its background tasks are done. If it fails, the client gets a
status 500 that the framework made of the exception; one that the application chose is no failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from eliot_etw import log_call, log_message, to_file
from eliot_etw.http import AsgiMiddleware


@asynccontextmanager
async def log_to_file(_app: FastAPI) -> AsyncIterator[None]:
    """Begin to log when the server starts."""
    to_file("fastapi_app.log")
    yield


app = FastAPI(lifespan=log_to_file)
app.add_middleware(AsgiMiddleware)


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
