"""Tests of `eliot-etw convert`."""

import gzip
import io
import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import start_action
from eliot_etw._json import decode_line, encode_line
from eliot_etw._written import is_same
from eliot_etw.etw import read_etl
from eliot_etw.otlp._json import encode_logs, encode_spans, read_request
from eliot_etw.otlp._model import Log, Span
from eliot_etw.sources import EtlSource, FileSource, OtlpJsonSource
from tests.etw._traces import NOW, event, sample
from tests.sources._common_schema_events import PARENT, log_event, span_event
from tests.sources.test_etl import written

KINDS = ["json", "etl", "otlp-json"]


def message(number=1, **fields):
    """Make a message."""
    place = {"task_uuid": f"task-{number}", "task_level": [1], "timestamp": 1_750_000_000.5}
    return {**place, "message_type": "app:said", **fields}


def lines(*messages):
    """Write messages as lines."""
    return b"".join(map(encode_line, messages))


def read_lines(content):
    """Read lines back."""
    return [decode_line(line) for line in content.splitlines()]


@pytest.fixture
def log(tmp_path):
    """Write a log; return its path."""
    path = tmp_path / "app.log"
    path.write_bytes(lines(message(1, n=5), message(2, text="é", timestamp=1_750_000_001.0)))
    return path


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=5,
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(
    ["eliot.task_level", "exception", "reason", "message", "eliot:rest", "eliot:truncated#"]
)
fields = st.dictionaries(names, values, max_size=3)
kinds = st.just({}) | st.fixed_dictionaries({"message_type": st.just("eliot:traceback") | values})


@st.composite
def tasks(draw):
    """Make the messages of some tasks: some whole, some with parts missing, some odd."""
    messages = []
    for number in range(draw(st.integers(1, 3))):
        uuid = draw(st.uuids().map(str) | st.just(f"task-{number}"))
        found = _action(draw, uuid, [], draw(st.integers(0, 2)))
        messages += draw(st.sampled_from([found, found[1:], found[:-1]]))
        extra = draw(fields) | draw(kinds)
        messages.append({**extra, "task_uuid": f"{uuid}+", "task_level": [1]})
    time = draw(st.integers(1, 2 * 10**9))
    for number, one in enumerate(messages):
        if draw(st.integers(0, 9)):
            one["timestamp"] = time + number / draw(st.sampled_from([1, 7, 1024]))
    return messages


def _action(draw, uuid, level, depth):
    """Make the messages of an action, and of those within it."""
    kind = {"action_type": draw(st.sampled_from(["do", "app:do"])), "task_uuid": uuid}
    start = {**draw(fields), **kind, "action_status": "started", "task_level": [*level, 1]}
    messages, position = [start], 1
    for _ in range(draw(st.integers(0, 2))):
        position += 1
        if depth:
            messages += _action(draw, uuid, [*level, position], depth - 1)
        else:
            extra = draw(fields) | draw(kinds)
            messages.append({**extra, "task_uuid": uuid, "task_level": [*level, position]})
    status = draw(st.sampled_from(["succeeded", "failed"]))
    end = {**draw(fields), **kind, "action_status": status, "task_level": [*level, position + 1]}
    return [*messages, end]


def place(one):
    """Return what a message is found by."""
    return one["task_uuid"], one["task_level"]


class TestLaw:
    """Nothing changes on the way from one kind to another and back."""

    @pytest.mark.parametrize("kind", KINDS)
    @given(messages=tasks())
    def test_there_and_back(self, kind, messages):
        """Messages that were written as another kind come back the same."""
        from eliot_etw.cli._convert import _to_file
        from eliot_etw.cli._input import Input

        with TemporaryDirectory() as folder:
            paths = [str(Path(folder, name)) for name in ("a.json", "b", "c.json")]
            Path(paths[0]).write_bytes(lines(*messages))
            assert 0 == _to_file(Input((paths[0],)), kind, paths[1])
            assert 0 == _to_file(Input((paths[1],)), "json", paths[2])
            found = read_lines(Path(paths[2]).read_bytes())
        written_first = read_lines(lines(*messages))
        assert is_same(sorted(written_first, key=place), sorted(found, key=place))


class TestKinds:
    """What is written."""

    @pytest.mark.parametrize(
        ("name", "source"),
        [
            ("x.etl", EtlSource),
            ("x.ETL", EtlSource),
            ("x.json", FileSource),
            ("x.jsonl", FileSource),
            ("x.log", FileSource),
            ("x.otlp", OtlpJsonSource),
            ("x.otlp.json", OtlpJsonSource),
            ("x.otlp.jsonl", OtlpJsonSource),
        ],
    )
    def test_by_name(self, call, log, name, source):
        """The name of the output says what it is."""
        output = log.with_name(name)
        assert (0, "", "") == call("convert", log, "-o", output)
        assert list(FileSource(log)) == list(source(output))

    def test_by_option(self, call, log):
        """The option says it for any name, and against the name."""
        output = log.with_name("x.etl")
        assert (0, "", "") == call("convert", log, "--to", "otlp-json", "-o", output)
        assert list(FileSource(log)) == list(OtlpJsonSource(output))

    def test_unclear(self, call, log):
        """A name that does not say it needs the option."""
        status, _, errors = call("convert", log, "-o", log.with_name("x.txt"))
        assert 2 == status
        assert errors.startswith("eliot-etw: --to must say what to write (json, etl, otlp-json):")

    def test_name_in_a_trace(self, call, log):
        """A trace says where it is, not where it was written."""
        output = log.with_name("app.etl")
        assert (0, "", "") == call("convert", log, "-o", output)
        with output.open("rb") as file:
            assert str(output) == read_etl(file).header.log_file_name

    def test_services(self, call, tmp_path):
        """Spans and log records of several services are still theirs, whatever was between."""
        path = tmp_path / "in.otlp"
        span = Span(
            trace_id="1" * 32,
            span_id="2" * 16,
            parent_span_id=None,
            name="GET",
            start_ns=10**18,
            end_ns=10**18 + 10**9,
            resource={"service.name": "shop"},
        )
        inner = replace(
            span, span_id="3" * 16, parent_span_id="2" * 16, resource={"service.name": "bank"}
        )
        alone = Log(time_ns=10**18, body="hm", resource={"service.name": "clock"})
        path.write_bytes(encode_spans([inner, span]) + encode_logs([alone]))
        expected = {"2" * 16: "shop", "3" * 16: "bank", None: "clock"}
        for kind in KINDS:
            between, output = tmp_path / f"x.{kind}", tmp_path / "out.otlp"
            assert (0, "", "") == call("convert", path, "--to", kind, "-o", between)
            assert (0, "", "") == call("convert", between, "-o", output)
            items = [
                item
                for line in output.read_bytes().splitlines()
                for item in read_request(decode_line(line), pytest.fail)
            ]
            assert expected == {item.span_id: item.resource["service.name"] for item in items}

    @pytest.mark.parametrize("kind", ["json", "otlp-json"])
    def test_standard_output(self, start, log, kind):
        """Lines may go to standard output, and come from standard input."""
        with log.open("rb") as file:
            program = start("convert", "--to", kind, "-o", "-", stdin=file)
            output, errors = program.communicate(timeout=60)
        assert (0, b"") == (program.returncode, errors)
        assert list(FileSource(log)) == list(
            (FileSource if kind == "json" else OtlpJsonSource)(io.BytesIO(output))
        )

    def test_trace_to_standard_output(self, call, log):
        """A trace may not."""
        status, _, errors = call("convert", log, "--to", "etl", "-o", "-")
        assert 2 == status
        assert errors.startswith("eliot-etw: A trace cannot be written to standard output")

    def test_compressed(self, call, log):
        """Nothing is written compressed, and no file is called so."""
        status, _, errors = call("convert", log, "-o", log.with_name("x.log.gz"))
        assert 2 == status
        assert "OUTPUT must be no compressed file" in errors
        assert "use -o - and a pipe" in errors

    def test_many_messages(self, call, tmp_path):
        """Of very many messages no request becomes very large."""
        path = tmp_path / "x.log"
        path.write_bytes(lines(*(message(n) for n in range(2_000))))
        output = tmp_path / "x.otlp.json"
        assert 0 == call("convert", path, "-o", output)[0]
        assert 4 == output.read_bytes().count(b"\n")
        assert 2_000 == len(list(OtlpJsonSource(output)))

    def test_many_open_actions(self, call, tmp_path, monkeypatch):
        """What is open beyond what may be held is written early, and comes back the same."""
        from eliot_etw.cli import _convert

        monkeypatch.setattr(_convert, "_MOST_OPEN_BYTES", 10_000)
        kind = {"action_type": "app:do", "timestamp": 1.0}
        starts = [
            {**kind, "task_uuid": f"task-{n}", "task_level": [1], "action_status": "started"}
            for n in range(100)
        ]
        said = [
            {"task_uuid": f"task-{n}", "task_level": [2], "timestamp": 2.0, "message_type": "m"}
            for n in range(100)
        ]
        ends = [
            {**start, "task_level": [3], "action_status": "succeeded", "timestamp": 3.0}
            for start in starts
        ]
        path, output = tmp_path / "x.log", tmp_path / "x.otlp"
        path.write_bytes(lines(*starts, *said, *ends))
        assert (0, "", "") == call("convert", path, "-o", output)
        found = sorted(OtlpJsonSource(output), key=place)
        assert sorted([*starts, *said, *ends], key=place) == found
        assert 80 < output.read_bytes().count(b'"eliot.unfinished"') < 100


class TestInputs:
    """What is read."""

    def test_merged(self, call, tmp_path):
        """Inputs of all kinds become one log, by time."""
        plain, packed = tmp_path / "a.log", tmp_path / "b.log.gz"
        times = [1_750_000_000.0 + n for n in range(5)]
        plain.write_bytes(lines(message(1, timestamp=times[0]), message(4, timestamp=times[4])))
        packed.write_bytes(gzip.compress(lines(message(3, timestamp=times[3]))))
        trace, otlp = tmp_path / "c.etl", tmp_path / "d.otlp"
        for output, number in ((trace, 1), (otlp, 2)):
            content = lines(message(f"x{number}", timestamp=times[number]))
            assert 0 == call("convert", "-o", output, stdin=content)[0]
        status, output, errors = call(
            "convert", plain, packed, trace, otlp, "--to", "json", "-o", "-"
        )
        assert (0, "") == (status, errors)
        assert times == [one["timestamp"] for one in map(json.loads, output.splitlines())]

    def test_foreign_events(self, call, tmp_path):
        """Events of other programs, and OpenTelemetry's, are converted as they are read."""
        path = written(
            tmp_path / "in.etl",
            event(payload=b"x\0"),
            log_event(ticks=NOW + 1),
            span_event({"parentId": PARENT}, ticks=NOW + 2),
        )
        expected = list(EtlSource(path))
        for kind in KINDS:
            output = tmp_path / f"x.{kind}"
            assert (0, "", "") == call("convert", path, "--to", kind, "-o", output)
            found = call("filter", "J", output)[1]
            again = [json.loads(line) for line in found.splitlines()]
            assert sorted(map(str, map(place, expected))) == sorted(map(str, map(place, again)))
        assert 5 == len(
            call("convert", sample("primitive-types.etl"), "--to", "json", "-o", "-")[
                1
            ].splitlines()
        )

    def test_bad_lines(self, call, log):
        """What is bad is reported and counted; all else is converted, and that is a success."""
        log.write_bytes(b"nonsense\n" + log.read_bytes() + b"[]\n")
        output = log.with_name("x.etl")
        status, _, errors = call("convert", log, "-o", output)
        assert (0, 3) == (status, errors.count("\n"))
        assert f"{log}:1: not JSON" in errors
        assert "eliot-etw: 2 lines were skipped, being no messages.\n" in errors
        assert 2 == len(list(EtlSource(output)))

    def test_unreadable_end(self, call, log):
        """Of a file that is damaged, what could be read is written, and the status is 2."""
        content = lines(*(message(n) for n in range(500)))
        log.write_bytes(gzip.compress(content)[:-20])
        output = log.with_name("x.json")
        status, _, errors = call("convert", log, "-o", output)
        assert 2 == status
        assert "is cut off" in errors
        assert 400 < len(output.read_bytes().splitlines()) <= 500

    def test_unreadable(self, call, log):
        """If nothing could be read, an output that is there stays as it is."""
        output = log.with_name("x.json")
        output.write_text("as it was")
        status, _, errors = call("convert", log.with_name("none.log"), "-o", output)
        assert (2, "as it was") == (status, output.read_text())
        assert "No such file" in errors

    def test_nothing(self, call, log):
        """A log without messages becomes a file without messages."""
        log.write_bytes(b"")
        output = log.with_name("x.etl")
        status, _, errors = call("convert", log, "-o", output)
        assert (0, "eliot-etw: Nothing to show: there are no messages.\n") == (status, errors)
        assert [] == list(EtlSource(output))

    def test_cut(self, call, log):
        """What does not fit into an event is cut, with a mark in it, and said."""
        log.write_bytes(lines(message(1, text="x" * 100_000), message(2)))
        output = log.with_name("x.etl")
        status, _, errors = call("convert", log, "-o", output)
        assert 0 == status
        assert errors == (
            f"eliot-etw: {output}: 1 message was cut, for an event has at most 64 KiB; "
            "eliot:truncated in each says of what.\n"
        )
        first, second = EtlSource(output)
        assert {"text": 100_000} == first["eliot:truncated"]
        assert message(2) == second


class TestOutput:
    """The file that is written."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_replaced_at_the_end(self, call, log, kind):
        """A file that is there is replaced when all is written; nothing else is left behind."""
        output = log.with_name("x")
        output.write_text("before")
        output.chmod(0o640)
        assert 0 == call("convert", log, "--to", kind, "-o", output)[0]
        assert b"before" != output.read_bytes()
        assert {log.name, "x"} == {path.name for path in log.parent.iterdir()}
        if os.name != "nt":
            assert 0o640 == stat.S_IMODE(output.stat().st_mode)

    def test_not_an_input(self, call, log):
        """An input is never overwritten, by whatever name it is called."""
        other = log.with_name("other.log")
        os.link(log, other)
        before = log.read_bytes()
        for name in (log, other):
            status, _, errors = call("convert", log, "-o", name)
            assert 2 == status
            assert errors.startswith("eliot-etw: OUTPUT must be no input, got ")
        assert before == log.read_bytes()

    def test_not_standard_input(self, start, log):
        """Nor is what standard input is."""
        before = log.read_bytes()
        with log.open("rb") as file:
            program = start("convert", "-o", log, stdin=file)
            _, errors = program.communicate(timeout=60)
        assert (2, before) == (program.returncode, log.read_bytes())
        assert b"OUTPUT must be no input" in errors

    @pytest.mark.skipif(os.name == "nt", reason="Windows lets few make links")
    def test_link(self, call, log):
        """What a link names is written; the link stays one."""
        target, link = log.with_name("target.json"), log.with_name("link.json")
        link.symlink_to(target)
        assert 0 == call("convert", log, "-o", link)[0]
        assert link.is_symlink()
        assert log.read_bytes() == target.read_bytes()

    @pytest.mark.skipif(os.name == "nt", reason="devices are files elsewhere")
    @pytest.mark.parametrize("kind", KINDS)
    def test_device(self, call, log, kind):
        """A device stays what it is."""
        before = os.stat(os.devnull)
        assert (0, "", "") == call("convert", log, "--to", kind, "-o", os.devnull)
        assert (before.st_ino, before.st_mode) == (
            os.stat(os.devnull).st_ino, os.stat(os.devnull).st_mode
        )  # fmt: skip

    @pytest.mark.parametrize("kind", KINDS)
    def test_cannot_be_written(self, call, log, kind):
        """A place where nothing can be written is status 1, with the reason."""
        output = log.with_name("no-such-folder") / "x"
        status, _, errors = call("convert", log, "--to", kind, "-o", output)
        assert 1 == status
        assert errors.startswith(f"eliot-etw: cannot write: {output}: ")

    @pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
    @pytest.mark.parametrize("kind", KINDS)
    def test_disk_is_full(self, start, log, kind):
        """A full disk is status 1, in one line."""
        program = start("convert", log, "--to", kind, "-o", "/dev/full")
        _, errors = program.communicate(timeout=60)
        assert (1, 1) == (program.returncode, errors.count(b"\n"))
        assert b"cannot write: /dev/full: No space left on device" in errors

    @pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
    @pytest.mark.parametrize(
        ("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)]
    )
    def test_interrupted(self, start, log, name, status):
        """Ctrl-C leaves nothing behind, and the file as it was; so do signals to end."""
        output = log.with_name("x.json")
        output.write_text("before")
        program = start("convert", "-o", output, stdin=subprocess.PIPE)
        program.stdin.write(log.read_bytes())
        program.stdin.flush()
        while len(list(log.parent.iterdir())) < 3:
            assert program.poll() is None
        # Who comes just before Python begins to wait for input is heard only after that: so people
        # press Ctrl-C again.
        for _ in range(6):
            program.send_signal(getattr(signal, name))
            with suppress(subprocess.TimeoutExpired):
                program.wait(10)
                break
        assert status == program.returncode
        assert {log.name, "x.json"} == {path.name for path in log.parent.iterdir()}
        assert "before" == output.read_text()


def test_tree_is_the_same(call, tmp_path, messages):
    """The tree of a log looks the same, whatever it was converted to."""
    with start_action(action_type="outer", n=1):
        with start_action(action_type="inner") as inner:
            inner.log("said", text="x")
        with pytest.raises(ValueError, match="no"), start_action(action_type="bad"):
            raise ValueError("no")
    path = tmp_path / "x.log"
    path.write_bytes(lines(*messages))
    expected = call("tree", path)
    assert "outer" in expected[1]
    for kind in KINDS:
        output = tmp_path / kind
        call("convert", path, "--to", kind, "-o", output)
        assert expected == call("tree", output)
