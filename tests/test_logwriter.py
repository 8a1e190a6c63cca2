"""Tests of the Twisted service that writes in a thread, with the real Twisted."""

import subprocess
import sys
import threading

import pytest

pytest.importorskip("twisted")

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from eliot_etw import log_message, logging_stats, remove_destination, start_action
from eliot_etw.destinations import FileDestination
from eliot_etw.logwriter import ThreadedWriter
from eliot_etw.sources import FileSource


class Gate:
    """A destination that keeps messages, and waits while it is shut."""

    def __init__(self):
        self.messages = []
        self.threads = set()
        self.is_open = threading.Event()
        self.is_open.set()
        self.was_reached = threading.Event()

    def __call__(self, message):
        self.was_reached.set()
        self.is_open.wait()
        self.threads.add(threading.current_thread())
        self.messages.append(message)


@pytest.fixture
def gate():
    """Return a destination that can be shut, and is open in the end."""
    gate = Gate()
    yield gate
    gate.is_open.set()


@pytest.fixture
def writer(gate):
    """Return a service that runs, and is stopped in the end."""
    writer = ThreadedWriter(gate, reactor)
    writer.startService()
    yield writer
    gate.is_open.set()
    finish(writer)


def finish(writer):
    """Stop a service, and do what the reactor's threads would."""
    stopped = writer.stopService()
    writer._finish_in_time()
    return stopped


def texts(messages):
    """Return the texts of messages."""
    return [message["text"] for message in messages]


class TestRunning:
    """While the service runs, its thread writes."""

    def test_other_thread(self, writer, gate):
        """Messages are written in their order, by a thread that is not the reactor's."""
        for text in range(100):
            log_message("m", text=text)
        finish(writer)
        assert texts(gate.messages) == list(range(100))
        assert threading.current_thread() not in gate.threads
        assert len(gate.threads) == 1

    def test_slow_destination(self, writer, gate):
        """Whoever logs does not wait."""
        gate.is_open.clear()
        for text in range(10):
            log_message("m", text=text)
        assert gate.messages == []
        gate.is_open.set()
        assert writer.flush()
        assert texts(gate.messages) == list(range(10))

    def test_full(self, gate):
        """What there is no room for is dropped and counted, and the log tells."""
        writer = ThreadedWriter(gate, reactor, max_queued=5)
        writer.startService()
        gate.is_open.clear()
        log_message("m", text="first")
        gate.was_reached.wait()
        for text in range(20):
            log_message("m", text=text)
        dropped = writer.stats()["dropped"]
        gate.is_open.set()
        finish(writer)
        told = [m for m in gate.messages if m["message_type"] == "eliot:dropped"]
        assert {m["when_full"] for m in told} == {"drop_new"}
        assert sum(m["dropped"] for m in told) == dropped > 0
        assert len(gate.messages) - len(told) + dropped == 21

    def test_failing_destination(self, messages):
        """It is counted and told to the others as any destination's failure is."""

        def failing(message):
            raise OSError("full")

        writer = ThreadedWriter(failing, reactor)
        writer.startService()
        log_message("m")
        finish(writer)
        assert [m["message_type"] for m in messages] == ["m", "eliot:destination_failure"]
        assert writer.stats()["failed"] == logging_stats()["destination_failures"] == 1

    def test_what_was_logged_before(self, gate):
        """What was logged before there was a destination is written."""
        log_message("m", text="early")
        writer = ThreadedWriter(gate, reactor)
        writer.startService()
        finish(writer)
        assert texts(gate.messages) == ["early"]


class TestStarting:
    """Starting and stopping may come in any order, any number of times."""

    def test_started_twice(self, writer, gate):
        """The second time does nothing."""
        writer.startService()
        log_message("m", text=1)
        finish(writer)
        assert texts(gate.messages) == [1]

    def test_stopped_twice(self, writer):
        """The second time there is nothing to wait for."""
        finish(writer)
        assert finish(writer).called

    def test_stopped_before_it_was_started(self, gate):
        """There is nothing to do."""
        assert ThreadedWriter(gate, reactor).stopService().called

    def test_started_again(self, writer, gate):
        """It works as it did before."""
        log_message("m", text=1)
        finish(writer)
        writer.startService()
        log_message("m", text=2)
        finish(writer)
        assert (texts(gate.messages), writer.stats()["delivered"]) == ([1, 2], 1)
        assert len(gate.threads - {threading.current_thread()}) == 2

    def test_thread(self, gate):
        """The thread is there before the first message, which need not wait for it."""
        writer = ThreadedWriter(gate, reactor)
        assert writer._writer is None
        writer.startService()
        assert writer._writer.is_alive()
        finish(writer)
        assert not writer._writer.is_alive()

    def test_started_again_too_early(self, writer, gate):
        """Two threads would write at a time."""
        gate.is_open.clear()
        log_message("m", text=1)
        stopped = writer.stopService()
        assert isinstance(stopped, Deferred)
        with pytest.raises(RuntimeError, match="Wait for the Deferred"):
            writer.startService()

    def test_removed(self, writer, gate):
        """A service that has stopped is no destination."""
        finish(writer)
        log_message("m", text=1)
        assert gate.messages == []
        with pytest.raises(ValueError, match="is not one of the destinations"):
            remove_destination(writer)

    def test_no_thread_to_wait(self, writer):
        """The thread ends even if the reactor has none left to wait for that."""
        log_message("m", text=1)
        writer.stopService()
        writer._writer.join(60)
        assert not writer._writer.is_alive()

    def test_stuck(self, gate, capfd):
        """What is not written in time is dropped, counted and told: the end comes all the same."""
        writer = ThreadedWriter(gate, reactor, stop_timeout_s=0.01)
        writer.startService()
        gate.is_open.clear()
        log_message("m", text=1)
        gate.was_reached.wait()
        log_message("m", text=2)
        finish(writer)
        assert writer.stats()["dropped"] == 1
        assert "1 dropped, 1 under way" in capfd.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "error"), [((None,), TypeError), ((print, 0), ValueError)]
    )
    def test_wrong_arguments(self, arguments, error):
        """It says so at once."""
        destination, *most = arguments
        with pytest.raises(error):
            ThreadedWriter(destination, reactor, max_queued=most[0] if most else 1)


PROGRAM = """
import sys
if sys.argv[1] == "asyncio":
    import asyncio
    from twisted.internet import asyncioreactor
    asyncioreactor.install(asyncio.SelectorEventLoop())
from threading import current_thread
from twisted.application.service import MultiService
from twisted.internet.task import deferLater, react
from eliot_etw import FileDestination, log_message, start_action
from eliot_etw.logwriter import ThreadedWriter

def main(reactor):
    services = MultiService()
    ThreadedWriter(FileDestination(sys.argv[2]), reactor).setServiceParent(services)
    services.startService()
    reactor.addSystemEventTrigger("before", "shutdown", services.stopService)
    with start_action(action_type="main"):
        for number in range(10_000):
            log_message("m", number=number)
    return deferLater(reactor, 0, log_message, "last")

react(main)
"""


@pytest.mark.parametrize("name", ["default", "asyncio"])
def test_real_reactor(name, tmp_path):
    """In a program, all is written before the reactor ends."""
    log = tmp_path / "log"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, name, log],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    messages = list(FileSource(log))
    assert [m["number"] for m in messages if "number" in m] == list(range(10_000))
    assert messages[-1]["message_type"] == "last"


# What Eliot's documentation shows, which is to run with another import.
EXAMPLE = """
from twisted.internet.task import react
from {package}.logwriter import ThreadedWriter
from {package} import log_message, FileDestination

def main(reactor):
    writer = ThreadedWriter(FileDestination(file=open("example.log", "ab")), reactor)
    writer.startService()
    log_message(message_type="test", value="hello", another=1)
    return writer.stopService()

react(main, [])
"""


@pytest.mark.parametrize("package", ["eliot", "eliot_etw"])
def test_example_of_eliot(package, tmp_path):
    """It runs with only the import changed, and writes the same."""
    pytest.importorskip(package)
    command = [sys.executable, "-c", EXAMPLE.format(package=package)]
    subprocess.run(command, cwd=tmp_path, check=True)
    (message,) = FileSource(tmp_path / "example.log")
    fields = {name: message[name] for name in ("message_type", "value", "another", "task_level")}
    assert fields == {
        "message_type": "test",
        "value": "hello",
        "another": 1,
        "task_level": [1],
    }
    assert len(message) == 6


def test_file(tmp_path):
    """What is inside stays open, for a service that is started again."""
    file = FileDestination(tmp_path / "log")
    writer = ThreadedWriter(file, reactor)
    for _ in range(2):
        writer.startService()
        with start_action(action_type="a"):
            pass
        finish(writer)
    file.close()
    assert len(list(FileSource(tmp_path / "log"))) == 4


def test_missing_package():
    """Who imports the module without Twisted reads what to install."""
    program = "import sys; sys.modules['twisted'] = None; import eliot_etw.logwriter"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert "pip install 'eliot-etw[twisted]'" in run.stderr.decode()
