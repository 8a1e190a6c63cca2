"""Tests of OTLP as JSON, which many programs write, each a little differently."""

import json
import math
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import decode_line
from eliot_etw._written import is_same
from eliot_etw.otlp import _json as otlp_json
from eliot_etw.otlp._model import ERROR, SERVER, Event, Link, Log, Span

TRACE = "5b8efff798038103d269b633813fc60c"
PARENT = "eee19b7ec3c1b173"
SPAN = "eee19b7ec3c1b174"


def read(request):
    """Read a request; return what is in it, and what was said to be bad."""
    bad = []
    return list(otlp_json.read_request(request, bad.append)), bad


def request_of(signal, records, *items, resource=None, scope=None):
    """Put records into a request."""
    scoped = {"scope": scope or {}, records: list(items)}
    group = {"resource": resource or {}, f"scope{signal}": [scoped]}
    return {f"resource{signal}": [group]}


def span_record(**others):
    """Make a span as JSON has it, with what it must have."""
    return {"traceId": TRACE, "spanId": SPAN, **others}


def read_span(**others):
    """Read a span with these fields."""
    (span,), bad = read(request_of("Spans", "spans", span_record(**others)))
    assert [] == bad
    return span


def value_of(found):
    """Read a value of an attribute."""
    return read_span(attributes=[{"key": "it", "value": found}]).attributes["it"]


def ids(digits):
    """Make ids of so many digits."""
    return st.integers(1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | texts
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
attributes = st.dictionaries(texts, values, max_size=3)
times = st.integers(0, 2**63 - 1)
spans = st.builds(
    Span,
    trace_id=ids(32),
    span_id=ids(16),
    parent_span_id=st.none() | ids(16),
    name=texts,
    kind=st.integers(0, 5),
    start_ns=times,
    end_ns=times,
    attributes=attributes,
    events=st.lists(st.builds(Event, texts, times, attributes), max_size=2),
    links=st.lists(st.builds(Link, ids(32), ids(16), attributes), max_size=2),
    status_code=st.integers(0, 2),
    status_message=texts,
    trace_state=texts,
    flags=st.integers(0, 2**32 - 1),
    scope=texts,
    resource=attributes,
)
logs = st.builds(
    Log,
    time_ns=times,
    severity_number=st.integers(0, 24),
    severity_text=texts,
    body=values,
    attributes=attributes,
    trace_id=st.none() | ids(32),
    span_id=st.none() | ids(16),
    event_name=texts,
    scope=texts,
    resource=attributes,
)


def same(found, expected):
    """Say whether two lists of spans or logs are the same in every value and its type."""
    return is_same([vars_of(one) for one in found], [vars_of(one) for one in expected])


def vars_of(value):
    """Take a value apart."""
    if isinstance(value, list):
        return list(map(vars_of, value))
    if isinstance(value, (Span, Log, Event, Link)):
        return {name: vars_of(getattr(value, name)) for name in value.__slots__}
    return value


class TestRoundTrip:
    """What was written is what is read."""

    @given(st.lists(spans, max_size=3))
    def test_spans(self, written):
        """Spans come back the same, each value with its type."""
        line = otlp_json.encode_spans(written)
        assert b"\n" == line[-1:]
        assert 1 == line.count(b"\n")
        found, bad = read(orjson.loads(line))
        assert [] == bad
        assert same(found, written)

    @given(st.lists(logs, max_size=3))
    def test_logs(self, written):
        """So do log records."""
        found, bad = read(orjson.loads(otlp_json.encode_logs(written)))
        assert [] == bad
        assert same(found, written)

    def test_grouped(self):
        """Records of one program, and within it of one library, are written together."""
        resources = {"service.name": "a"}, {"service.name": "b"}
        log = Log(time_ns=1)
        written = [
            replace(log, resource=resource, scope=scope)
            for resource in resources
            for scope in ("x", "x", "y")
        ]
        groups = orjson.loads(otlp_json.encode_logs(written))["resourceLogs"]
        assert [[2, 1], [2, 1]] == [
            [len(part["logRecords"]) for part in group["scopeLogs"]] for group in groups
        ]

    def test_others_read_it(self):
        """OpenTelemetry's own reader takes what we write."""
        trace_service = pytest.importorskip(
            "opentelemetry.proto_json.collector.trace.v1.trace_service"
        )
        span = Span(
            trace_id=TRACE,
            span_id=SPAN,
            parent_span_id=PARENT,
            name="work",
            kind=SERVER,
            start_ns=1,
            end_ns=2**62,
            attributes={"n": 1, "f": math.inf, "b": b"\xff", "l": [None, {"x": True}]},
            events=[Event("e", 3)],
            status_code=ERROR,
            status_message="no",
        )
        line = otlp_json.encode_spans([span])
        request = trace_service.ExportTraceServiceRequest.from_json(line)
        (read_back,) = request.resource_spans[0].scope_spans[0].spans
        assert bytes.fromhex(TRACE) == read_back.trace_id
        assert bytes.fromhex(PARENT) == read_back.parent_span_id
        assert 2**62 == read_back.end_time_unix_nano
        assert math.inf == read_back.attributes[1].value.double_value
        assert b"\xff" == read_back.attributes[2].value.bytes_value
        assert [span] == read(json.loads(request.to_json()))[0]


class TestUnusualValues:
    """What OTLP has no type for is written so that it can be read."""

    def written(self, value):
        """Write and read a value."""
        line = otlp_json.encode_logs([Log(time_ns=1, body=value)])
        (log,), bad = read(decode_line(line))
        assert [] == bad
        return log.body

    def test_large_integers(self):
        """An integer beyond 64 bits becomes its digits."""
        assert str(2**70) == self.written(2**70)

    def test_deep(self):
        """What is nested deeper than readers go becomes the text of its JSON."""
        value = found = []
        for _ in range(300):
            value = [value]
        found = self.written(value)
        depth = 0
        while isinstance(found, list):
            (found,) = found
            depth += 1
        assert 100 == depth
        assert "[" * 201 + "]" * 201 == found

    def test_surrogates(self):
        """Half of a pair of surrogates is made visible."""
        assert r"\ud800" == self.written("\ud800")

    def test_other_types(self):
        """Whatever else there is becomes its text."""
        assert '"<object' == self.written(object())[:8]


class TestSpellings:
    """One thing may be said in several ways."""

    def test_names(self):
        """A field may be named as in JSON or as in Protocol Buffers."""
        record = {
            "trace_id": TRACE,
            "span_id": SPAN,
            "parent_span_id": PARENT,
            "start_time_unix_nano": "5",
            "attributes": [{"key": "it", "value": {"string_value": "x"}}],
        }
        (span,), bad = read({"resource_spans": [{"scope_spans": [{"spans": [record]}]}]})
        assert [] == bad
        expected = (TRACE, SPAN, PARENT, 5, {"it": "x"})
        assert expected == (
            span.trace_id, span.span_id, span.parent_span_id, span.start_ns, span.attributes
        )  # fmt: skip

    @pytest.mark.parametrize("number", [1544712660000000000, "1544712660000000000", 1.5e9])
    def test_integers(self, number):
        """A whole number may be text, or a float that is whole."""
        assert int(number) == read_span(endTimeUnixNano=number).end_ns
        assert int(number) == value_of({"intValue": number})

    def test_upper_case_ids(self):
        """Ids may be in upper case."""
        assert SPAN == read_span(spanId=SPAN.upper()).span_id

    @pytest.mark.parametrize("nobody", ["", "0000000000000000", None])
    def test_no_parent(self, nobody):
        """An id that is empty or zero is none."""
        assert read_span(parentSpanId=nobody).parent_span_id is None

    @pytest.mark.parametrize(
        ("kind", "number"),
        [(2, 2), ("2", 2), ("SPAN_KIND_SERVER", 2), ("SPAN_KIND_FROM_LATER", 0), (None, 0)],
    )
    def test_enums(self, kind, number):
        """An enum may be its number or its name; an unknown name says nothing."""
        assert number == read_span(kind=kind).kind

    def test_severities(self):
        """Severities have names, too: four of each kind."""
        names = ["UNSPECIFIED", "TRACE", "TRACE4", "INFO2", "FATAL4"]
        records = [{"severityNumber": f"SEVERITY_NUMBER_{name}"} for name in names]
        found, _ = read(request_of("Logs", "logRecords", *records))
        assert [0, 1, 4, 10, 24] == [log.severity_number for log in found]

    def test_status(self):
        """The code of a status may be named."""
        span = read_span(status={"code": "STATUS_CODE_ERROR", "message": "no"})
        assert (ERROR, "no") == (span.status_code, span.status_message)

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1.5"])
    def test_floats(self, text):
        """A float may be text, as those must that JSON does not know."""
        assert repr(float(text)) == repr(value_of({"doubleValue": text}))

    @pytest.mark.parametrize("text", ["+/8=", "-_8=", "+/8"])
    def test_bytes(self, text):
        """Bytes are in base 64, of either alphabet, with padding or without."""
        assert b"\xfb\xff" == value_of({"bytesValue": text})

    @pytest.mark.parametrize(
        ("found", "value"),
        [(True, True), (False, False), ("true", True), ("false", False), (0, False)],
    )
    def test_booleans(self, found, value):
        """A truth may be text too, of which one says no."""
        assert value_of({"boolValue": found}) is value

    def test_empty_values(self):
        """A value that says nothing, or is of a type that came later, is None."""
        assert [None] * 4 == [
            *map(value_of, [None, {}, {"laterValue": 1}, {"stringValue": None}]),
        ]

    def test_empty_lists(self):
        """A list or map without values is empty."""
        assert [] == value_of({"arrayValue": {}})
        assert {} == value_of({"kvlistValue": {"values": None}})

    def test_unknown_fields(self):
        """Fields that nobody knows change nothing."""
        assert read_span() == read_span(later={"x": 1}, droppedAttributesCount=3)

    def test_observed_time(self):
        """A log record without a time has that of when it was observed."""
        (log,), _ = read(request_of("Logs", "logRecords", {"observedTimeUnixNano": "7"}))
        assert 7 == log.time_ns

    def test_scope(self):
        """Scope and resource are those around the record; either may be missing."""
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
        request = request_of(
            "Spans", "spans", span_record(), resource=resource, scope={"name": "lib"}
        )
        (span,), _ = read(request)
        assert ("lib", {"service.name": "shop"}) == (span.scope, span.resource)
        (span,), _ = read({"resourceSpans": [{"scopeSpans": [{"spans": [span_record()]}]}]})
        assert ("", {}) == (span.scope, span.resource)


class TestBadItems:
    """What cannot be read is said, and the rest is read."""

    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"traceId": ""}, "traceId must not be missing or zero"),
            ({"traceId": "xyz"}, "traceId must be hexadecimal digits of the usual number, got"),
            ({"spanId": 5}, "spanId must be text, got 5"),
            ({"name": []}, "name must be text, got []"),
            ({"startTimeUnixNano": -1}, "startTimeUnixNano must not be less than 0, got -1"),
            ({"endTimeUnixNano": 2**63}, "endTimeUnixNano must be before the year 2262, got"),
            ({"kind": True}, "a whole number must be one, or its digits as text, got True"),
            ({"status": 5}, "status must be an object, got 5"),
            ({"events": [1]}, "events must be a list of objects, got [1]"),
            ({"links": 1}, "links must be a list of objects, got 1"),
            ({"attributes": 1}, "attributes must be a list of keys and values, got 1"),
            ({"attributes": [1]}, "attributes must be a list of keys and values, got [1]"),
            ({"attributes": [{"key": 1}]}, "key must be text, got 1"),
            (
                {"attributes": [{"key": "a", "value": 1}]},
                "a value must be an object with its type as the name, got 1",
            ),
            (
                {"attributes": [{"key": "a", "value": {"doubleValue": []}}]},
                "doubleValue must be a number of at most 308 digits, got []",
            ),
            (
                {"attributes": [{"key": "a", "value": {"doubleValue": 10**400}}]},
                "doubleValue must be a number of at most 308 digits, got 1000",
            ),
            (
                {"attributes": [{"key": "a", "value": {"intValue": "9" * 5000}}]},
                "a whole number must be one, or its digits as text, got '9999",
            ),
            (
                {"attributes": [{"key": "a", "value": {"intValue": "1_0"}}]},
                "a whole number must be one, or its digits as text, got '1_0'",
            ),
            (
                {"attributes": [{"key": "a", "value": {"bytesValue": 1}}]},
                "bytesValue must be text in base 64, got 1",
            ),
            (
                {"attributes": [{"key": "a", "value": {"arrayValue": {"values": 1}}}]},
                "values must be a list, got 1",
            ),
            (
                {"attributes": [{"key": "a", "value": {"intValue": "x"}}]},
                "a whole number must be one, or its digits as text, got 'x'",
            ),
        ],
    )
    def test_spans(self, fields, why):
        """A span with a field that is none is left out, with the reason."""
        request = request_of("Spans", "spans", span_record(**fields), span_record())
        found, (said,) = read(request)
        assert 1 == len(found)
        assert said.startswith(f"spans: {why}")

    def test_lists(self):
        """So is what should be a list and is none, at each level."""
        assert ([], ["resourceSpans must be a list, got 5"]) == read({"resourceSpans": 5})
        assert ([], ["resourceLogs must hold objects, got 5"]) == read({"resourceLogs": [5]})
        assert ([], ["spans must hold objects, got 5"]) == read(request_of("Spans", "spans", 5))

    def test_old(self):
        """What OTLP had before scopes is reported, not passed over."""
        old = {"resourceSpans": [{"instrumentationLibrarySpans": [{"spans": [span_record()]}]}]}
        assert ([], ["instrumentationLibrarySpans is of OTLP before 0.15, and left out"]) == read(
            old
        )

    def test_resource(self):
        """A span whose resource is bad is read without it."""
        request = request_of("Spans", "spans", span_record(), resource={"attributes": 5})
        (span,), (why,) = read(request)
        assert {} == span.resource
        assert "resource: attributes must be a list of keys and values, got 5" == why

    def test_deep(self):
        """A value that is nested too deep makes its record a bad one, no more."""
        deep = {}
        for _ in range(2_000):
            deep = {"arrayValue": {"values": [deep]}}
        request = request_of("Logs", "logRecords", {"body": deep}, {"body": {"intValue": 1}})
        (log,), bad = read(request)
        assert (1, ["logRecords: nested too deep"]) == (log.body, bad)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "resourceSpans",
                        "resource_logs",
                        "resource",
                        "scopeSpans",
                        "scopeLogs",
                        "scope",
                        "spans",
                        "logRecords",
                        "attributes",
                        "key",
                        "value",
                        "values",
                        "intValue",
                        "kvlistValue",
                        "body",
                        "traceId",
                        "name",
                    ]
                ),
                inner,
                max_size=4,
            ),
        )
    )
    def test_anything(self, request_value):
        """Whatever JSON has, reading it says what is bad and raises nothing."""
        if otlp_json.is_request(request_value):
            read(request_value)


class TestRequests:
    """What a request is known by."""

    @pytest.mark.parametrize("name", ["resourceSpans", "resource_logs", "resourceMetrics"])
    def test_is_request(self, name):
        """It is an object with one of three lists, by either spelling."""
        assert otlp_json.is_request({"later": 1, name: []})
        assert not otlp_json.is_request([name])
        assert not otlp_json.is_request({"resources": []})

    def test_has_metrics(self):
        """One of metrics says so; it has nothing to read."""
        metrics = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m"}]}]}]}
        assert otlp_json.has_metrics(metrics)
        assert not otlp_json.has_metrics({"resourceMetrics": [], "resourceSpans": []})
        assert ([], []) == read(metrics)
