"""Calls by Requests as actions that go on in the service which is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from eliot_etw.http._calls import CALL, start_call

if TYPE_CHECKING:
    from requests import PreparedRequest, Response
    from requests.adapters import BaseAdapter
else:
    # All that a session wants of an adapter is what is here.
    BaseAdapter = object


@final
class RequestsAdapter(BaseAdapter):
    """Makes each request of a session an action, and sends along where it goes on.

    The action has the request's method and URL, at its end the response's status; or the
    exception, if there is no response. It ends when the response has begun: its body may be read
    later. Each redirect is a request, and an action, of its own.

    Args:
        adapter: What sends the requests, such as a `requests.adapters.HTTPAdapter`. Retries of
            its own are no requests of their own: those send one place several times.
        action_type: The type of the actions.
    """

    def __init__(self, adapter: BaseAdapter, *, action_type: str = CALL) -> None:
        self._adapter = adapter
        self._action_type = action_type

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request, as the session wants it."""
        # Redirects begin with the headers of the request: ours are not for them.
        sent = request.copy()
        with start_call(self._action_type, sent.method, sent.url, sent.headers) as action:
            response = self._adapter.send(sent, *args, **kwargs)
            action.add_success_fields(status=response.status_code)
        response.request = request
        # By which it is sent once more if it wants a name and a password.
        response.connection = self  # type: ignore[assignment] # the stubs know only one adapter
        return response

    def close(self) -> None:
        """Close the adapter within."""
        self._adapter.close()
