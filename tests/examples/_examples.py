"""What tests of the examples for frameworks share: how to load one, how to look at its log."""

import sys
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from eliot_etw import current_action
from eliot_etw.parse import Parser
from eliot_etw.testing import LoggedAction

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name):
    """Import an example."""
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_for_threads():
    """Wait for the threads that a program started and did not wait for."""
    for thread in threading.enumerate():
        if thread.name.startswith("Thread-") and not thread.daemon:
            thread.join()


def the_request(messages):
    """Return the only request, as what its start and its end say, and what is in it.

    The tree is complete, and nothing is current after it.
    """
    assert [tree.is_complete() for tree in Parser.parse_stream(messages)] == [True]
    assert current_action() is None
    (request,) = LoggedAction.of_type(messages, "http:request")
    start = {name: request.start_message[name] for name in ("method", "path", "action_status")}
    end = {
        name: value
        for name, value in request.end_message.items()
        if name in ("status", "reason", "exception", "action_status")
    }
    return start, end, request.type_tree()["http:request"]


def started(path, method="GET"):
    """Say what the start of a request looks like."""
    return {"method": method, "path": path, "action_status": "started"}


def succeeded(status):
    """Say what the end of a request looks like that was answered."""
    return {"status": status, "action_status": "succeeded"}


def failed(number):
    """Say what the end of a request looks like that asked for an order that is lost."""
    return {
        "reason": f"order {number} is lost",
        "exception": "builtins.LookupError",
        "action_status": "failed",
    }
