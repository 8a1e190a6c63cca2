"""Tests of reading messages back from OpenTelemetry's files of JSON."""

import gzip
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._written import place_of
from eliot_etw.otlp import _attributes
from eliot_etw.otlp._json import encode_logs, encode_spans
from eliot_etw.otlp._model import ERROR, Event, Log, Span
from eliot_etw.sources import OtlpJsonSource, _lines, _sorted
from tests.otlp import test_json

TRACE = "5b8efff798038103d269b633813fc60c"
TASK = "5b8efff7-9803-8103-d269-b633813fc60c"
S = 10**9


def span(number, parent=None, *, start=0, end=9, **others):
    """Make a span whose id is its number; times are in seconds."""
    return Span(
        trace_id=TRACE,
        span_id=f"{number:016x}",
        parent_span_id=parent and f"{parent:016x}",
        name=f"span-{number}",
        start_ns=(100 + start) * S,
        end_ns=(100 + end) * S,
        **others,
    )


def read(content):
    """Read bytes as a file; return the messages and what was reported."""
    reports = []
    source = OtlpJsonSource(io.BytesIO(content), name="x", on_bad_line=reports.append)
    return list(source), [str(report) for report in reports]


def told(messages):
    """Say in short what messages are, and where."""
    return [
        (
            message["task_level"],
            message.get("message_type") or f"{message['action_type']} {message['action_status']}",
        )
        for message in messages
    ]


class TestTree:
    """What becomes of spans and log records."""

    def test_order(self):
        """Spans that were written as they ended are actions, given by time, in one task."""
        content = encode_spans(
            [
                span(3, 2, start=2, end=3, events=[Event("found", 102 * S + 5, {"n": 1})]),
                span(2, 1, start=1, end=4, status_code=ERROR, status_message="no"),
            ]
        ) + encode_spans([span(1)])
        log = Log(time_ns=103 * S + 5, body="hello", trace_id=TRACE, span_id=f"{2:016x}")
        messages, reports = read(content + encode_logs([log]))
        assert [] == reports
        assert {TASK} == {message["task_uuid"] for message in messages}
        assert [100, 101, 102, 102.000000005, 103, 103.000000005, 104, 109] == [
            message["timestamp"] for message in messages
        ]
        assert told(messages) == [
            ([1], "span-1 started"),
            ([2, 1], "span-2 started"),
            ([2, 2, 1], "span-3 started"),
            ([2, 2, 2], "found"),
            ([2, 2, 3], "span-3 succeeded"),
            ([2, 3], "otel:log"),
            ([2, 4], "span-2 failed"),
            ([3], "span-1 succeeded"),
        ]

    @given(st.permutations([span(n, n // 2 or None, start=n, end=20 - n) for n in range(1, 7)]))
    def test_any_order(self, spans):
        """In whatever order, and in however many lines, they come: the tree is the same."""
        one_line, _ = read(encode_spans(sorted(spans, key=lambda one: one.start_ns)))
        assert one_line == read(b"".join(encode_spans([one]) for one in spans))[0]

    def test_more_than_memory(self, monkeypatch):
        """The same where they wait on disk."""
        spans = [span(n, n // 2 or None, start=n, end=99 - n, attributes={"n": n})
                 for n in range(1, 40)]  # fmt: skip
        content = b"".join(encode_spans([one]) for one in reversed(spans))
        expected = read(content)
        monkeypatch.setattr(_sorted, "_BUDGET_BYTES", 1000)
        assert expected == read(content)

    def test_nothing(self):
        """A file in which nothing is has no messages."""
        assert ([], []) == read(b"") == read(b"\n \n")


few = {
    "trace_id": st.integers(1, 2).map(lambda number: f"{number:032x}"),
    "span_id": st.integers(1, 4).map(lambda number: f"{number:016x}"),
}
OURS = [name for name in vars(_attributes).values() if str(name).startswith("eliot.")]
odd_attributes = st.dictionaries(
    st.sampled_from([*OURS, "message", "exception.type", "task_uuid", "task_level", "timestamp"]),
    test_json.values | st.sampled_from(["/1", "/2/1", "", "/", "/0", "[]", "null", "[1.5]", "[["]),
    max_size=6,
)


@st.composite
def items(draw, attributes):
    """Make spans and log records of two traces, with parents in whatever way."""
    spans = [
        replace(
            one,
            trace_id=draw(few["trace_id"]),
            span_id=draw(few["span_id"]),
            parent_span_id=draw(st.none() | few["span_id"]),
            attributes=draw(attributes),
        )
        for one in draw(st.lists(test_json.spans, max_size=4))
    ]
    logs = [
        replace(
            one,
            trace_id=draw(st.none() | few["trace_id"]),
            span_id=draw(st.none() | few["span_id"]),
            attributes=draw(attributes),
        )
        for one in draw(st.lists(test_json.logs, max_size=2))
    ]
    return spans, logs


class TestAnything:
    """Whatever spans and log records there are."""

    @given(items(test_json.attributes))
    def test_each_has_a_place(self, items):
        """Each span is an action, and no two messages claim one place."""
        spans, logs = items
        messages, reports = read(encode_spans(spans) + encode_logs(logs))
        assert [] == reports
        places = [(message["task_uuid"], *message["task_level"]) for message in messages]
        assert len(set(places)) == len(places)
        told = {(one.trace_id, one.span_id, one.start_ns) for one in spans if one.end_ns}
        begun = [one for one in messages if one.get("action_status") == "started"]
        assert len(told) <= len(begun) <= len(spans)

    @given(items(odd_attributes))
    def test_lookalikes(self, items):
        """What only pretends to be made of messages of ours does no harm."""
        spans, logs = items
        messages, _ = read(encode_spans(spans) + encode_logs(logs))
        assert all(map(place_of, messages))


class TestFiles:
    """Forms of files."""

    def test_path_again(self, tmp_path):
        """A path is opened anew each time, compressed or not."""
        path = tmp_path / "x.json.gz"
        path.write_bytes(gzip.compress(encode_spans([span(1)])))
        source = OtlpJsonSource(path)
        assert str(path) == source.name
        assert 4 == len([*source, *source])

    def test_damaged(self):
        """Of a file that is cut off all is given that can be read, then it is an error."""
        lines = b"".join(encode_spans([span(n)]) for n in range(1, 200))
        found = []
        with pytest.raises(OSError, match="cut off"):
            found.extend(OtlpJsonSource(io.BytesIO(gzip.compress(lines)[:-40])))
        assert len(found) > 300

    @pytest.mark.parametrize("indent", [1, "\t"])
    def test_written_over_lines(self, indent):
        """A request may be written over many lines; so may several."""
        requests = [json.loads(encode_spans([span(n)])) for n in (1, 2)]
        content = "\n".join(json.dumps(request, indent=indent) for request in requests)
        assert read(content.encode()) == read(encode_spans([span(1), span(2)]))
        assert read(content.replace("\n", "\r\n").encode())[0]

    def test_byte_order_mark(self):
        """A file that was through an editor on Windows can be read."""
        content = json.dumps(json.loads(encode_spans([span(1)])), indent=2).encode()
        assert read(b"\xef\xbb\xbf" + content) == read(content)

    def test_metrics(self):
        """Requests of metrics are counted, anew each time."""
        content = b'{"resourceMetrics":[{}]}\n{"resourceMetrics":[{}],"resourceSpans":[]}\n'
        source = OtlpJsonSource(io.BytesIO(content + encode_spans([span(1)])))
        assert 2 == len(list(source))
        assert {"metrics": 2} == source.skipped
        list(source)
        assert {} == source.skipped


class TestBadLines:
    """What cannot be read is reported, and the rest is given."""

    def good(self):
        """Write a span."""
        return encode_spans([span(1)])

    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (b"nonsense", "not JSON: Expecting value at column 1"),
            (b"[1]", "not OTLP: no resourceSpans, resourceLogs or resourceMetrics"),
            (b'{"task_uuid":"x"}', "not OTLP: no resourceSpans, resourceLogs or resourceMetrics"),
            (b'{"resourceSpans":[}', "not JSON: Expecting value at column 19"),
            (b'{"resourceSpans":5}', "resourceSpans must be a list, got 5"),
        ],
    )
    def test_lines(self, bad, why):
        """A line that is no request."""
        messages, reports = read(self.good() + bad + b"\n" + self.good())
        assert [f"x:2: {why}"] == reports
        assert messages == read(self.good() * 2)[0]

    def test_item(self):
        """A span that is none, in a request with others."""
        request = json.loads(encode_spans([span(1), span(2)]))
        request["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["spanId"] = "?"
        messages, (report,) = read(b"\n" + json.dumps(request).encode())
        assert 2 == len(messages)
        assert report.startswith("x:2: spans: spanId must be hexadecimal digits")

    def test_unfinished(self):
        """The torn last line, which a killed program left."""
        messages, reports = read(self.good() + self.good()[:-9])
        assert (2, ["x:2: the last line is unfinished"]) == (len(messages), reports)

    def test_unfinished_object(self):
        """An object over several lines that does not end: before another, or before the end."""
        begun = b'{\n "resourceSpans": [\n'
        messages, reports = read(begun + self.good() + begun)
        assert 2 == len(messages)
        assert [
            "x:1: an object begins here that does not end",
            "x:4: an object begins here that does not end",
        ] == reports

    def test_bad_object(self):
        """An object over several lines that is no JSON."""
        messages, (report,) = read(b'{\n "resourceSpans": ?\n}\n' + self.good())
        assert 2 == len(messages)
        assert report.startswith("x:1: not JSON: Expecting value")

    def test_endless_object(self, monkeypatch):
        """An object without an end is not kept."""
        monkeypatch.setattr(_lines, "MAX_LINE_BYTES", 1 << 20)
        monkeypatch.setattr("eliot_etw.sources.otlp.MAX_LINE_BYTES", 1 << 20)
        content = b"{\n" + b'"x": 5,\n' * (3 << 17) + b"}\n"
        messages, reports = read(content + self.good())
        assert (2, ["x:1: longer than 1 MiB"]) == (len(messages), reports)
