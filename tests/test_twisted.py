"""Tests of actions across Deferreds and of Twisted's log, with the real Twisted."""

import gc
import json
import subprocess
import sys
import weakref

import pytest

pytest.importorskip("twisted")

from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from eliot_etw import (
    add_destinations,
    current_action,
    log_message,
    logging_stats,
    register_exception_extractor,
    start_action,
    write_failure,
    write_traceback,
)
from eliot_etw.exceptions import AlreadyFinished, MissingDependency
from eliot_etw.testing import LoggedAction
from eliot_etw.twisted import (
    DeferredContext,
    TwistedDestination,
    _is_trial,
    inline_callbacks,
    redirectLogsForTrial,
)


def tree(messages, action_type):
    """Return the types of an action and of what is in it."""
    (action,) = LoggedAction.of_type(messages, action_type)
    return action.type_tree()


def ends(messages):
    """Return the status of each action that has ended, by its type."""
    return {
        message["action_type"]: message["action_status"]
        for message in messages
        if message.get("action_status", "started") != "started"
    }


def note_current(result, noted):
    """Note which action is current, and pass the result on."""
    noted.append(current_action())
    return result


class TestDeferredContext:
    """Callbacks run in the action that was current when the context was made."""

    def test_needs_an_action(self):
        """Without a current action there is nothing to run callbacks in."""
        with pytest.raises(RuntimeError, match="needs a current action, there is none"):
            DeferredContext(Deferred())

    @pytest.mark.parametrize("result", [1, Failure(ValueError())])
    @pytest.mark.parametrize("method", ["addCallback", "addErrback", "addBoth"])
    def test_current_action(self, method, result, messages):
        """Whoever fires the Deferred, and within what, its callbacks run in the action."""
        noted = []
        fired = Deferred()
        with start_action(action_type="a").context() as action:
            context = DeferredContext(fired)
            getattr(context, method)(note_current, noted)
        fired.addErrback(lambda failure: None)
        with start_action(action_type="another") as other:
            fired.callback(result)
            assert current_action() is other
        is_called = method == "addBoth" or isinstance(result, Failure) == (method == "addErrback")
        assert noted == [action] * is_called
        assert current_action() is None

    def test_callbacks_and_errbacks(self):
        """The pair gets its arguments, and one of them is called."""
        got = []
        for start in (succeed("result"), fail(ValueError("reason"))):
            with start_action(action_type="a").context():
                DeferredContext(start).addCallbacks(
                    lambda *args, **kw: got.append((args, kw)),
                    lambda failure, *args, **kw: got.append((str(failure.value), args, kw)),
                    (1,),
                    {"x": 2},
                    (3,),
                    {"y": 4},
                )
        assert got == [(("result", 1), {"x": 2}), ("reason", (3,), {"y": 4})]

    def test_no_errback(self):
        """Without an errback, a failure is passed on."""
        failure = Failure(ValueError())
        with start_action(action_type="a").context():
            context = DeferredContext(fail(failure)).addCallbacks(str)
        assert context.addErrback(lambda failure: [failure]).result.result == [failure]

    def test_names_of_parameters_are_free(self):
        """A callback may have arguments of any name."""
        with start_action(action_type="a").context():
            got = DeferredContext(succeed(0)).addCallback(
                lambda result, **kw: kw, callback=1, self=2
            )
        assert got.result.result == {"callback": 1, "self": 2}

    def test_result_is_passed_on(self):
        """What a callback returns is the next one's argument, what it raises the errback's."""
        with start_action(action_type="a").context():
            context = DeferredContext(succeed(1)).addCallback(lambda x: x + 1)
            context.addCallback(lambda x: 1 / (x - 2)).addErrback(lambda f: f.type)
        assert context.result.result is ZeroDivisionError

    def test_nested_contexts(self, messages):
        """Each keeps its own action, also when one Deferred waits for the other."""
        inner, outer = Deferred(), Deferred()

        def work(result):
            with start_action(action_type="inner").context():
                log_message("inner:1")
                context = DeferredContext(inner).addCallback(lambda _: log_message("inner:2"))
                return context.addActionFinish()

        with start_action(action_type="outer").context():
            context = DeferredContext(outer).addCallback(work)
            context.addCallback(lambda _: log_message("outer:1")).addActionFinish()
        outer.callback(None)
        assert ends(messages) == {}
        inner.callback(None)
        assert tree(messages, "outer") == {
            "outer": [{"inner": ["inner:1", "inner:2"]}, "outer:1"],
        }
        assert ends(messages) == {"inner": "succeeded", "outer": "succeeded"}

    def test_action_left_open_in_a_callback(self, messages):
        """What a callback makes current and forgets is not current in what is called next."""
        noted = []
        with start_action(action_type="a").context() as action:
            context = DeferredContext(Deferred())
            context.addCallback(lambda _: start_action(action_type="b").__enter__())
            context.addCallback(note_current, noted)
        context.result.callback(None)
        assert (noted, current_action()) == ([action], None)

    def test_callback_that_raises(self, messages):
        """The current action of whoever fires the Deferred is back."""
        with start_action(action_type="a").context():
            finished = DeferredContext(Deferred()).addCallback(lambda _: 1 / 0).addActionFinish()
        with start_action(action_type="another") as other:
            finished.callback(None)
            assert current_action() is other
        finished.addErrback(lambda failure: failure.trap(ZeroDivisionError))
        assert ends(messages)["a"] == "failed"

    def test_callback_added_within_a_callback(self, messages):
        """Callbacks may add callbacks, which run in the action too."""
        with start_action(action_type="a").context():
            context = DeferredContext(Deferred())

        def add_another(result):
            context.addCallback(lambda _: log_message("late"))
            context.addActionFinish()

        context.addCallback(add_another).result.callback(None)
        assert tree(messages, "a") == {"a": ["late"]}

    def test_warnings_name_the_callback(self):
        """Twisted's warnings about a callback tell of it, not of what is around it."""
        with start_action(action_type="a").context():
            context = DeferredContext(Deferred())
            context.addCallback(lambda _: context.result)
        with pytest.warns(DeprecationWarning, match="Callback returned the Deferred") as warned:
            context.result.callback(None)
        assert warned[0].filename == __file__


class TestActionFinish:
    """The action ends when the callbacks before the end of it have run."""

    def test_succeeds(self, messages):
        """A result that is no failure ends the action well, and is passed on."""
        with start_action(action_type="a").context():
            finished = DeferredContext(Deferred()).addActionFinish()
        assert ends(messages) == {}
        finished.callback(3)
        assert (finished.result, ends(messages)) == (3, {"a": "succeeded"})

    def test_fails(self, messages):
        """A failure ends the action with what it says, and is passed on."""
        with start_action(action_type="a").context():
            finished = DeferredContext(fail(ValueError("no"))).addActionFinish()
        assert finished.addErrback(lambda failure: failure.value.args).result == ("no",)
        assert (messages[1]["exception"], messages[1]["reason"]) == ("builtins.ValueError", "no")

    def test_waits_for_a_deferred_that_a_callback_returned(self, messages):
        """The action lasts until the last of its work is done."""
        inner = Deferred()
        with start_action(action_type="a").context():
            DeferredContext(succeed(1)).addCallback(lambda _: inner).addActionFinish()
        assert ends(messages) == {}
        inner.callback(None)
        assert ends(messages) == {"a": "succeeded"}

    def test_errback_that_recovers(self, messages):
        """Who handles a failure has succeeded."""
        with start_action(action_type="a").context():
            DeferredContext(fail(ValueError())).addErrback(lambda _: None).addActionFinish()
        assert ends(messages) == {"a": "succeeded"}

    def test_cancelled(self, messages):
        """An action of which the work was cancelled has failed with that."""
        with start_action(action_type="a").context():
            finished = DeferredContext(Deferred()).addActionFinish()
        finished.cancel()
        finished.addErrback(lambda failure: failure.trap(CancelledError))
        assert messages[-1]["exception"].endswith("CancelledError")
        assert current_action() is None

    def test_timed_out(self, messages):
        """So has one that took too long."""
        clock = Clock()
        with start_action(action_type="a").context():
            context = DeferredContext(Deferred())
            context.result.addTimeout(5, clock)
            finished = context.addActionFinish()
        clock.advance(6)
        finished.addErrback(lambda failure: None)
        assert messages[-1]["exception"].endswith("TimeoutError")

    @pytest.mark.parametrize(
        "add",
        [
            lambda context: context.addCallback(str),
            lambda context: context.addErrback(str),
            lambda context: context.addBoth(str),
            lambda context: context.addCallbacks(str),
            lambda context: context.addActionFinish(),
        ],
    )
    def test_is_the_last(self, add):
        """What is added later could not be in the action any more."""
        with start_action(action_type="a").context():
            context = DeferredContext(Deferred())
            context.addActionFinish()
        with pytest.raises(AlreadyFinished, match="before addActionFinish"):
            add(context)

    def test_never_fires(self, messages):
        """Nothing is logged then, and nothing is kept alive."""
        with start_action(action_type="a").context() as action:
            finished = DeferredContext(Deferred()).addCallback(str).addActionFinish()
        kept = weakref.ref(action)
        del action, finished
        gc.collect()
        assert (kept(), len(messages)) == (None, 1)


class TestInlineCallbacks:
    """A generator's actions are its own."""

    def test_action_across_a_yield(self, messages):
        """It is current in the generator, and nowhere else."""
        waiting = Deferred()

        @inline_callbacks
        def work():
            with start_action(action_type="work") as action:
                value = yield waiting
                assert current_action() is action
                log_message("resumed", value=value)
                return value

        done = work()
        assert current_action() is None
        log_message("outside")
        with start_action(action_type="another"):
            waiting.callback(3)
            log_message("after")
        assert done.result == 3
        assert tree(messages, "work") == {"work": ["resumed"]}
        assert tree(messages, "another") == {"another": ["after"]}

    def test_nested(self, messages):
        """Generators that wait for each other, two at a time, each log in their own places."""
        waiting = [Deferred() for _ in range(4)]

        @inline_callbacks
        def inner(number):
            with start_action(action_type=f"inner {number}"):
                yield waiting[number]
                log_message("m")

        @inline_callbacks
        def outer(number):
            with start_action(action_type=f"outer {number}"):
                yield inner(number)
                yield inner(number + 2)

        with start_action(action_type="all"):
            done = [outer(0), outer(1)]
        for number in (1, 0, 2, 3):
            waiting[number].callback(None)
        assert [d.result for d in done] == [None, None]
        assert tree(messages, "all") == {
            "all": [
                {"outer 0": [{"inner 0": ["m"]}, {"inner 2": ["m"]}]},
                {"outer 1": [{"inner 1": ["m"]}, {"inner 3": ["m"]}]},
            ]
        }

    def test_failure_is_thrown_in(self, messages):
        """What the Deferred fails with is raised in the generator, in its action."""

        @inline_callbacks
        def work():
            with start_action(action_type="work"):
                try:
                    yield fail(ValueError())
                except ValueError:
                    write_traceback()

        assert work().result is None
        assert tree(messages, "work") == {"work": ["eliot:traceback"]}

    def test_cancelled(self, messages):
        """Its actions fail when it is cancelled, innermost first."""

        @inline_callbacks
        def work():
            with start_action(action_type="outer"), start_action(action_type="inner"):
                yield Deferred()

        done = work()
        with start_action(action_type="another") as other:
            done.cancel()
            assert current_action() is other
        done.addErrback(lambda failure: failure.trap(CancelledError))
        assert list(ends(messages).items())[:2] == [("inner", "failed"), ("outer", "failed")]

    def test_never_fires(self, messages):
        """When the generator is thrown away, so are its actions; the current one is not."""

        @inline_callbacks
        def work():
            with start_action(action_type="work"):
                yield Deferred()

        with start_action(action_type="another") as other:
            work()
            gc.collect()
            assert current_action() is other
        assert ends(messages) == {"work": "failed", "another": "succeeded"}

    def test_debug(self, messages):
        """Each yield is logged if that is asked for."""

        def work():
            yield None

        with start_action(action_type="a"):
            inline_callbacks(work, debug=True)()
            inline_callbacks(work)()
        assert tree(messages, "a") == {"a": ["yielded"]}

    def test_with_twisteds_own(self, messages):
        """Generators of both kinds may wait for each other."""

        @inlineCallbacks
        def inner():
            yield None
            log_message("inner")

        @inline_callbacks
        def outer():
            with start_action(action_type="outer"):
                yield inner()

        outer()
        assert tree(messages, "outer") == {"outer": ["inner"]}

    def test_coroutines_need_nothing(self, messages):
        """Twisted gives each coroutine a context of its own."""
        waiting = Deferred()

        async def work():
            with start_action(action_type="work"):
                await waiting
                log_message("resumed")

        Deferred.fromCoroutine(work())
        assert current_action() is None
        waiting.callback(None)
        assert tree(messages, "work") == {"work": ["resumed"]}


class TestFailures:
    """`write_failure` logs Twisted's own failures."""

    def test_as_errback(self, messages):
        """It takes what was raised, with its traceback, and leaves no failure behind."""
        done = Deferred()
        with start_action(action_type="a").context():
            context = DeferredContext(done).addCallback(lambda _: 1 / 0)
            context.addErrback(write_failure).addActionFinish()
        done.callback(None)
        assert (done.result, ends(messages)) == (None, {"a": "succeeded"})
        logged = messages[1]
        assert logged["exception"] == "builtins.ZeroDivisionError"
        assert logged["reason"] == "division by zero"
        assert "test_twisted.py" in logged["traceback"]
        assert logged["task_level"] == [2]

    def test_without_a_traceback(self, messages):
        """A failure that was never raised is logged too."""
        fail(ValueError("never raised")).addErrback(write_failure)
        assert messages[0]["reason"] == "never raised"

    def test_of_a_cancellation(self, messages):
        """Twisted's own exceptions are like any other."""
        done = Deferred().addErrback(write_failure)
        done.cancel()
        assert messages[0]["exception"] == "twisted.internet.defer.CancelledError"

    def test_extracted_fields(self, messages):
        """Fields that are extracted from an exception are there."""
        register_exception_extractor(OSError, lambda error: {"number": error.errno})
        fail(OSError(3, "x")).addErrback(write_failure)
        assert messages[0]["number"] == 3


class TestDestination:
    """Messages in Twisted's log."""

    @pytest.fixture
    def events(self):
        """Return the list of events of Twisted's log, which messages are sent to."""
        events = []
        globalLogPublisher.addObserver(events.append)
        add_destinations(TwistedDestination())
        yield events
        globalLogPublisher.removeObserver(events.append)

    def test_event(self, events, messages):
        """The message is in the event, under Eliot's key and namespace."""
        log_message("m", x=1)
        (event,) = events
        assert (event["log_namespace"], event["eliot"]) == ("eliot", messages[0])
        assert event["log_format"].format(**event) == f"Eliot message: {messages[0]}"

    def test_levels(self, events, messages):
        """How grave a message is, the event says too."""
        for level in ("debug", "verbose", "info", "warning", "error", "critical"):
            log_message("m", log_level=level)
        with pytest.raises(ValueError, match="x"), start_action(action_type="a"):
            raise ValueError("x")
        try:
            raise ValueError
        except ValueError:
            write_traceback()
        levels = [event["log_level"].name for event in events]
        expected = ["debug", "debug", "info", "warn", "error", "critical"]
        assert levels == [*expected, "info", "error", "critical"]

    def test_no_loop(self, events, messages):
        """An observer that logs Twisted's events here does not make them come round for ever."""

        def observe(event):
            log_message("twisted", text=event["log_format"])

        globalLogPublisher.addObserver(observe)
        try:
            log_message("m")
        finally:
            globalLogPublisher.removeObserver(observe)
        assert len(events) == 1
        assert [message["message_type"] for message in messages] == ["twisted", "m"]
        assert logging_stats()["dropped_as_reentrant"] == 1


class TestTrial:
    """`redirectLogsForTrial` is for Twisted's runner of tests, and harmless elsewhere."""

    @pytest.mark.parametrize(
        "program",
        [
            "trial",
            "./trial",
            "/usr/bin/trial",
            "Scripts/trial.exe",
            "lib/twisted/trial/__main__.py",
            "lib/twisted/trial/_dist/workertrial.py",
        ],
    )
    def test_is_trial(self, program):
        """However it was started."""
        assert _is_trial(program)

    @pytest.mark.parametrize("program", ["", "pytest", "trial/main.py", "__main__.py", "-c"])
    def test_is_not_trial(self, program):
        """Anything else is something else."""
        assert not _is_trial(program)

    def test_not_in_trial(self, messages):
        """Nothing is added then."""
        assert redirectLogsForTrial() is None

    @pytest.mark.parametrize(
        "arguments", [["-m", "twisted.trial"], ["-m", "twisted.trial", "-j1"]]
    )
    def test_in_trial(self, arguments, tmp_path):
        """A suite that trial runs has its messages in trial's log, once each."""
        (tmp_path / "test_it.py").write_text(
            "from twisted.trial.unittest import TestCase\n"
            "from eliot_etw import log_message\n"
            "from eliot_etw.twisted import redirectLogsForTrial\n"
            "redirectLogsForTrial()\n"
            "redirectLogsForTrial()\n"
            "class Tests(TestCase):\n"
            "    def test_it(self):\n"
            "        log_message('of the test')\n"
        )
        run = subprocess.run(
            [sys.executable, *arguments, "test_it"],
            cwd=tmp_path,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        logs = [log.read_text("utf-8") for log in tmp_path.rglob("test.log")]
        assert sum(log.count("'of the test'") for log in logs) == 1


PROGRAM = """
import sys
if sys.argv[1] == "asyncio":
    import asyncio
    from twisted.internet import asyncioreactor
    asyncioreactor.install(asyncio.SelectorEventLoop())
from twisted.internet import reactor, task, threads
from twisted.internet.defer import Deferred, gatherResults
from eliot_etw import current_action, log_message, preserve_context, start_action, to_file
from eliot_etw.twisted import DeferredContext, inline_callbacks

to_file(sys.argv[2])

def later(seconds):
    return task.deferLater(reactor, seconds)

@inline_callbacks
def fetch(number):
    with start_action(action_type="fetch", number=number):
        yield later(0.01 * (3 - number))
        log_message("fetched", number=number)
        yield in_thread(number)

def in_thread(number):
    with start_action(action_type="parse", number=number).context():
        work = preserve_context(lambda: log_message("parsing", number=number))
        context = DeferredContext(threads.deferToThread(work))
        context.addCallback(lambda _: later(0.01))
        context.addCallback(lambda _: log_message("parsed", number=number))
        return context.addActionFinish()

def main(reactor):
    with start_action(action_type="main").context():
        context = DeferredContext(gatherResults([fetch(number) for number in range(3)]))
        context.addBoth(lambda result: log_message("all done"))
        done = context.addActionFinish()
    done.addBoth(lambda result: log_message("outside", current=repr(current_action())))
    return done

task.react(main)
"""


@pytest.mark.parametrize("reactor", ["default", "asyncio"])
def test_real_reactor(reactor, tmp_path):
    """In a reactor that runs, what happens at the same time is kept apart in one tree."""
    log = tmp_path / "log"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, reactor, log],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    messages = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert messages[-1]["current"] == "None"
    (main,) = LoggedAction.of_type(messages, "main")
    fetch = {"fetch": ["fetched", {"parse": [{"eliot:remote_task": ["parsing"]}, "parsed"]}]}
    assert main.type_tree() == {"main": [fetch, fetch, fetch, "all done"]}
    numbers = [
        {
            message["number"]
            for message in messages
            if level_of(message, at) and "number" in message
        }
        for at in (2, 3, 4)
    ]
    assert numbers == [{0}, {1}, {2}]


# What Eliot's documentation shows for Twisted, put together: to run with another import.
EXAMPLES = """
from {package} import add_destinations, log_message, start_action, to_file, writeFailure
from {package}.twisted import DeferredContext, TwistedDestination
from {package}.twisted import inline_callbacks, redirectLogsForTrial
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

to_file(open("log", "ab"))
events = []
globalLogPublisher.addObserver(events.append)
add_destinations(TwistedDestination())
assert redirectLogsForTrial() is None

def got_result(result, x):
    log_message(message_type="result", result=result, x=x)

def callbacks(source):
    with start_action(action_type="your_type").context() as action:
        d = DeferredContext(source)
        d.addCallback(got_result, x=1)
        d.addActionFinish()
        return d.result

@inline_callbacks
def generator(source):
    with start_action(action_type="yourapp:subsystem:frob") as action:
        x = yield source
        action.log(message_type="some-report", x=x)
        1 / 0

sources = [Deferred(), Deferred(), Deferred()]
callbacks(sources[0])
generator(sources[1]).addErrback(writeFailure)
callbacks(sources[2]).addErrback(writeFailure)
sources[0].callback(3)
sources[1].callback(4)
sources[2].errback(ValueError("no"))
for event in events:
    if "eliot" in event:
        print(event["log_namespace"], event["eliot"].get("message_type"))
"""


def test_examples_of_eliot(tmp_path):
    """They run with only the import changed, and write what they write with Eliot."""
    pytest.importorskip("eliot")
    shown, logged = [], []
    for package in ("eliot", "eliot_etw"):
        folder = tmp_path / package
        folder.mkdir()
        command = [sys.executable, "-c", EXAMPLES.format(package=package)]
        shown.append(subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout)
        lines = (folder / "log").read_bytes().splitlines()
        logged.append([comparable(json.loads(line)) for line in lines])
    assert logged[0] == logged[1]
    assert shown[0] == shown[1]
    assert len(logged[0]) == shown[0].count(b"\n") == 10


def comparable(message):
    """Return what ought to be the same in a message, whoever wrote it."""
    varying = {"task_uuid", "timestamp", "traceback"}
    return {name: value for name, value in message.items() if name not in varying}


def level_of(message, at):
    """Say whether a message is in the part of the tree that begins at a place."""
    return message["task_level"][0] == at and len(message["task_level"]) > 1


def test_missing_package():
    """Who imports the module without Twisted reads what to install."""
    program = "import sys; sys.modules['twisted'] = None; import eliot_etw.twisted"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert MissingDependency.__name__ in run.stderr.decode()
    assert "pip install 'eliot-etw[twisted]'" in run.stderr.decode()
