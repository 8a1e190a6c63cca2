"""Tests of what every destination promises; one without an entry or a page here fails."""

import atexit
import io
import logging
import threading
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eliot_etw import (
    add_destinations,
    add_global_fields,
    destinations,
    log_message,
    remove_destination,
    start_action,
)
from eliot_etw.destinations import (
    BackgroundDestination,
    EtlFileDestination,
    EtwDestination,
    FileDestination,
    JournaldDestination,
    LevelFilter,
    LoggingDestination,
    MemoryDestination,
    NatsDestination,
    OtlpDestination,
    RateLimitedDestination,
    RedactedDestination,
    RedisDestination,
    RotatingFileDestination,
    TailSampledDestination,
    ZmqDestination,
)
from eliot_etw.destinations.tail_sampled import one_in
from eliot_etw.sources import EtlSource, FileSource, JournalSource, NatsSource, RedisSource
from eliot_etw.testing import RecordingEtw
from tests import _journal, _services

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(destinations.__file__).parent


def path(folder):
    """Make a destination that writes to a path, and what reads it back."""
    log = folder / "test.log"
    return FileDestination(log), lambda: list(FileSource(log))


def bytes_in_memory(folder):
    """Make a destination that writes bytes to an object, and what reads them back."""
    file = io.BytesIO()
    return FileDestination(file), lambda: list(FileSource(io.BytesIO(file.getvalue())))


def text_in_memory(folder):
    """Make a destination that writes text to an object, and what reads it back."""
    file = io.StringIO()
    return FileDestination(file), lambda: list(
        FileSource(io.BytesIO(file.getvalue().encode("utf-8")))
    )


def memory(folder):
    """Make a destination that keeps messages, and what reads them back."""
    destination = MemoryDestination()
    return destination, lambda: destination.messages


def trace(folder):
    """Make a destination whose messages wait for a moment, and what reads them back."""
    return _trace(folder, flush_interval_s=1000)


def trace_at_once(folder):
    """Make a destination whose messages do not wait, and what reads them back."""
    return _trace(folder, flush_interval_s=0)


def _trace(folder, **options):
    path = folder / "test.etl"
    destination = EtlFileDestination(path, **options)

    def read():
        destination.flush()
        return list(EtlSource(path))

    return destination, read


def levels(folder):
    """Make a filter that lets everything pass, and what reads it back."""
    inner = MemoryDestination()
    return LevelFilter(inner, level=-(10**301)), lambda: inner.messages


def logger(folder):
    """Make a destination that logs to a logger of the standard library, and what reads that."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    kept_by = logging.Logger("test", level=1)
    kept_by.addHandler(handler)
    return LoggingDestination(kept_by), lambda: [record.eliot_message for record in records]


def provider(folder):
    """Make a destination for what stands in for Windows, and what reads that."""
    with RecordingEtw() as etw:
        destination = EtwDestination()
    etw.enable()
    return destination, lambda: etw.messages


def background_file(folder):
    """Make a writer thread around a file, and what reads that back."""
    log = folder / "test.log"
    return _background(FileDestination(log), lambda: list(FileSource(log)))


def background_memory(folder):
    """Make a writer thread around a list, and what reads that back."""
    inner = MemoryDestination()
    return _background(inner, lambda: inner.messages)


def _background(inner, read):
    destination = BackgroundDestination(inner)
    return destination, lambda: destination.flush(60) and read()


def journal(folder):
    """Make a destination for a journal, and what reads that."""
    return _journald(folder)


def journal_for_people(folder):
    """Make one with sentences and indexed fields, and what reads that."""
    return _journald(folder, sentences=True, index_fields=True)


def _journald(folder, **options):
    journal = _journal.shared()
    name = str(folder)
    destination = JournaldDestination(
        socket_path=journal.socket_path, identifier=name, max_wait_s=60, **options
    )

    def read():
        journal.sync()
        return list(JournalSource(directory=journal.logs, identifier=name))

    return destination, read


def traces(folder):
    """Make a destination for a receiver of OTLP, and what reads that."""
    return _otlp()


def traces_and_logs(folder):
    """Make one that sends messages as log records, and what reads those."""
    return _otlp(messages="logs")


@cache
def _receiver():
    from tests._otlp_receiver import http_receiver  # skips where there is no OpenTelemetry

    receiving = http_receiver()
    atexit.register(receiving.__exit__, None, None, None)
    return receiving.__enter__()


def _otlp(**options):
    from eliot_etw.otlp._messages_of import MessageMaker

    receiver = _receiver()
    receiver.items.clear()
    destination = OtlpDestination(endpoint=receiver.url, **options)

    def read():
        assert destination.flush(60)
        found = [message for item in receiver.items for message in MessageMaker().add(item)]
        return sorted(found, key=lambda message: message["task_level"])

    return destination, read


def redacting(folder):
    """Make what redacts nothing of what the tests log, and what reads it back."""
    inner = MemoryDestination()
    return RedactedDestination(inner, keys=()), lambda: inner.messages


def rotating(folder):
    """Make a file that is put aside all the time, and what reads all of it."""
    log = folder / "test.log"

    def read():
        files = [*sorted(folder.glob("test.log.[0-9]*")), log]
        return [message for file in files for message in FileSource(file)]

    return RotatingFileDestination(log, max_bytes=1_000), read


def sampling(folder):
    """Make what keeps all tasks, and what reads them back."""
    inner = MemoryDestination()
    return TailSampledDestination(inner, one_in(1), max_messages=1), lambda: inner.messages


def limiting(folder):
    """Make what folds nothing of what the tests log, and what reads it back."""
    inner = MemoryDestination()
    return RateLimitedDestination(inner, burst=10_000), lambda: inner.messages


def shipping(folder):
    """Make what sends to a collector from memory, and what reads what that has."""
    return _shipping()


def shipping_from_disk(folder):
    """Make one that keeps messages on disk meanwhile, and sends them in the other format."""
    return _shipping(spool_folder=folder, format="msgpack", compression="zlib")


def _shipping(**options):
    pytest.importorskip("zmq")
    from tests import _collector

    collector = _collector.shared()
    before = set(collector.state)
    destination = ZmqDestination(collector.endpoint, **options)

    def read():
        assert destination.flush(60)
        return [m for sender in collector.state.keys() - before for m in collector.of(sender)]

    return destination, read


def stream_of_nats(folder):
    """Make what adds to a stream of JetStream, and what reads that."""
    return _stream("nats", NatsDestination, NatsSource)


def stream_of_redis(folder):
    """Make what adds to a stream of Redis, and what reads that."""
    return _stream("redis", RedisDestination, RedisSource)


def _stream(engine, destination_of, source_of):
    pytest.importorskip(engine)
    url, stream = _services.shared(engine).url, f"test-{uuid4()}"
    destination = destination_of(url, stream)

    def read():
        assert destination.flush(60)
        return list(source_of(url, stream=stream))

    return destination, read


# Each public destination, in each way of being made in which it works differently.
ENTRIES = {
    "BackgroundDestination": [background_file, background_memory],
    "EtlFileDestination": [trace, trace_at_once],
    "EtwDestination": [provider],
    "FileDestination": [path, bytes_in_memory, text_in_memory],
    "JournaldDestination": [journal, journal_for_people],
    "LevelFilter": [levels],
    "LoggingDestination": [logger],
    "MemoryDestination": [memory],
    "NatsDestination": [stream_of_nats],
    "OtlpDestination": [traces, traces_and_logs],
    "RateLimitedDestination": [limiting],
    "RedactedDestination": [redacting],
    "RedisDestination": [stream_of_redis],
    "RotatingFileDestination": [rotating],
    "TailSampledDestination": [sampling],
    "ZmqDestination": [shipping, shipping_from_disk],
}
MAKERS = [make for makers in ENTRIES.values() for make in makers]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
json_messages = st.dictionaries(
    st.text(),
    st.recursive(
        scalars,
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
    max_size=5,
)
PLACE = {"task_uuid": "x", "task_level": [1], "timestamp": 1.5}


class TestPapers:
    """What belongs to a destination besides its code."""

    def test_entries(self):
        """Each public destination has an entry here."""
        assert destinations.__all__ == sorted(ENTRIES)

    @pytest.mark.parametrize("name", ENTRIES)
    def test_page(self, name):
        """Each has a page of its own, and a line among the others."""
        place = getattr(destinations, name).__module__.rpartition(".")[2]
        pages = ROOT / "docs" / "destinations"
        assert (pages / f"{place}.md").read_text("utf-8").startswith(f"# {name}\n")
        assert f"| [{name}]({place}.md) |" in (pages / "index.md").read_text("utf-8")

    @pytest.mark.parametrize("name", ENTRIES)
    def test_docstring(self, name):
        """Each says what it does with messages, and what happens when that does not work."""
        assert len(getattr(destinations, name).__doc__) > 40

    def test_files(self):
        """Each file is the home of a public destination, or private."""
        homes = {getattr(destinations, name).__module__.rpartition(".")[2] for name in ENTRIES}
        assert homes == {file.stem for file in PACKAGE.glob("[!_]*.py")}

    def test_unknown_name(self):
        """A name that is not there is an error like that of any module."""
        with pytest.raises(AttributeError, match="has no attribute 'NoDestination'"):
            destinations.NoDestination  # noqa: B018 - asking for it is what raises


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
class TestContract:
    """The promises."""

    @given(message=json_messages)
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_read_back(self, make, message):
        """What it was given is read back equal."""
        with TemporaryDirectory() as folder:
            destination, read = make(Path(folder))
            destination({**message, **PLACE})
            close(destination)
            assert read() == [{**message, **PLACE}]

    def test_logged(self, tmp_path, messages, make):
        """What is logged is read back as any other destination has it."""
        destination, read = make(tmp_path)
        add_destinations(destination)
        add_global_fields(program="p")
        with start_action(action_type="a", x="é"):
            log_message("t", y=[1, {"z": None}])
        assert messages == read()
        remove_destination(destination)
        close(destination)

    @pytest.mark.parametrize(
        "message",
        [
            {"message_type": "t", "values": [1, {"a": {"b": []}}], "none": None},
            {"message_type": "t", "set": {1}, "big": 2**80, 7: (1, [2]), "half": "\ud800"},
        ],
        ids=["easy", "hard"],
    )
    def test_reads_only(self, tmp_path, make, message):
        """It never changes a message: the next destination gets the same dict."""
        destination, _ = make(tmp_path)
        before = deepcopy(message)
        destination(message)
        assert before == message
        assert list(before) == list(message)
        close(destination)

    def test_threads(self, tmp_path, make):
        """Several threads may call it at once: no message is lost, doubled or mixed up."""
        destination, read = make(tmp_path)
        add_destinations(destination)
        go = threading.Barrier(4)

        def log(thread):
            go.wait(30)
            for number in range(250):
                log_message("t", id=[thread, number], x="x" * number)

        threads = [threading.Thread(target=log, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        remove_destination(destination)
        close(destination)
        expected = [([thread, n], n) for thread in range(4) for n in range(250)]
        assert expected == sorted((m["id"], len(m["x"])) for m in read())

    def test_removed(self, tmp_path, make):
        """It is removed like any other, and gets nothing more."""
        destination, read = make(tmp_path)
        add_destinations(destination)
        log_message("t")
        remove_destination(destination)
        log_message("u")
        close(destination)
        assert [message["message_type"] for message in read()] == ["t"]


def close(destination):
    """Close a destination that holds something, twice, however busy the machine is."""
    timeout_s = [60] if getattr(destination, "closes_in_time", False) else []
    if hasattr(destination, "close"):
        destination.close(*timeout_s)
        destination.close(*timeout_s)
