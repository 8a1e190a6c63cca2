"""Tests of writing traces: what is in the file, when, and after what failures."""

import errno
import io
import os
import subprocess
import sys
import threading
from itertools import pairwise
from struct import pack, unpack_from
from time import time_ns

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eliot_etw.etw import _etl_writer
from eliot_etw.etw._etl import EtlWriter, read_etl
from eliot_etw.etw._etl_writer import MessageLane
from eliot_etw.etw._records import EPOCH
from tests._programs import run_forking
from tests.etw._traces import NOW, event, events


def read(source):
    """Read a trace, which has no damage; the processors are the writer's affair."""
    reader = read_etl(source)
    found = [one._replace(cpu=0) for one in reader]
    assert ([], 0) == (reader.problems, reader.skipped["damaged"])
    return found


def in_order(written):
    """Return events as a reader gives them."""
    return sorted(written, key=lambda one: one.ticks)


@pytest.fixture
def path(tmp_path):
    """Return where to write."""
    return tmp_path / "x.etl"


def write(path, written, **options):
    """Write a trace; return its bytes."""
    with EtlWriter(path, **options) as writer:
        for one in written:
            writer.write(one)
    return path.read_bytes()


def wait_for_timer(writer):
    """Wait until nothing is left to be done by a timer."""
    with writer._lock:  # which the timer has, from when it says that it is gone until it is done
        timer = writer._timer
    if timer is not None:
        timer.join(10)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return events and the trace of them."""
    written = [event(NOW + number, bytes(number * 7)) for number in range(100)]
    path = tmp_path_factory.mktemp("trace") / "x.etl"
    return written, write(path, written, buffer_size_bytes=4096)


class FullDisk:
    """A file on a disk that takes some bytes and then no more."""

    def __init__(self, file, room=0):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self.file.__enter__()

    def __exit__(self, *exception):
        return self.file.__exit__(*exception)

    def write(self, data):
        """Take a part, and then nothing."""
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(self.room, len(data))
        self.room -= taken
        return self.file.write(data[:taken])


class Encoder:
    """Encodes any message as one event."""

    def __init__(self, one):
        activity, related = one.activity_id, one.related_activity_id
        descriptor = pack("<HBBBBHQ", one.id, one.version, one.channel, one.level, one.opcode,
                          one.task, one.keyword)  # fmt: skip
        self.known = {}
        self.encode_unknown = lambda _message, _is_enabled: (
            descriptor, one.metadata, one.payload, activity and activity.bytes_le,
            related and related.bytes_le,
        )  # fmt: skip


class TestRoundTrip:
    """What is written is read back equal."""

    @pytest.mark.parametrize("interval", [0.0, 1000.0])
    @given(written=st.lists(events, max_size=20))
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_events(self, tmp_path, interval, written):
        """All fields, in the order of time; of one moment, in the order of writing."""
        data = write(
            tmp_path / "x.etl", written, buffer_size_bytes=4096, flush_interval_s=interval
        )
        found = read(io.BytesIO(data))
        key = repr
        assert sorted(written, key=key) == sorted(found, key=key)
        assert [one.ticks for one in in_order(written)] == [one.ticks for one in found]

    def test_many(self, path):
        """Several buffers of several processors."""
        written = [event(NOW + number ^ 5, bytes(100), task=number) for number in range(1000)]
        write(path, written, buffer_size_bytes=4096)
        assert in_order(written) == read(path)

    @given(written=st.lists(events, max_size=10))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_lane(self, tmp_path, written):
        """What is written faster is the same event, of this thread and process."""
        path = tmp_path / "x.etl"
        with EtlWriter(path, flush_interval_s=1000, buffer_size_bytes=131072) as writer:
            for one in written:
                lane = MessageLane(one.provider_id, one.traits, Encoder(one))
                lane._use(writer)
                lane({"timestamp": one.timestamp})
        expected = [
            one._replace(
                ticks=int(one.timestamp * 10_000_000) + EPOCH,
                thread_id=threading.get_native_id(), process_id=os.getpid(), flags=0, items=(),
                event_property=0, processor_time=0, pointer_size_bytes=8,
            )
            for one in written
        ]  # fmt: skip
        assert sorted(expected, key=repr) == sorted(read(path), key=repr)

    def test_largest_event(self, path):
        """An event may fill a buffer."""
        (small,) = written = [event(payload=b"")]
        write(path, written)
        size = 64 * 1024 - 72 - unpack_from("<H", path.read_bytes(), 65536 + 72)[0]
        written = [small._replace(payload=bytes(size))]
        write(path, written)
        assert written == read(path)


class TestForWindows:
    """What Windows's tools want a trace to be."""

    def test_processors_are_in_order(self, path):
        """The events of each processor are in the order of their times, whoever was late."""
        write(path, [event(NOW + number ^ 7) for number in range(50)], buffer_size_bytes=4096)
        by_cpu = {}
        for one in read_etl(path):
            by_cpu.setdefault(one.cpu, []).append(one.ticks)
        data = path.read_bytes()
        for offset in range(4096, len(data), 4096):
            at, end = offset + 72, offset + unpack_from("<I", data, offset + 4)[0]
            times = []
            while at < end:
                times.append(unpack_from("<q", data, at + 16)[0])
                at += unpack_from("<H", data, at)[0] + 7 & ~7
            assert all(one <= other for one, other in pairwise(times))
        assert len(by_cpu) == read_etl(path).header.processors == 8

    def test_buffers(self, path):
        """All buffers are equally long, and filled up with ones; the header counts them."""
        data = write(path, [event(payload=bytes(900))] * 9, buffer_size_bytes=4096)
        assert len(data) == 4096 * read_etl(path).header.buffers_written == 4096 * 4
        used = unpack_from("<I", data, 4096 + 4)[0]
        assert used == unpack_from("<I", data, 4096 + 0x30)[0]
        assert data[4096 + used : 8192].strip(b"\xff") == b""

    def test_flags(self, path):
        """The header and the last buffer are marked."""
        data = write(path, [event(payload=bytes(900))] * 9, buffer_size_bytes=4096)
        marks = [unpack_from("<HH", data, offset + 0x34) for offset in range(0, len(data), 4096)]
        assert [(0x21, 4), (0x20, 0), (0x20, 0), (0x21, 0)] == marks

    def test_times(self, path):
        """The trace begins before its first event and ends after its last."""
        written = [event(NOW - 5), event(NOW - 9), event(NOW + 10**16)]
        write(path, written)
        header = read_etl(path).header
        assert (NOW - 9, NOW + 10**16) == (header.start_ticks, header.end_ticks)
        assert header.reference > 0

    def test_an_old_log(self, path):
        """The clock of a log from before the machine was started runs from before that log."""
        data = write(path, [event(NOW - 10**16)])
        header = read_etl(path).header
        assert header.boot_ticks < header.start_ticks == NOW - 10**16
        assert unpack_from("<q", data, 65536 + 72 + 16)[0] == header.reference > 0

    def test_names(self, path):
        """The header has the session's name and the file's."""
        write(path, [], logger_name="a-session")
        header = read_etl(path).header
        assert ("a-session", str(path)) == (header.logger_name, header.log_file_name)

    def test_final_name(self, path):
        """A file that will be moved says where to."""
        final = path.with_name("whole.etl")
        write(path, [], final_path=final)
        assert str(final) == read_etl(path).header.log_file_name


class TestWhileWriting:
    """The file can be read at any time."""

    def test_each_event_at_once(self, path):
        """Each event is in the file when `write` returns."""
        with EtlWriter(path) as writer:
            for number in range(100):
                writer.write(event(NOW + number, bytes(100)))
                assert number + 1 == len(read(path))

    def test_interval(self, path):
        """If events may wait, they wait until somebody asks."""
        with EtlWriter(path, flush_interval_s=1000) as writer:
            writer.write(event())
            before = len(read(path))
            writer.flush()
            assert (0, 1) == (before, len(read(path)))

    def test_nobody_asks(self, path):
        """After the interval waiting events are written, though no other event comes."""
        with EtlWriter(path, flush_interval_s=0.001) as writer:
            for number in (1, 2):
                writer.write(event())
                wait_for_timer(writer)
                assert number == len(read(path))

    def test_no_thread_is_left(self, path):
        """close() does not leave a thread to wait for its time."""
        write(path, [event()], flush_interval_s=1000)
        left = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
        for timer in left:
            timer.join(10)
        assert [] == [one for one in left if one.is_alive()]

    def test_no_thread_can_be_started(self, path, monkeypatch):
        """While the interpreter goes down events are written at once."""

        def refuse(self):
            raise RuntimeError("can't create new thread at interpreter shutdown")

        with EtlWriter(path, flush_interval_s=1000) as writer:
            monkeypatch.setattr(threading.Timer, "start", refuse)
            writer.write(event())
            assert [event()] == read(path)

    def test_sorted_while_they_wait(self, path):
        """Events that wait together need no second processor."""
        write(path, [event(NOW - number) for number in range(30)], flush_interval_s=1000)
        assert 1 == read_etl(path).header.processors

    def test_never_more_than_a_buffer_waits(self, path):
        """Many events do not wait for the clock."""
        with EtlWriter(path, flush_interval_s=1000, buffer_size_bytes=4096) as writer:
            for number in range(100):
                writer.write(event(NOW + number))
            assert 50 < len(read(path)) < 100

    def test_killed(self, path):
        """When the program is killed all events are there, and the header says it never ended."""
        program = (
            "import os, sys; from tests.etw._traces import event\n"
            "from eliot_etw.etw._etl import EtlWriter\n"
            "writer = EtlWriter(sys.argv[1])\n"
            "for _ in range(5): writer.write(event())\n"
            "os._exit(9)"
        )
        subprocess.run([sys.executable, "-c", program, path], check=False, cwd=_root())
        header = read_etl(path).header
        assert ([event()] * 5, 0, 0) == (read(path), header.end_ticks, header.buffers_written)

    @given(size=st.integers(0))
    @settings(deadline=None)
    def test_cut_off_anywhere(self, whole, size):
        """Of a file that ends anywhere, all events of whole buffers come back, and no others."""
        written, data = whole
        size = 4096 + size % (len(data) - 4096)
        found = list(read_etl(io.BytesIO(data[:size])))
        buffers = read(io.BytesIO(data[: size - size % 4096]))
        assert written[: len(found)] == found
        assert found[: len(buffers)] == buffers

    def test_signal_handler(self, path):
        """What a signal handler writes, while its thread is writing, is not lost."""
        with EtlWriter(path) as writer:
            real = writer._file
            writer._file = Interrupting(real, lambda: writer.write(event(NOW + 1)))
            writer.write(event(NOW))
            writer._file = real
            assert [event(NOW), event(NOW + 1)] == read(path)

    def test_several_threads(self, path):
        """Events of several threads are all there."""
        with EtlWriter(path, buffer_size_bytes=4096) as writer:
            threads = [
                threading.Thread(
                    target=lambda number=number: [
                        writer.write(event(NOW + moment, thread_id=number))
                        for moment in range(100)
                    ]
                )
                for number in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        found = sorted((one.thread_id, one.ticks - NOW) for one in read(path))
        assert [(number, moment) for number in range(4) for moment in range(100)] == found


class Interrupting(FullDisk):
    """A file; a signal handler writes an event while the first thing is written to it."""

    def __init__(self, file, handler):
        super().__init__(file)
        self.handler = handler

    def write(self, data):
        """Be interrupted once."""
        handler, self.handler = self.handler, lambda: None
        handler()
        return self.file.write(data)


class TestFullDisk:
    """What happens when nothing can be written."""

    @pytest.mark.parametrize("room", [0, 10, 80, 3000])
    def test_is_told_and_made_good(self, path, room):
        """What the caller is told of is not in the file, all else is, and it stays readable."""
        writer = EtlWriter(path, buffer_size_bytes=4096)
        first, second, third = (event(NOW + number, bytes(3000)) for number in range(3))
        writer.write(first)
        real = writer._file
        writer._file = FullDisk(real, room)
        with pytest.raises(OSError, match="No space left"):
            writer.write(second)
        assert first in read_etl(path)
        writer._file = real
        writer.write(third)
        assert [first, third] == read(path)
        assert 0 == writer.waiting
        writer.close()
        used, data = unpack_from("<I", path.read_bytes(), 8192 + 4)[0], path.read_bytes()
        assert b"" == data[8192 + used : 12288].strip(b"\xff")

    def test_when_nobody_asks(self, path):
        """What could not be written after the interval is written later."""
        with EtlWriter(path, flush_interval_s=0.001) as writer:
            real = writer._file
            writer._file = FullDisk(real)
            # Not the first: that it may be older than the trace is another matter.
            late = event(time_ns() // 100 + EPOCH + 10**9)
            writer.write(late)
            wait_for_timer(writer)
            with pytest.raises(OSError, match="No space left"):
                writer.write(late)
            assert 1 == writer.waiting
            writer._file = real
            writer.write(late)
        assert [late] * 2 == read(path)

    def test_memory_is_bounded(self, path):
        """Not more than a buffer's worth of events waits for the disk; each is told or kept."""
        writer = EtlWriter(path, buffer_size_bytes=4096, flush_interval_s=1000)
        writer.write(event(NOW))
        writer.flush()
        real = writer._file
        writer._file = FullDisk(real)
        refused = 0
        for number in range(200):
            try:
                writer.write(event(NOW + number, bytes(100)))
            except OSError:
                refused += 1
        assert 150 < refused < 199
        assert 200 - refused == writer.waiting
        writer._file = real
        writer.close()
        assert 201 - refused == len(read(path))

    def test_what_is_lost(self, path):
        """If the disk is still full at the end, it is said how many events are lost."""
        writer = EtlWriter(path, flush_interval_s=1000)
        writer.write(event(NOW))
        writer._file = FullDisk(writer._file)
        writer.write(event(NOW))
        with pytest.raises(OSError, match="No space left"):
            writer.close()
        assert 2 == writer.waiting

    def test_clock_that_could_not_be_told(self, path):
        """While the header cannot be changed, the clock that it tells is kept to."""
        with EtlWriter(path) as writer:
            real = writer._file
            writer._file = FullDisk(real)
            with pytest.raises(OSError, match="No space left"):
                writer.write(event(NOW))
            writer._file = real
            newest = event(time_ns() // 100 + EPOCH)
            writer.write(newest)
            assert [newest] == read(path)

    def test_file_is_closed(self, path):
        """A close() that fails closes the file nevertheless."""
        writer = EtlWriter(path, flush_interval_s=1000)
        writer.write(event())
        real, writer._file = writer._file, FullDisk(writer._file)
        with pytest.raises(OSError, match="No space left"):
            writer.close()
        assert real.closed


class TestRefusals:
    """What cannot be written is told."""

    def test_buffer_size(self, path):
        """A buffer has a size that Windows knows."""
        with pytest.raises(ValueError, match=r"must be a multiple of 1024 .*, got 5000\. Leave"):
            EtlWriter(path, buffer_size_bytes=5000)

    @pytest.mark.parametrize("interval", [-1, 3601, float("nan")])
    def test_interval(self, path, interval):
        """An interval is one that a timer takes."""
        with pytest.raises(ValueError, match=r"must be from 0 to 3600, got .* Leave it out"):
            EtlWriter(path, flush_interval_s=interval)

    def test_existing_file(self, path):
        """A file that must not be replaced is left as it is."""
        path.write_bytes(b"old")
        with pytest.raises(FileExistsError):
            EtlWriter(path, replaces=False)
        assert b"old" == path.read_bytes()

    def test_lane(self, path):
        """Messages need a buffer that any event fits; after close() they are refused, too."""
        lane = MessageLane(event().provider_id, b"", Encoder(event()))
        with EtlWriter(path) as writer, pytest.raises(ValueError, match="must fit a record"):
            lane._use(writer)
        writer = EtlWriter(path, buffer_size_bytes=131072, flush_interval_s=1000)
        lane._use(writer)
        lane({})
        writer.close()
        for message in ({}, {"timestamp": 1.5}):
            with pytest.raises(ValueError, match=r"before close\(\)"):
                lane(message)
        assert 1 == len(read(path))

    def test_no_folder(self, path):
        """A file that cannot be made is told at once."""
        with pytest.raises(FileNotFoundError):
            EtlWriter(path / "x.etl")

    @pytest.mark.parametrize("size", [4096, 70_000])
    def test_long_event(self, path, size):
        """An event that does not fit a buffer is told, and the next one is written."""
        with EtlWriter(path, buffer_size_bytes=4096) as writer:
            with pytest.raises(ValueError, match=r"^An event must fit .* Cut its payload\.$"):
                writer.write(event(payload=bytes(size)))
            writer.write(event())
        assert [event()] == read(path)

    def test_large_number(self, path):
        """A number that does not fit its place is told."""
        with (
            EtlWriter(path) as writer,
            pytest.raises(ValueError, match=r"^An event's numbers must fit .*opcode=256"),
        ):
            writer.write(event(opcode=256))

    @pytest.mark.parametrize("ticks", [-1, 2**62])
    def test_time(self, path, ticks):
        """A time that does not fit its place is told."""
        with EtlWriter(path) as writer, pytest.raises(ValueError, match="ticks 62 from 0 on"):
            writer.write(event(ticks))

    @pytest.mark.parametrize("method", ["write", "flush"])
    def test_closed(self, path, method):
        """After close() nothing is accepted; close() itself may be called again."""
        writer = EtlWriter(path)
        writer.close()
        writer.close()
        with pytest.raises(ValueError, match=r"before close\(\)"):
            getattr(writer, method)(*[event()] * (method == "write"))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_forked(self, path):
        """A child cannot spoil its parent's trace; even if a thread was just writing."""
        run_forking(
            """
import sys
from eliot_etw.etw._etl import EtlWriter
from tests.etw._traces import event

writer = EtlWriter(sys.argv[1])
writer.write(event())

def work():
    try:
        writer.write(event())
    except ValueError as error:
        assert "after the fork" in str(error)
    else:
        raise AssertionError
    writer.close()

with writer._lock:
    in_child(work)
writer.write(event())
writer.close()
""",
            path,
            cwd=_root(),
        )
        assert [event()] * 2 == read(path)

    def test_too_many_processors(self, path, monkeypatch):
        """Events that are ever older are written also if no processor is left for them."""
        monkeypatch.setattr(_etl_writer, "_MAX_STREAMS", 2)
        written = [event(NOW - number) for number in range(5)]
        write(path, written)
        assert in_order(written) == in_order(read(path))


def _root():
    """Return the folder of the checkout."""
    return os.path.join(os.path.dirname(__file__), "..", "..")
