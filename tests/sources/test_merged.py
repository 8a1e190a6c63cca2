"""Tests of reading several sources as one."""

import io

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import encode_line
from eliot_etw._trace_context import FIRST_DRAWN, span_id_of
from eliot_etw.destinations import EtlFileDestination
from eliot_etw.etw import EtlWriter, read_etl
from eliot_etw.otlp._json import encode_logs, encode_spans
from eliot_etw.otlp._messages_of import MessageMaker
from eliot_etw.otlp._model import Log, Span
from eliot_etw.parse import Parser
from eliot_etw.sources import EtlSource, FileSource, OtlpJsonSource, _spans, merge_by_time
from tests.etw._traces import event
from tests.sources._common_schema_events import TRACE, span_event


def at(*times):
    """Make messages of these times."""
    return [{"timestamp": time} for time in times]


def test_one_source_is_passed_through():
    """A single source keeps its order, whatever its times are."""
    messages = at(3, 1, 2)
    assert list(merge_by_time([messages])) == messages


def test_earlier_messages_come_first():
    """Two sources that are each in order become one that is in order."""
    assert list(merge_by_time([at(1, 4, 5), at(2, 3, 6)])) == at(1, 2, 3, 4, 5, 6)


def test_order_within_a_source_is_kept():
    """A time that goes back, or that is none, does not move a message before its predecessor."""
    client = at(10, 3, None, float("nan"), "noon", 11)
    merged = list(merge_by_time([client, at(10.5)]))
    assert [message for message in merged if message["timestamp"] != 10.5] == client
    assert merged[-2:] == at(10.5, 11)


def test_sources_are_read_only_as_far_as_needed():
    """What is not asked for is not read: logs need not fit into memory."""
    read = []

    def source(name):
        for time in range(1000):
            read.append(name)
            yield {"timestamp": time}

    merged = merge_by_time([source("a"), source("b")])
    next(merged)
    assert read == ["a", "b"]


@given(st.lists(st.lists(st.none() | st.floats() | st.integers()), max_size=4))
def test_nothing_is_lost(times):
    """Every message comes out exactly once."""
    sources = [
        [{"timestamp": time, "id": (s, i)} for i, time in enumerate(many)]
        for s, many in enumerate(times)
    ]
    merged = [message["id"] for message in merge_by_time(sources)]
    assert sorted(merged) == [message["id"] for source in sources for message in source]


class TestSpans:
    """What OpenTelemetry has to say of one trace may be in several files, and with ours."""

    TASK = "5b8efff7-9803-8103-d269-b633813fc60c"

    def span(self, number, parent, second):
        """Make a span that begins in a second, and takes one."""
        start_ns = (1_750_000_000 + second) * 10**9
        return Span(
            trace_id=TRACE,
            span_id=f"{number:016x}",
            parent_span_id=parent,
            name=f"span-{number}",
            start_ns=start_ns,
            end_ns=start_ns + 10**9,
        )

    def told(self, *sources):
        """Say in short what messages come from sources, and where."""
        return [
            (message["task_level"], message.get("action_type") or message["message_type"])
            for message in merge_by_time(sources)
        ]

    def test_several_files(self, tmp_path):
        """Of a trace, there is one tree: spans of two programs, log records, those in a trace."""
        spans = [self.span(1, None, 0), self.span(2, f"{1:016x}", 0)]
        log = Log(time_ns=spans[0].start_ns + 5, trace_id=TRACE, span_id=f"{2:016x}", body="x")
        contents = [encode_spans(spans[:1]), encode_spans(spans[1:]), encode_logs([log])]
        sources = [OtlpJsonSource(io.BytesIO(content)) for content in contents]
        with EtlWriter(tmp_path / "x.etl") as writer:
            writer.write(event(payload=b"x\0"))
            writer.write(span_event({"parentId": f"{2:016x}", "name": "in-etl"}))
        sources.append(EtlSource(tmp_path / "x.etl"))
        assert {
            ("[1]", "span-1"),
            ("[2, 1]", "span-2"),
            ("[2, 2, 1]", "in-etl"),
            ("[2, 2, 2]", "in-etl"),
            ("[2, 3]", "otel:log"),
            ("[2, 4]", "span-2"),
            ("[3]", "span-1"),
            ("[1]", "an-event"),
        } == {(str(level), kind) for level, kind in self.told(*sources)}

    def ours(self, *level, **fields):
        """Make a message of ours in the same trace."""
        return {
            "task_uuid": self.TASK,
            "task_level": [*level],
            "timestamp": 1_750_000_000.0,
            "action_type": "ours",
            **fields,
        }

    def test_within_ours(self, tmp_path):
        """A span in an action of ours is in it, in a place that is none of those it counted."""
        path = tmp_path / "x.log"
        path.write_bytes(
            b"".join(
                map(
                    encode_line,
                    [
                        self.ours(1, action_status="started"),
                        self.ours(2, 1, action_status="started"),
                        self.ours(2, 2, action_status="succeeded"),
                        self.ours(3, action_status="succeeded", timestamp=1_750_000_009.0),
                    ],
                )
            )
        )
        span = self.span(7, span_id_of(self.TASK, [2]), 1)
        nowhere = self.span(8, "f" * 16, 2)
        otlp = tmp_path / "x.json"
        otlp.write_bytes(encode_spans([nowhere, span]))
        found = self.told(FileSource(path), OtlpJsonSource(otlp))
        drawn = FIRST_DRAWN + 1
        assert found[3:] == [
            ([2, drawn, 1], "span-7"),
            ([2, drawn, 2], "span-7"),
            ([drawn, 1], "span-8"),
            ([drawn, 2], "span-8"),
            ([3], "ours"),
        ]
        (task,) = Parser.parse_stream(merge_by_time([FileSource(path), OtlpJsonSource(otlp)]))
        assert task.is_complete()

    def test_within_ours_in_a_trace(self, tmp_path):
        """The same where both are in one trace."""
        destination = EtlFileDestination(tmp_path / "x.etl")
        destination(self.ours(1, action_status="started"))
        destination(self.ours(2, action_status="succeeded"))
        destination.close()
        events = list(read_etl(tmp_path / "x.etl"))
        span = span_event({"parentId": span_id_of(self.TASK, [])}, ticks=events[1].ticks + 1)
        with EtlWriter(tmp_path / "y.etl") as writer:
            for one in (*events, span):
                writer.write(one)
        found = self.told(EtlSource(tmp_path / "y.etl"))
        assert [FIRST_DRAWN + 1, 1] in [level for level, kind in found if kind == "work"]

    def test_read_once(self, tmp_path):
        """What can be read but once is read once."""
        content = encode_line(self.ours(1, action_status="started"))
        otlp = OtlpJsonSource(io.BytesIO(encode_spans([self.span(1, None, 0)])))
        assert 3 == len(self.told(FileSource(io.BytesIO(content)), otlp))

    def test_skipped(self, monkeypatch):
        """What fell apart is counted with the first."""
        monkeypatch.setattr(_spans, "MessageMaker", lambda: MessageMaker(max_held=1))
        logs = [Log(time_ns=1, trace_id=TRACE, body="x")]
        sources = [OtlpJsonSource(io.BytesIO(encode_logs(logs * 2))) for _ in range(2)]
        assert 4 == len(self.told(*sources))
        assert 0 < sources[0].skipped["split"]
