"""Tests of where the exporters write: one trace for several, forks, disks that are full."""

import errno
import os
import signal
import subprocess
import sys
import time
from threading import Thread
from uuid import UUID

import pytest

pytest.importorskip("opentelemetry.sdk")

from eliot_etw import add_destinations, log_message, remove_destination
from eliot_etw.destinations import EtlFileDestination
from eliot_etw.etw import provider_guid, read_etl
from eliot_etw.opentelemetry import _event_output
from eliot_etw.opentelemetry._common_schema import descriptor
from eliot_etw.opentelemetry._event_output import open_output
from eliot_etw.testing import RecordingEtw

# The metadata of an event called "e" without fields.
METADATA = b"\x05\0\0e\0"
SECOND = 1_000_000_000
NOW = 1_795_181_013 * SECOND


def write(output, payload=b"x", time=NOW, level=4, **others):
    """Write an event."""
    return output.write(time, descriptor(level), METADATA, payload, **others)


def payloads(path):
    """Return what the events of a trace have."""
    return [event.payload for event in read_etl(path)]


class TestEtw:
    """Events to Windows."""

    def test_all_that_an_event_has(self):
        """An event arrives with its ids, from the provider that it is to be of."""
        guid = UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
        with RecordingEtw() as etw:
            output = open_output("App", file=None, guid=guid, group=guid)
            assert write(output, activity=bytes(range(16)), related=bytes(range(1, 17)))
            output.close()
        (event,) = etw.events
        assert ("App", guid, guid) == (
            event.provider_name,
            event.provider_id,
            event.provider_group,
        )
        assert bytes(range(16)) == event.activity_id.bytes_le
        assert bytes(range(1, 17)) == event.related_activity_id.bytes_le
        assert output.flush()

    def test_refused_by_several_codes(self):
        """What Windows refuses is counted by its code, and what comes late apart."""
        with RecordingEtw() as etw:
            output = open_output("App", file=None)
            for code in (8, 8, 5):
                etw.fail_writes(code)
                assert not write(output)
            output.close()
            output.close()
            assert not write(output)
        expected = {"written": 0, "failed": 3, "failed_5": 1, "failed_8": 2, "after_close": 1}
        assert expected == output.stats()


class TestTrace:
    """Events to a file."""

    def test_event(self, tmp_path):
        """An event has its time, its ids, and the provider that it is of."""
        output = open_output("App", file=tmp_path / "a.etl")
        assert write(output, b"p", activity=bytes(range(16)), related=bytes(range(1, 17)))
        output.close()
        (event,) = read_etl(tmp_path / "a.etl")
        assert (NOW / SECOND, 4, 1) == (event.timestamp, event.level, event.keyword)
        assert ("App", provider_guid("App")) == (event.provider_name, event.provider_id)
        assert (os.getpid(), METADATA, b"p") == (event.process_id, event.metadata, event.payload)
        assert bytes(range(16)) == event.activity_id.bytes_le
        assert bytes(range(1, 17)) == event.related_activity_id.bytes_le
        assert {"written": 1, "failed": 0, "after_close": 0} == output.stats()

    def test_order(self, tmp_path):
        """Events that come late are in their place."""
        output = open_output("App", file=tmp_path / "a.etl")
        for number in (5, 3, 9, 1, 7):
            write(output, b"%d" % number, NOW + number * SECOND)
        output.close()
        assert [b"1", b"3", b"5", b"7", b"9"] == payloads(tmp_path / "a.etl")

    @pytest.mark.parametrize("when", [-(10**9), -(2**70), 2**70])
    def test_no_time(self, tmp_path, when):
        """An event whose time cannot be happens now."""
        output = open_output("App", file=tmp_path / "a.etl")
        assert write(output, time=when)
        output.close()
        (event,) = read_etl(tmp_path / "a.etl")
        assert abs(event.timestamp - time.time()) < 60

    def test_error_does_not_wait(self, tmp_path):
        """An error is in the file at once, and with it what came before."""
        output = open_output("App", file=tmp_path / "a.etl")
        write(output, b"1")
        write(output, b"2", level=2)
        assert [b"1", b"2"] == payloads(tmp_path / "a.etl")
        output.close()

    def test_flush(self, tmp_path):
        """What waits is in the file after a flush."""
        output = open_output("App", file=tmp_path / "a.etl")
        write(output, b"1")
        assert output.flush()
        assert [b"1"] == payloads(tmp_path / "a.etl")
        output.close()
        assert output.flush()

    def test_late(self, tmp_path):
        """After the end events are refused, and counted."""
        output = open_output("App", file=tmp_path / "a.etl")
        output.close()
        output.close()
        assert not write(output)
        assert {"written": 0, "failed": 0, "after_close": 1} == output.stats()

    def test_threads(self, tmp_path):
        """Several threads write at once, and nothing is lost."""
        output = open_output("App", file=tmp_path / "a.etl")

        def work(thread):
            for number in range(500):
                write(output, b"%d-%d" % (thread, number), NOW + number)

        threads = [Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        output.close()
        expected = {b"%d-%d" % (thread, number) for thread in range(4) for number in range(500)}
        found = payloads(tmp_path / "a.etl")
        assert expected == {*found}
        assert len(expected) == len(found)

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such device")
    def test_disk_that_is_full(self):
        """Setting it up says that there is no room."""
        with pytest.raises(OSError, match="No space left"):
            open_output("App", file="/dev/full")
        assert {} == _event_output._SHARED

    def test_disk_that_fills_up(self, tmp_path, monkeypatch):
        """What is not taken is counted; when there is room again, events are written."""
        output = open_output("App", file=tmp_path / "a.etl")
        write(output, b"0")  # from now on the trace begins with its time
        writer = output._destination._writer
        put = type(writer)._put

        def no_room(*_):
            raise OSError(errno.ENOSPC, "No space left")

        monkeypatch.setattr(type(writer), "_put", no_room)
        assert write(output, b"1")  # which waits
        assert not write(output, b"2", level=2)
        assert not output.flush()
        monkeypatch.setattr(type(writer), "_put", put)
        assert write(output, b"3", level=2)
        output.close()
        assert [b"0", b"1", b"3"] == payloads(tmp_path / "a.etl")
        assert (3, 1) == (output.stats()["written"], output.stats()["failed"])

    def test_what_waits_is_lost(self, tmp_path, monkeypatch):
        """Events that were taken, and cannot be written in the end, count as failed."""
        output = open_output("App", file=tmp_path / "a.etl")
        write(output)

        def no_room(*_):
            raise OSError(errno.ENOSPC, "No space left")

        with monkeypatch.context() as patch:
            patch.setattr(type(output._destination._writer), "_put", no_room)
            output.close()
        assert 1 == output.stats()["failed"]


class TestSharing:
    """Several exporters, and one trace."""

    def test_same_path(self, tmp_path, monkeypatch):
        """Those with the same path share a trace, which ends with the last of them."""
        monkeypatch.chdir(tmp_path)
        one = open_output("One", file="a.etl")
        two = open_output("Two", file=tmp_path / "a.etl")
        write(one, b"1")
        write(two, b"2", NOW + 1000)
        one.close()
        write(two, b"3", NOW + 2000)
        two.close()
        names = [(event.provider_name, event.payload) for event in read_etl("a.etl")]
        assert [("One", b"1"), ("Two", b"2"), ("Two", b"3")] == names
        assert ["a.etl"] == os.listdir()
        assert {} == _event_output._SHARED

    def test_path_anew(self, tmp_path):
        """After its end a trace is kept, and a new one is begun."""
        for payload in (b"1", b"2"):
            output = open_output("App", file=tmp_path / "a.etl")
            write(output, payload)
            output.close()
        assert [b"2"] == payloads(tmp_path / "a.etl")
        assert 2 == len([*tmp_path.iterdir()])

    def test_destination(self, tmp_path):
        """Eliot's messages and the events of exporters are in one trace, which stays open."""
        destination = EtlFileDestination(tmp_path / "a.etl")
        add_destinations(destination)
        try:
            output = open_output("App", file=destination)
            write(output, time=time.time_ns())
            output.close()
            log_message("app:message")
        finally:
            remove_destination(destination)
        destination.close()
        names = {event.provider_name for event in read_etl(tmp_path / "a.etl")}
        assert {"App", "eliot_etw"} == names

    def test_destination_that_is_closed(self, tmp_path):
        """Whoever closes a destination has events refused; to begin with a closed one is wrong."""
        destination = EtlFileDestination(tmp_path / "a.etl")
        output = open_output("App", file=destination)
        destination.close()
        assert not write(output)
        assert 1 == output.stats()["failed"]
        with pytest.raises(ValueError, match="must be logged before close"):
            open_output("App", file=destination)


FORK = """
import os, sys
from eliot_etw.opentelemetry._common_schema import descriptor
from eliot_etw.opentelemetry._event_output import open_output

path = sys.argv[1]
output = open_output("App", file=path)

def write(payload):
    assert output.write(1_795_181_013 * 10**9, descriptor(4), b"\\x05\\0\\0e\\0", payload)

write(b"before")
child = os.fork()
write(b"child" if child == 0 else b"parent")
if child == 0:
    output.close()
    os._exit(0)
print(child)
os.waitpid(child, 0)
write(b"after")
output.close()
"""
NO_END = """
import os, sys
from eliot_etw.opentelemetry._common_schema import descriptor
from eliot_etw.opentelemetry._event_output import open_output

output = open_output("App", file=sys.argv[1])
output.write(1_795_181_013 * 10**9, descriptor(4), b"\\x05\\0\\0e\\0", b"x")
"""


def run(program, path):
    """Run a program of this Python's, which may not warn."""
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", program, path]
    return subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout


class TestProcesses:
    """Programs that fork, and programs that end."""

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_fork(self, tmp_path):
        """A forked process writes to a file of its own."""
        child = run(FORK, tmp_path / "a.etl").strip()
        assert [b"before", b"parent", b"after"] == payloads(tmp_path / "a.etl")
        assert [b"child"] == payloads(tmp_path / f"a.{child}.etl")

    def test_exit(self, tmp_path):
        """Nothing is lost when a program ends without a word."""
        run(NO_END, tmp_path / "a.etl")
        reader = read_etl(tmp_path / "a.etl")
        assert [b"x"] == [event.payload for event in reader]
        assert reader.header.end_ticks > 0

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
    def test_killed(self, tmp_path):
        """A program that is killed leaves a trace that can be read."""
        program = NO_END.replace("descriptor(4)", "descriptor(2)") + "os.kill(os.getpid(), 9)"
        with pytest.raises(subprocess.CalledProcessError):
            run(program, tmp_path / "a.etl")
        assert [b"x"] == payloads(tmp_path / "a.etl")
