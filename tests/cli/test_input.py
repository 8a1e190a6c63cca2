"""Tests of what the verbs read: traces among logs, by content, by time, with what was left out."""

import errno
import gzip
import json
import lzma
import os
import shutil
import subprocess
import sys
from itertools import count
from uuid import uuid4

import pytest

from eliot_etw import cli
from eliot_etw._json import encode_line
from eliot_etw.destinations import EtlFileDestination, JournaldDestination
from eliot_etw.etw import EtlWriter
from eliot_etw.otlp._json import encode_spans
from eliot_etw.otlp._model import Span
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._nats_stream import NatsStream, NewStream
from eliot_etw.shipping._redis_stream import RedisStream
from tests import _journal, _services
from tests.etw._traces import NOW, event, sample

START = 1_750_000_000.0  # which is NOW


def messages(*seconds):
    """Make messages of different tasks."""
    for second in seconds:
        place = {"task_uuid": f"task-{second}", "task_level": [1], "timestamp": START + second}
        yield {**place, "message_type": f"app:m{second}"}


@pytest.fixture
def trace(tmp_path):
    """Write a trace of messages; return its path."""
    path = tmp_path / "x.etl"
    destination = EtlFileDestination(path)
    for message in messages(1, 3):
        destination(message)
    destination.close()
    return path


class TestTraces:
    """Traces are read like logs."""

    @pytest.mark.parametrize("verb", [["tree"], ["pretty", "-c"], ["filter", "J"], ["stats"]])
    def test_verbs(self, call, trace, verb):
        """Each verb shows the messages of a trace."""
        status, output, errors = call(*verb, trace)
        assert (0, "") == (status, errors)
        assert "app:m1" in output
        assert "app:m3" in output

    def test_same_as_lines(self, call, trace, tmp_path):
        """A trace and a file of lines with the same messages look the same."""
        log = tmp_path / "x.log"
        log.write_bytes(b"".join(map(encode_line, messages(1, 3))))
        assert call("tree", log) == call("tree", trace)

    def test_among_logs(self, call, trace):
        """Traces, logs and standard input are merged by time."""
        lines = b"".join(map(encode_line, messages(0, 2, 4)))
        output = call("filter", "J['message_type']", trace, "-", stdin=lines)[1]
        assert [f"app:m{number}" for number in range(5)] == list(map(json.loads, output.split()))

    def test_other_name(self, call, trace):
        """A trace is known by its content, whatever it is called."""
        other = shutil.move(trace, trace.with_suffix(".log"))
        status, output, errors = call("tree", other)
        assert (0, True, "") == (status, "app:m1" in output, errors)

    def test_foreign(self, call, tmp_path):
        """Activities of other programs are actions."""
        path = tmp_path / "x.etl"
        with EtlWriter(path) as writer:
            for number, opcode in enumerate((1, 0, 2)):
                one = event(NOW + number, b"x\0", opcode=opcode)
                writer.write(one._replace(activity_id=one.provider_id))
        status, output, errors = call("tree", "--utc", path)
        assert (0, "") == (status, errors)
        first, second = output.splitlines()[1:]
        assert "✓ an-event" in first
        assert "└─ · an-event text=x etw:provider=an-app" in second


class TestReports:
    """What is wrong with a trace is said."""

    def test_left_out(self, call):
        """Records that are no TraceLogging events are counted."""
        name = sample("CldFlt0.etl")
        assert call("tree", name) == (
            0,
            "",
            f"eliot-etw: {name}: left out: 13 WPP.\n"
            "eliot-etw: Nothing to show: there are no messages.\n",
        )

    def test_lost(self, call):
        """Events that Windows lost are counted."""
        name = sample("AMSITrace.etl")
        errors = call("stats", name)[2]
        assert f"eliot-etw: {name}: left out: 3 lost before they were recorded.\n" == errors

    def test_damage(self, call, trace):
        """What is damaged is said with its place, and counted; the rest is shown."""
        data = bytearray(trace.read_bytes())
        data[-131072 + 72 : -131072 + 74] = b"\1\0"
        trace.write_bytes(data)
        status, _, errors = call("tree", trace)
        first, second, _ = errors.splitlines()
        assert 0 == status
        assert first.startswith(f"{trace}: at offset 131072: a record, 0 bytes into the buffer")
        assert f"eliot-etw: {trace}: left out: 1 damaged." == second

    @pytest.mark.parametrize("content", [b"", b"{}\n" * 100])
    def test_no_trace(self, call, tmp_path, content):
        """A file that is called a trace and is none is one line, and status 2."""
        path = tmp_path / "x.ETL"
        path.write_bytes(content)
        status, output, errors = call("tree", path)
        assert (2, "", 1) == (status, output, len(errors.splitlines()))
        assert errors.startswith(f"eliot-etw: {path}: A trace must begin with a buffer")

    def test_follow(self, call, trace):
        """A trace cannot be followed."""
        assert call("tree", "--follow", trace) == (
            2,
            "",
            f"eliot-etw: {trace}: is a trace; only a log of messages can be followed\n",
        )


class TestStandardInput:
    """Traces by way of standard input."""

    def test_redirected(self, start, trace):
        """A file that the shell opened is read."""
        with trace.open("rb") as file:
            output, errors = start("tree", stdin=file).communicate(timeout=60)
        assert (True, b"") == (b"app:m1" in output, errors)

    def test_pipe(self, start, trace):
        """One that comes through a pipe is refused in one line, with what to do."""
        program = start("tree", stdin=subprocess.PIPE)
        output, errors = program.communicate(trace.read_bytes(), timeout=60)
        assert (2, b"") == (program.returncode, output)
        assert errors.decode().splitlines() == [
            "eliot-etw: <stdin>: is a trace, which cannot be read from a pipe; name its file"
        ]

    @pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
    def test_compressed(self, call, start, trace, tmp_path, compress):
        """One that was compressed as a whole is not taken for bad lines; what to do is said."""
        path = tmp_path / "x.etl.gz"
        path.write_bytes(compress(trace.read_bytes()))
        why = "is a trace that was compressed; decompress it first"
        assert call("tree", path) == (2, "", f"eliot-etw: {path}: {why}\n")
        with open(path, "rb") as file:
            _, errors = start("tree", stdin=file).communicate()
        assert errors.decode().splitlines() == [f"eliot-etw: <stdin>: {why}"]

    @pytest.mark.parametrize("verb", [["tree"], ["etl", "dump"]])
    def test_no_standard_input(self, monkeypatch, capsys, verb):
        """Where there is no standard input, that is said in one line."""
        monkeypatch.setattr(sys, "argv", ["eliot-etw", *verb, "-"])
        monkeypatch.setattr(sys, "stdin", None)
        assert cli.main() == 2
        assert f"eliot-etw: <stdin>: {os.strerror(errno.EBADF)}\n" in capsys.readouterr().err

    @pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
    def test_named_pipe(self, call, tmp_path):
        """Nothing is taken out of a pipe to look at it."""
        import os
        import threading

        path = tmp_path / "pipe"
        os.mkfifo(path)
        lines = b"".join(map(encode_line, messages(1)))
        writer = threading.Thread(target=path.write_bytes, args=(lines,))
        writer.start()
        output = call("tree", path)[1]
        writer.join()
        assert "app:m1" in output


@pytest.fixture
def journal():
    """Write messages to a journal; return what the command line calls it by."""
    journal = _journal.shared()
    name = f"input-{next(_numbers)}"
    destination = JournaldDestination(socket_path=journal.socket_path, identifier=name)
    for message in messages(1, 3):
        destination(message)
    destination.close()
    journal.sync()
    return f"journal:identifier={name},directory={journal.logs}"


_numbers = count()


class TestJournals:
    """Journals are read like logs."""

    @pytest.mark.parametrize("verb", [["tree"], ["pretty", "-c"], ["filter", "J"], ["stats"]])
    def test_verbs(self, call, journal, verb):
        """Each verb shows the messages of a journal."""
        status, output, errors = call(*verb, journal)
        assert (0, "") == (status, errors)
        assert "app:m1" in output
        assert "app:m3" in output

    def test_merged(self, call, journal, tmp_path):
        """A journal and a file are merged by time."""
        log = tmp_path / "x.log"
        log.write_bytes(b"".join(map(encode_line, messages(0, 2, 4))))
        _, output, _ = call("filter", "J['message_type']", journal, log)
        assert [json.loads(line) for line in output.splitlines()] == [
            f"app:m{n}" for n in range(5)
        ]

    def test_of_the_machine(self, journal):
        """Without a folder it is the journal of the machine."""
        name, _, _ = journal.partition(",")
        command = [sys.executable, "-m", "eliot_etw.cli", "filter", "J['message_type']", name]
        output = _journal.shared().run(*command)
        assert output.split() == ['"app:m1"', '"app:m3"']

    def test_nothing(self, call, journal):
        """Where nothing was logged, there is nothing to show."""
        status, _, errors = call("tree", f"{journal},until=-1h")
        assert (status, errors) == (0, "eliot-etw: Nothing to show: there are no messages.\n")

    def test_unreadable(self, call, journal):
        """What journalctl complains about is reported."""
        status, _, errors = call("tree", "journal:directory=/no/such")
        assert status == 2
        assert errors.startswith("eliot-etw: journal:directory=/no/such: ")
        assert "No such file" in errors

    def test_wrong_name(self, call):
        """A name that is none is a mistake on the command line."""
        status, _, errors = call("tree", "journal:nonsense")
        assert status == 2
        assert "got 'nonsense'. Write journal:unit=" in errors

    def test_hint(self, call, journal, monkeypatch, tmp_path):
        """What journalctl says besides is shown."""
        program = tmp_path / "journalctl"
        program.write_text("#!/bin/sh\necho 'Hint: you may not see it all' >&2\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        _, _, errors = call("tree", "journal:")
        assert "journal:: Hint: you may not see it all\n" in errors


class TestOtlp:
    """OpenTelemetry's lines of JSON are read like logs."""

    @pytest.fixture
    def otlp(self, tmp_path):
        """Write a file of spans; return its path."""
        path = tmp_path / "spans.json"
        path.write_bytes(encode_spans([self.span(2, parent=1), self.span(1)]))
        return path

    def span(self, number, parent=None):
        """Make a span of a second."""
        return Span(
            trace_id="5b8efff798038103d269b633813fc60c",
            span_id=f"{number:016x}",
            parent_span_id=parent and f"{parent:016x}",
            name=f"span-{number}",
            start_ns=int(START * 1e9) + number * 10**6,
            end_ns=int(START * 1e9) + number * 10**6 + 10**9,
        )

    @pytest.mark.parametrize("verb", [["tree"], ["pretty", "-c"], ["filter", "J"], ["stats"]])
    def test_verbs(self, call, otlp, verb):
        """Each verb shows spans."""
        status, output, errors = call(*verb, otlp)
        assert (0, "") == (status, errors)
        assert "span-1" in output
        assert "span-2" in output

    def test_tree(self, call, otlp):
        """A trace is a tree."""
        first, second = call("tree", "--utc", otlp)[1].splitlines()[1:]
        assert "✓ span-1 [5b8efff7]" in first
        assert "└─ ✓ span-2" in second

    @pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
    def test_compressed(self, call, otlp, pack):
        """It is known by its content, compressed or not, whatever it is called."""
        expected = call("tree", otlp)
        packed = otlp.with_name("app.log")
        packed.write_bytes(pack(otlp.read_bytes()))
        assert expected == call("tree", packed)

    def test_standard_input(self, call, start, otlp):
        """It may come from a pipe."""
        program = start("tree", stdin=subprocess.PIPE)
        output, errors = program.communicate(otlp.read_bytes(), timeout=60)
        assert (call("tree", otlp)[1].splitlines(), b"") == (output.decode().splitlines(), errors)

    def test_written_over_lines(self, call, otlp):
        """A single request may be written over many lines."""
        expected = call("tree", otlp)
        otlp.write_text(json.dumps(json.loads(otlp.read_bytes()), indent=2))
        assert expected == call("tree", otlp)

    def test_after_a_torn_line(self, call, otlp):
        """It is known by any line near its beginning."""
        otlp.write_bytes(b'ans":[{}]}\n' + otlp.read_bytes())
        status, output, errors = call("tree", otlp)
        assert (0, True) == (status, "span-2" in output)
        assert f"{otlp}:1: not JSON: Expecting value at column 1\n" in errors

    def test_bad_lines(self, call, otlp):
        """What is bad is said with its line, and counted."""
        content = otlp.read_bytes()
        otlp.write_bytes(content + b"{}\n" + content[:-9])
        status, output, errors = call("stats", "--json", otlp)
        assert (0, 4) == (status, json.loads(output)["count"])
        assert errors == (
            f"{otlp}:2: not OTLP: no resourceSpans, resourceLogs or resourceMetrics\n"
            f"{otlp}:3: the last line is unfinished\n"
            "eliot-etw: 2 lines were skipped, being no messages.\n"
        )

    def test_metrics(self, call, otlp):
        """Metrics are no messages, and counted."""
        otlp.write_bytes(b'{"resourceMetrics":[{}]}\n' + otlp.read_bytes())
        status, _, errors = call("tree", otlp)
        said = f"eliot-etw: {otlp}: left out: 1 requests of metrics, which are no messages.\n"
        assert (0, said) == (status, errors)

    def test_among_logs(self, call, otlp, trace):
        """Its messages stand among those of other files, by time."""
        log = otlp.with_name("x.log")
        log.write_bytes(b"".join(map(encode_line, messages(0))))
        output = call("filter", "J.get('message_type') or J['action_type']", otlp, trace, log)[1]
        assert list(map(json.loads, output.split())) == [
            *("app:m0", "span-1", "span-2", "app:m1", "span-1", "span-2", "app:m3"),
        ]

    def test_one_task(self, call, otlp):
        """Messages of ours and spans of one trace are one tree."""
        log = otlp.with_name("x.log")
        place = {"task_uuid": "5b8efff7-9803-8103-d269-b633813fc60c", "task_level": [7]}
        log.write_bytes(encode_line({**place, "timestamp": START, "message_type": "app:said"}))
        output = call("tree", "--utc", otlp, log)[1]
        assert 1 == output.count("5b8efff7")
        assert "app:said" in output

    def test_follow(self, call, otlp):
        """It cannot be followed, which is said."""
        status, _, errors = call("tree", "--follow", otlp)
        assert 2 == status
        assert f"eliot-etw: {otlp}: is OTLP; only a log of messages can be followed\n" in errors

    def test_with_a_bad_file(self, call, otlp):
        """What cannot be read beside it is said once, and all else is shown."""
        bad = otlp.with_name("bad.etl")
        bad.write_bytes(b"x" * 200)
        gone = otlp.with_name("gone.json")
        status, output, errors = call("tree", otlp, bad, gone)
        assert (2, 2) == (status, errors.count("\n"))
        assert "span-2" in output
        assert f"{bad}: A trace must begin with" in errors
        assert f"{gone}: No such file or directory" in errors

    def test_with_a_damaged_file(self, call, otlp):
        """Of a log beside it that is damaged, what can be read is shown, and it is said once."""
        log = otlp.with_name("x.log.gz")
        log.write_bytes(gzip.compress(b"".join(map(encode_line, messages(*range(500)))))[:-20])
        status, output, errors = call("tree", otlp, log)
        assert (2, 1, 1) == (status, errors.count("cut off"), errors.count("is unfinished"))
        assert "app:m99" in output


def test_stream_of_redis(call):
    """The command reads a stream of Redis by its name."""
    pytest.importorskip("redis")
    stream = RedisStream(
        _services.shared("redis").url, f"test-{uuid4()}", timeout_s=5, feature="a test"
    )
    message = {
        "task_uuid": "a",
        "task_level": [1],
        "timestamp": 1.0,
        "action_type": "app:a",
        "action_status": "started",
    }
    stream.append([Item(encode_line(message)[:-1], "s", 1, "")])
    stream.close()
    status, shown, said = call("tree", f"{stream.url}?stream={stream.name}")
    assert (status, said) == (0, "")
    assert "app:a" in shown


def test_stream_of_nats(call):
    """The command reads a stream of JetStream by its name."""
    pytest.importorskip("nats")
    stream = NatsStream(
        _services.shared("nats").url,
        f"test-{uuid4()}",
        timeout_s=30,
        feature="a test",
        new=NewStream(),
    )
    message = {
        "task_uuid": "a",
        "task_level": [1],
        "timestamp": 1.0,
        "action_type": "app:a",
        "action_status": "started",
    }
    stream.append([Item(encode_line(message)[:-1], "s", 1, "")])
    stream.close()
    status, shown, said = call("tree", f"{stream.url}?stream={stream.name}")
    assert (status, said) == (0, "")
    assert "app:a" in shown
    status, shown, said = call("tree", f"{stream.url}?stream=none-of-it")
    assert (status, shown, len(said.splitlines())) == (2, "", 1)


def test_redis_that_is_away(call):
    """A Redis that is not there is one line without a password, and exit status 2."""
    pytest.importorskip("redis")
    for command in ("tree", "stats", "pretty"):
        status, shown, said = call(command, "redis://user:s3cret@127.0.0.1:1/0")
        assert (status, shown) == (2, "")
        assert len(said.splitlines()) == 1
        assert "redis://127.0.0.1:1/0" in said
        assert "s3cret" not in said
