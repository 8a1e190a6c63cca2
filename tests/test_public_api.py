"""Tests that programs written for Eliot find every name, call it as before, and log the same."""

import inspect
import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

import eliot_etw

needs_eliot = pytest.mark.skipif(find_spec("eliot") is None, reason="Eliot is not installed")


class Call:
    """A way to call something; what the values are does not matter."""

    def __init__(self, *args, **kwargs):
        self.args = args
        self.kwargs = kwargs

    def __repr__(self):
        given = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        return f"({', '.join(given)})"


START = [
    Call(),
    Call(None, "type"),
    Call(None, "type", None),
    Call(logger=None, action_type="type", _serializers=None, x=1),
    Call(None, "type", x=1),
]
ADD_DESTINATION = [Call(print), Call(destination=print)]
GLOBAL_FIELDS = [Call(), Call(x=1)]
ASSERT = [Call(None, None, None), Call(test=None, message={}, fields={})]
FORMAT = [Call({}), Call({}, True), Call(message={}, local_timezone=True)]

# Every name of Eliot's public modules, and ways to call it that Eliot documents.
CALLS = {
    "": {
        "start_action": START,
        "start_task": START,
        "startAction": START,
        "startTask": START,
        "log_message": [Call("type"), Call("type", x=1), Call(message_type="type", x=1)],
        "log_call": [
            Call(print),
            Call(wrapped_function=print),
            Call(action_type="type", include_args=["x"], include_result=False),
        ],
        "preserve_context": [Call(print), Call(f=print)],
        "current_action": [Call()],
        "Action": [Call(None, "uuid", [1], "type"), Call(None, "uuid", [1], "type", None)],
        "Action.serialize_task_id": [Call(None)],
        "Action.serializeTaskId": [Call(None)],
        "Action.continue_task": [
            Call(task_id=b"x@/1"),
            Call(None, b"x@/1"),
            Call(logger=None, task_id="x@/1", action_type="type", x=1),
        ],
        "Action.continueTask": [Call(task_id=b"x@/1")],
        "Action.log": [Call(None, "type", x=1), Call(None, message_type="type")],
        "Action.add_success_fields": [Call(None), Call(None, x=1)],
        "Action.addSuccessFields": [Call(None, x=1)],
        "Action.finish": [Call(None), Call(None, ValueError()), Call(None, exception=None)],
        "Action.run": [Call(None, print), Call(None, print, 1, end="")],
        "Action.context": [Call(None)],
        "Action.child": [Call(None, None, "type"), Call(None, None, "type", None)],
        "Action.__enter__": [Call(None)],
        "Action.__exit__": [Call(None, None, None, None)],
        "Message": [Call({}), Call({}, None), Call(contents={}, serializer=None)],
        "Message.new": [Call(), Call(x=1), Call(None, x=1)],
        "Message.log": [Call(), Call(x=1)],
        "Message.bind": [Call(None), Call(None, x=1)],
        "Message.contents": [Call(None)],
        "Message.write": [
            Call(None),
            Call(None, None, None),
            Call(None, logger=None, action=None),
        ],
        "MessageType": [
            Call("type", []),
            Call("type", [], "text"),
            Call(message_type="type", fields=[], description="text"),
        ],
        "MessageType.__call__": [Call(None), Call(None, x=1)],
        "MessageType.log": [Call(None), Call(None, x=1)],
        "ActionType": [
            Call("type", [], []),
            Call("type", [], [], "text"),
            Call(action_type="type", startFields=[], successFields=[], description="text"),
        ],
        "ActionType.__call__": [Call(None), Call(None, None, x=1), Call(None, logger=None, x=1)],
        "ActionType.as_task": [Call(None), Call(None, None, x=1), Call(None, logger=None, x=1)],
        "ActionType.asTask": [Call(None, None, x=1)],
        "Field": [
            Call("x", str),
            Call("x", str, "text", None),
            Call(key="x", serializer=str, description="text", extraValidator=None),
        ],
        "Field.for_value": [Call("x", 1), Call(key="x", value=1, description="text")],
        "Field.forValue": [Call("x", 1)],
        "Field.for_types": [
            Call("x", [int]),
            Call(key="x", classes=[int], description="text", extraValidator=None),
        ],
        "Field.forTypes": [Call("x", [int])],
        "Field.validate": [Call(None, 1), Call(None, input=1)],
        "Field.serialize": [Call(None, 1), Call(None, input=1)],
        "fields": [Call(), Call(None, x=int)],
        "ValidationError": [Call(), Call("text"), Call({}, "text")],
        "ILogger.write": [Call(None, {}), Call(None, {}, None), Call(None, dictionary={})],
        "Logger": [Call()],
        "Logger.write": [Call(None, {}, None), Call(None, dictionary={}, serializer=None)],
        "MemoryLogger": [Call(), Call(None), Call(encoder=None, json_default=str)],
        "MemoryLogger.write": [Call(None, {}, None), Call(None, dictionary={}, serializer=None)],
        "MemoryLogger.validate": [Call(None)],
        "MemoryLogger.serialize": [Call(None)],
        "MemoryLogger.reset": [Call(None)],
        "MemoryLogger.flush_tracebacks": [Call(None, ValueError)],
        "MemoryLogger.flushTracebacks": [Call(None, ValueError)],
        "write_traceback": [Call(), Call(None, None), Call(logger=None, exc_info=None)],
        "writeTraceback": [Call()],
        "write_failure": [Call(None), Call(None, None), Call(failure=None, logger=None)],
        "writeFailure": [Call(None)],
        "register_exception_extractor": [
            Call(ValueError, dict),
            Call(exception_class=ValueError, extractor=dict),
        ],
        "add_destinations": [Call(), Call(print), Call(print, print)],
        "add_destination": ADD_DESTINATION,
        "addDestination": ADD_DESTINATION,
        "remove_destination": ADD_DESTINATION,
        "removeDestination": ADD_DESTINATION,
        "add_global_fields": GLOBAL_FIELDS,
        "addGlobalFields": GLOBAL_FIELDS,
        "to_file": [
            Call(None),
            Call(output_file=None, encoder=None, json_default=str),
        ],
        "FileDestination": [
            Call(None),
            Call(file=None, encoder=None, json_default=str),
        ],
        "use_asyncio_context": [Call()],
    },
    "testing": {
        "capture_logging": [
            Call(None),
            Call(print, 1, x=1),
            Call(None, encoder_=json.JSONEncoder),
        ],
        "validate_logging": [Call(None), Call(print, 1, x=1)],
        "validateLogging": [Call(None)],
        "swap_logger": [Call(None), Call(logger=None)],
        "check_for_errors": [Call(None), Call(logger=None)],
        "UnflushedTracebacks": [Call([])],
        "issuperset": [Call({}, {})],
        "assertContainsFields": ASSERT,
        "assertHasMessage": [
            Call(None, None, None),
            Call(None, logger=None, messageType=None, fields=None),
        ],
        "assertHasAction": [
            Call(None, None, None, True),
            Call(
                None,
                logger=None,
                actionType=None,
                succeeded=True,
                startFields=None,
                endFields=None,
            ),
        ],
        "LoggedAction": [
            Call({}, {}, []),
            Call(startMessage={}, endMessage={}, children=[]),
        ],
        "LoggedAction.fromMessages": [Call("uuid", [1], [])],
        "LoggedAction.from_messages": [Call("uuid", [1], [])],
        "LoggedAction.of_type": [Call([], "type")],
        "LoggedAction.ofType": [Call([], "type")],
        "LoggedAction.descendants": [Call(None)],
        "LoggedAction.type_tree": [Call(None)],
        "LoggedMessage": [Call({}), Call(message={})],
        "LoggedMessage.of_type": [Call([], "type")],
        "LoggedMessage.ofType": [Call([], "type")],
        "MemoryLogger": [Call()],
    },
    "parse": {
        "Parser": [Call()],
        "Parser.add": [Call(None, {})],
        "Parser.incomplete_tasks": [Call(None)],
        "Parser.parse_stream": [Call([])],
        "Task": [Call()],
        "Task.root": [Call(None)],
        "Task.add": [Call(None, {})],
        "Task.is_complete": [Call(None)],
        "WrittenAction": [],
        "WrittenMessage": [],
        "TaskLevel": [Call([1]), Call(level=[1])],
        "TaskLevel.from_string": [Call("/1")],
        "TaskLevel.fromString": [Call("/1")],
        "TaskLevel.to_string": [Call(None)],
        "TaskLevel.toString": [Call(None)],
    },
    "json": {
        "EliotJSONEncoder": [Call()],
        "EliotJSONEncoder.default": [Call(None, {1})],
        "json_default": [Call({1})],
    },
    "prettyprint": {
        "pretty_format": FORMAT,
        "compact_format": FORMAT,
        "main": [Call()],
    },
    "filter": {
        "EliotFilter": [Call("J", [], None)],
        "EliotFilter.run": [Call(None)],
        "main": [Call(), Call(sys)],
    },
    "serializers": {
        "identity": [Call(1)],
        "timestamp": [Call(1)],
        "md5hex": [Call(b"")],
    },
    "twisted": {
        "AlreadyFinished": [Call()],
        "DeferredContext": [Call(None), Call(deferred=None)],
        "DeferredContext.addCallback": [Call(None, print), Call(None, print, 1, x=1)],
        "DeferredContext.addErrback": [Call(None, print), Call(None, print, 1, x=1)],
        "DeferredContext.addBoth": [Call(None, print), Call(None, print, 1, x=1)],
        "DeferredContext.addCallbacks": [
            Call(None, print),
            Call(None, print, print, (), {}, (), {}),
            Call(
                None,
                callback=print,
                errback=None,
                callbackArgs=None,
                callbackKeywords=None,
                errbackArgs=None,
                errbackKeywords=None,
            ),
        ],
        "DeferredContext.addActionFinish": [Call(None)],
        "TwistedDestination": [Call()],
        "inline_callbacks": [Call(print), Call(original=print, debug=True)],
        "redirectLogsForTrial": [Call()],
    },
    "logwriter": {
        "ThreadedWriter": [Call(print, None), Call(destination=print, reactor=None)],
        "ThreadedWriter.startService": [Call(None)],
        "ThreadedWriter.stopService": [Call(None)],
    },
    "dask": {
        "compute_with_trace": [Call(), Call(None, None)],
        "persist_with_trace": [Call(), Call(None, None)],
    },
}


def module(name):
    """Import one of our modules, if what it needs is installed."""
    if not name:
        return eliot_etw
    return pytest.importorskip(f"eliot_etw.{name}", exc_type=ImportError)


def found(name, dotted):
    """Find something in one of our modules."""
    thing = module(name)
    for part in dotted.split("."):
        thing = getattr(thing, part)
    return thing


def signature_of(thing):
    """Return a signature that takes by name what ours take out of the fields.

    Some versions of Python refuse to bind a name that is both a parameter by place and a field.
    """
    signature = inspect.signature(thing)
    by_place = inspect.Parameter.POSITIONAL_ONLY
    return signature.replace(
        parameters=[
            parameter.replace(name=f"{parameter.name}_")
            if parameter.kind is by_place
            else parameter
            for parameter in signature.parameters.values()
        ]
    )


@pytest.mark.parametrize(
    ("name", "dotted", "call"),
    [
        pytest.param(name, dotted, call, id=f"{name or 'eliot'}.{dotted}{call}")
        for name, things in CALLS.items()
        for dotted, calls in things.items()
        for call in calls
    ],
)
def test_called_as_before(name, dotted, call):
    """Each name is there, and takes the arguments that Eliot documents."""
    thing = found(name, dotted)
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        thing(*call.args)  # such classes have no signature
    else:
        signature_of(thing).bind(*call.args, **call.kwargs)


@pytest.mark.parametrize("name", CALLS)
class TestExports:
    """What the modules offer."""

    def test_all_names(self, name):
        """Every name is there, the ones without a call as well."""
        names = {dotted for dotted in CALLS[name] if "." not in dotted}
        assert names <= set(dir(module(name))) | set(module(name).__all__)

    def test_sorted(self, name):
        """`__all__` is sorted, without doubles, and holds nothing that is not there."""
        names = module(name).__all__
        assert sorted(set(names)) == list(names)
        for each in names:
            assert getattr(module(name), each) is not None

    def test_complete(self, name):
        """`__all__` holds every name of Eliot's."""
        assert {dotted for dotted in CALLS[name] if "." not in dotted} <= set(module(name).__all__)


def test_package_offers_nothing_by_accident():
    """What can be imported from the package is in `__all__`, or private, or a module."""
    public = {
        name
        for name, value in vars(eliot_etw).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(eliot_etw.__all__) - {"__version__"}


@needs_eliot
@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("", "eliot"),
        ("testing", "eliot"),
        ("parse", "eliot"),
        ("json", "eliot"),
        ("serializers", "eliot"),
        ("twisted", "twisted"),
        ("logwriter", "twisted"),
        ("dask", "dask"),
    ],
)
def test_nothing_of_eliots_is_missing(name, needed):
    """What is in `__all__` of Eliot's modules is in ours."""
    pytest.importorskip(needed)
    theirs = import_module(f"eliot.{name}" if name else "eliot")
    defined = {key for key, value in vars(theirs).items() if is_defined_in(theirs, value)}
    public = {key for key in getattr(theirs, "__all__", defined) if not key.startswith("_")}
    assert public <= set(module(name).__all__)


def is_defined_in(module, value):
    """Say whether something is a module's own."""
    return getattr(value, "__module__", None) == module.__name__


# Programs as Eliot's documentation has them: they must log the same with either library.
PROGRAMS = {
    "messages": """
eliot.log_message(message_type="app:start", port=80)
eliot.log_message("app:bare")
with eliot.start_action(action_type="app:serve"):
    eliot.log_message("app:request", path="/", size=12.5, tags=["a", None], nested={"x": {"y": 1}})
""",
    "actions": """
with eliot.start_action(action_type="outer", x=1) as outer:
    with eliot.start_action(action_type="inner") as inner:
        inner.add_success_fields(found=7)
        inner.log("message", y=2)
    outer.log(message_type="after")
    with eliot.start_task(action_type="elsewhere"):
        eliot.log_message("there")
    assert eliot.current_action() is outer
assert eliot.current_action() is None
""",
    "failures": """
class AppError(Exception):
    pass
def fail():
    with eliot.start_action(action_type="a", x=1):
        with eliot.start_action(action_type="b") as action:
            action.add_success_fields(never=1)
            raise AppError("no room")
try:
    fail()
except AppError:
    pass
try:
    with eliot.start_action(action_type="c"):
        open("/no/such/file")
except OSError:
    eliot.write_traceback()
""",
    "by hand": """
action = eliot.start_action(action_type="a")
with action.context():
    eliot.log_message("within")
action.run(eliot.log_message, "run", x=1)
action.finish()
action.finish(ValueError())
other = eliot.start_task(action_type="b")
other.finish(ValueError("bad"))
""",
    "old messages": """
message = eliot.Message.new(message_type="old", x=1)
message.bind(y=2).write()
eliot.Message.log(message_type="log", z=3)
with eliot.startAction(action_type="a") as action:
    message.write(None, action)
    message.write(eliot.Logger())
    action.addSuccessFields(w=4)
eliot.startTask(action_type="t").finish()
""",
    "types": """
F = eliot.fields
START = eliot.MessageType("app:start", F(port=int, host=str), "It starts.")
COPY = eliot.ActionType("app:copy", [eliot.Field("path", repr, "Where.")], F(size=int), "Copies.")
START.log(port=80, host="localhost")
START(port=81, host="x").write()
with COPY(path="a") as action:
    action.add_success_fields(size=3)
with COPY.as_task(path=b"b") as action:
    action.add_success_fields(size=4)
try:
    with COPY(path=None):
        raise ValueError("no")
except ValueError:
    pass
""",
    "functions": """
@eliot.log_call
def add(a, b=2, *rest, **more):
    return a + b
@eliot.log_call(action_type="mul", include_args=["a"], include_result=False)
def mul(a, b):
    eliot.log_message("within")
    return a * b
class Account:
    @eliot.log_call
    def pay(self, amount):
        raise RuntimeError("poor")
add(1)
add(1, b=3)
mul(2, b=4)
try:
    Account().pay(5)
except RuntimeError:
    pass
""",
    "other threads and processes": """
import threading
with eliot.start_action(action_type="main") as action:
    task_id = action.serialize_task_id()
    with eliot.Action.continue_task(task_id=task_id):
        eliot.log_message("continued")
    task_id = action.serializeTaskId().decode()
    with eliot.Action.continue_task(task_id=task_id, action_type="x", y=1):
        pass
    thread = threading.Thread(target=eliot.preserve_context(lambda: eliot.log_message("thread")))
    thread.start()
    thread.join()
    thread = threading.Thread(target=lambda: eliot.log_message("alone"))
    thread.start()
    thread.join()
""",
    "extractors": """
class HTTPError(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code
class NotFound(HTTPError):
    pass
eliot.register_exception_extractor(HTTPError, lambda error: {"code": error.code})
try:
    with eliot.start_action(action_type="a"):
        raise NotFound(404)
except HTTPError:
    eliot.writeTraceback()
""",
    "global fields and destinations": """
eliot.add_global_fields(program="p")
eliot.addGlobalFields(version=2)
seen = []
eliot.addDestination(seen.append)
eliot.log_message("seen", x=1)
eliot.removeDestination(seen.append)
eliot.log_message("unseen")
assert [m["message_type"] for m in seen] == ["seen"], seen
""",
    "rich values": """
import datetime, decimal, enum, pathlib, uuid
class Colour(enum.Enum):
    RED = "red"
eliot.log_message("values", path=pathlib.Path("/a/b"), date=datetime.date(2024, 2, 29),
    time=datetime.datetime(2024, 2, 29, 1, 2, 3), set={1}, colour=Colour.RED, id=uuid.UUID(int=1),
    complex=1j, bytes=b"x".decode(), unknown=ValueError("x"), infinity=float("inf"))
""",
    "serialization failures": """
def refuse(value):
    raise ValueError("cannot")
eliot.MessageType("bad", [eliot.Field("x", refuse)]).log(x=1)
""",
    "destination failures": """
def failing(message):
    if message.get("message_type") == "t":
        raise ValueError("no place")
eliot.add_destinations(failing)
eliot.log_message("t")
eliot.log_message("u")
""",
}
# What differs, and why: the program, the message's type or status, and the field.
DIFFERENT = {
    # Eliot logs the message alone; ours has a place and a reason as every message has.
    ("destination failures", "eliot:destination_failure"): {"message"},
    ("serialization failures", "eliot:serialization_failure"): {"message"},
}


def run(program, library, folder):
    """Run a program with a library, and return what it logged, without what differs by nature."""
    path = folder / f"{library}.log"
    head = f"import {library} as eliot\neliot.to_file(open({str(path)!r}, 'ab'))\n"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", head + PROGRAMS[program]],
        check=True,
        timeout=60,
        cwd=folder,
    )
    messages = [json.loads(line) for line in path.read_bytes().splitlines()]
    tasks = {}
    for message in messages:
        assert isinstance(message.pop("timestamp"), float)
        message["task_uuid"] = tasks.setdefault(message["task_uuid"], len(tasks))
        if "traceback" in message:
            message["traceback"] = message["traceback"].splitlines()[-1]
        for field in DIFFERENT.get((program, message.get("message_type")), ()):
            assert message.pop(field)
    return messages


@needs_eliot
@pytest.mark.parametrize("program", PROGRAMS)
def test_logs_the_same(program, tmp_path):
    """A program that imports this package as Eliot logs what it logs with Eliot."""
    assert run(program, "eliot", tmp_path) == run(program, "eliot_etw", tmp_path)


@needs_eliot
@pytest.mark.parametrize("program", PROGRAMS)
def test_read_by_eliot(program, tmp_path):
    """Eliot's own parser finds complete tasks in what was logged."""
    from eliot.parse import Parser

    run(program, "eliot_etw", tmp_path)
    lines = (tmp_path / "eliot_etw.log").read_bytes().splitlines()
    tasks = list(Parser.parse_stream(map(json.loads, lines)))
    assert {json.loads(line)["task_uuid"] for line in lines} == {
        task.root().task_uuid for task in tasks
    }
    assert all(task.is_complete() for task in tasks)
