"""A shop in Django, where each request is a task: what it led to, how it ended, how long it took.

    python examples/django_app.py runserver
    curl localhost:8000/orders/17
    eliot-etw tree django_app.log

`LoggedRequests` is what to take along: put it first in ``MIDDLEWARE``. It works with synchronous
and asynchronous views. A streamed response is part of its request, which ends when it is closed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Thread
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from eliot_etw import Action, log_call, log_message, preserve_context, to_file
from eliot_etw.http import continue_from

_DONE = object()


class LoggedRequests:
    """Makes each request a task, with the status of the response; or the exception, if it fails.

    A request whose headers name a task is part of that one.

    To the client, a failed request is a status 500 that Django made of the exception. A status 500
    that the application chose is none.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle a request."""
        fields = {"method": request.method, "path": request.path}
        action = continue_from(request.headers, action_type="http:request", **fields)
        if self._is_async:
            return self._respond_later(request, action)
        with action.context():
            response = self._get_response(request)
        return _answered(request, response, action)

    async def _respond_later(self, request: HttpRequest, action: Action) -> HttpResponse:
        with action.context():
            response = await self._get_response(request)
        return _answered(request, response, action)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Note what a view raised, of which Django is going to make a response."""
        request.exception = exception


def _answered(request: HttpRequest, response: HttpResponse, action: Action) -> HttpResponse:
    """End a request, now or with the last part of its response."""
    action.add_success_fields(status=response.status_code)
    if not response.streaming:
        # An exception such as Http404 is one of Django's ways to answer.
        exception = getattr(request, "exception", None) if response.status_code >= 500 else None
        action.finish(exception)
    elif response.is_async:
        response.streaming_content = LoggedAsyncParts(response.streaming_content, action)
    else:
        response.streaming_content = LoggedParts(response.streaming_content, action)
    return response


class LoggedParts:
    """The parts of a response, each made in the action, which ends when Django closes them."""

    def __init__(self, parts: Iterator[bytes], action: Action) -> None:
        self._parts = parts
        self._action = action

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            part: bytes = self._action.run(next, self._parts)
            return part
        except StopIteration:
            raise
        except BaseException as error:
            self._action.finish(error)
            raise

    def close(self) -> None:
        """End the request; servers close every response, also if the client has gone."""
        self._action.finish()


class LoggedAsyncParts:
    """The same for parts that are made asynchronously."""

    def __init__(self, parts: AsyncIterator[bytes], action: Action) -> None:
        self._parts = parts
        self._action = action

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            with self._action.context():
                return await anext(self._parts)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self._action.finish(error)
            raise

    def close(self) -> None:
        """End the request; servers close every response, also if the client has gone."""
        self._action.finish()


@log_call(action_type="shop:find")
def find(number: int) -> float:
    """Return what an order costs."""
    if number > 1000:
        raise LookupError(f"order {number} is lost")
    return number * 1.5


def order(_request: HttpRequest, number: int) -> JsonResponse:
    """Answer; one order is not there, and some are lost."""
    if number == 404:
        raise Http404
    return JsonResponse({"total": find(number)})


async def order_async(_request: HttpRequest, number: int) -> JsonResponse:
    """Answer from a coroutine."""
    return JsonResponse({"total": find(number)})


def report(_request: HttpRequest, first: int, last: int) -> StreamingHttpResponse:
    """Stream an answer, line by line."""
    return StreamingHttpResponse(f"{n}: {find(n)}\n" for n in range(first, last + 1))


async def report_async(_request: HttpRequest, first: int, last: int) -> StreamingHttpResponse:
    """Stream an answer from a coroutine."""

    async def lines() -> AsyncIterator[str]:
        for number in range(first, last + 1):
            yield f"{number}: {find(number)}\n"

    return StreamingHttpResponse(lines())


def add_order(_request: HttpRequest, item: str) -> HttpResponse:
    """Answer at once, and go on in a thread, which logs in the request all the same."""
    Thread(
        target=preserve_context(log_message), args=("shop:packed",), kwargs={"item": item}
    ).start()
    return HttpResponse(status=202)


def pack(item: str) -> None:
    """Take a while."""
    time.sleep(0.01)
    log_message("shop:packed", item=item)


urlpatterns = [
    path("orders/<int:number>", order),
    path("async/orders/<int:number>", order_async),
    path("report/<int:first>/<int:last>", report),
    path("async/report/<int:first>/<int:last>", report_async),
    path("add/<item>", add_order),
]

settings.configure(
    ALLOWED_HOSTS=["localhost", "testserver"],
    MIDDLEWARE=[f"{__name__}.LoggedRequests"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this example",  # noqa: S106 - there is nothing to protect
)

if __name__ == "__main__":
    to_file("django_app.log")
    execute_from_command_line(sys.argv)
