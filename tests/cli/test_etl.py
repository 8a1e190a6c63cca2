"""Tests of `eliot-etw etl`."""

import json
import subprocess
import sys
from struct import pack
from uuid import UUID

import pytest

from eliot_etw.etw import EtlWriter, EventEncoder, Field, InType, OutType, Schema, provider_traits
from tests.etw._traces import NOW, event, sample
from tests.sources._common_schema_events import metrics_event

FIELDS = (
    Field("text", InType.ANSI, OutType.UTF8),
    Field("text", InType.UINT8),
    Field("list", InType.UINT16, OutType.HEX, is_array=True),
    Field("inner", InType.STRUCT, members=(Field("a", InType.FLOAT64), Field("b", InType.GUID))),
    Field("many", InType.STRUCT, is_array=True, members=(Field("c", InType.INT8),)),
)
VALUES = ("é\x1b[31m", 7, [1, 2], (float("nan"), UUID(int=5)), [(1,), (2,)])
ACTIVITY = UUID(int=9)


def trace(path, *events):
    """Write a trace."""
    with EtlWriter(path) as writer:
        for one in events:
            writer.write(one)
    return path


def rich_event(ticks=NOW, name="Test", rest=b"", **others):
    """Make an event with fields of many forms."""
    encoder = EventEncoder(Schema(name, FIELDS, 5))
    made = event(ticks, encoder.payload(VALUES) + rest, **others)
    return made._replace(metadata=encoder.metadata, traits=provider_traits("A-Provider"))


@pytest.fixture
def path(tmp_path):
    """Return where to write a trace."""
    return tmp_path / "x.etl"


class TestLeftOut:
    """What is not shown is said."""

    def test_lost(self, call):
        """Events that Windows lost are counted, as by the other verbs."""
        name = sample("AMSITrace.etl")
        _, _, errors = call("etl", "dump", "--json", name)
        assert f"eliot-etw: {name}: left out: 3 lost before they were recorded.\n" == errors

    def test_standard_input(self, start):
        """A file that is standard input is read; a pipe cannot be, and that is said."""
        with open(sample("primitive-types.etl"), "rb") as file:
            output, _ = start("etl", "dump", "--json", "-", stdin=file).communicate()
        assert output.count(b"\n") == 5
        program = start("etl", "dump", "-", stdin=subprocess.PIPE)
        _, errors = program.communicate(b"x")
        assert program.returncode == 2
        assert errors.startswith(b"eliot-etw: <stdin>: is a trace, which cannot be read from a pi")


class TestJson:
    """For programs."""

    def test_everything(self, call, path):
        """All that is known of an event is there, values and types by the same names."""
        trace(path, rich_event(opcode=1, keyword=2**48, activity_id=ACTIVITY, thread_id=3,
                               process_id=4, id=5, level=2, task=6, rest=b"\xff"))  # fmt: skip
        status, output, errors = call("etl", "dump", "--json", path)
        assert (0, "") == (status, errors)
        assert {
            "time": "2025-06-15T15:06:40.0000000Z",
            "ticks": NOW,
            "provider": "A-Provider",
            "provider_guid": "a61ea624-4944-55fc-c2a8-37838829438d",
            "name": "Test",
            "id": 5,
            "version": 0,
            "level": 2,
            "opcode": 1,
            "task": 6,
            "keyword": 2**48,
            "channel": 11,
            "tags": 5,
            "pid": 4,
            "tid": 3,
            "cpu": 0,
            "group": None,
            "activity": str(ACTIVITY),
            "related": None,
            "fields": {
                "text": "é\x1b[31m",
                "text#2": 7,
                "list": [1, 2],
                "inner": {"a": "NaN", "b": str(UUID(int=5))},
                "many": [{"c": 1}, {"c": 2}],
            },
            "types": {
                "text": "ANSI UTF8",
                "text#2": "UINT8",
                "list": "UINT16 HEX[]",
                "inner": {"a": "FLOAT64", "b": "GUID"},
                "many": [{"c": "INT8"}],
            },
            "rest": "ff",
        } == json.loads(output)
        assert output.rstrip().isprintable()

    def test_of_windows(self, call):
        """A trace that Windows made, in compressed buffers."""
        name = sample("SelfDescribingSingleEvent.etl")
        status, output, errors = call("etl", "dump", "--json", name)
        shown = json.loads(output)
        assert (0, {"a": {"b": "Hello", "c": "World!"}}) == (status, shown["fields"])
        assert errors == f"eliot-etw: {name}: left out: 18 classic.\n"

    def test_odd_types(self, call, path):
        """A type that nobody knows has its number, one in an encoding of its own says so."""
        fields = (
            Field("odd", InType.INT8, 99),
            Field("own", InType.UINT8, custom=b"?"),
            Field("two", InType.INT8, fixed_count=2),
        )
        encoder = EventEncoder(Schema("n", fields))
        made = event(payload=encoder.payload((1, b"x", [1, 2])))
        trace(path, made._replace(metadata=encoder.metadata))
        types = json.loads(call("etl", "dump", "--json", path)[1])["types"]
        assert {"odd": "INT8 99", "own": "UINT8 custom", "two": "INT8[2]"} == types


class TestText:
    """For people."""

    def test_lines(self, call, path):
        """What and when, then the fields; nothing drives the terminal."""
        trace(
            path,
            rich_event(opcode=1, activity_id=ACTIVITY, related_activity_id=UUID(int=8)),
            rich_event(NOW + 1, opcode=77, level=77, keyword=255, rest=b"\xff"),
        )
        fields = (
            'text="é\\x1b[31m" text#2=7 list=[1, 2] '
            f"inner={{'a': 'NaN', 'b': '{UUID(int=5)}'}} many=[{{'c': 1}}, {{'c': 2}}]"
        )
        status, output, errors = call("etl", "dump", "--utc", path)
        assert (0, "") == (status, errors)
        assert output.splitlines() == [
            "2025-06-15 UTC",
            "15:06:40.0000000 A-Provider/Test start info pid=0 tid=0 cpu=0 "
            f"activity={ACTIVITY} related={UUID(int=8)}",
            f"    {fields}",
            "15:06:40.0000001 A-Provider/Test opcode 77 level 77 pid=0 tid=0 cpu=0 keyword=0xff",
            f"    {fields} (rest)=ff",
        ]

    def test_without_a_name(self, call, path):
        """A provider that does not say its name has its GUID; an event may have no fields."""
        made = event()._replace(traits=b"", metadata=pack("<H", 8) + b"\0bare\0")
        trace(path, made)
        output = call("etl", "dump", "--utc", path)[1]
        assert output.splitlines()[1:] == [
            "15:06:40.0000000 {a61ea624-4944-55fc-c2a8-37838829438d}/bare info pid=0 tid=0 cpu=0"
        ]

    def test_width(self, call, path, monkeypatch):
        """On a terminal fields go on in the next line; none is cut in two."""
        monkeypatch.setattr("eliot_etw.cli._etl.Screen", _Narrow)
        trace(path, rich_event())
        lines = call("etl", "dump", "--utc", path)[1].splitlines()[2:]
        assert [line.split("=")[0].strip() for line in lines] == ["text", "list", "inner", "many"]

    def test_long_values(self, call, path):
        """A long value is cut, and says so, unless all is wanted."""
        trace(path, event(payload=b"x" * 1000 + b"\0"))
        assert 'xx"… (1,000 characters)' in call("etl", "dump", path)[1]
        assert "x" * 1000 in call("etl", "dump", "--full", path)[1]

    def test_colour(self, call, path):
        """Errors and warnings stand out."""
        trace(path, event(level=2, payload=b"x\0"), event(level=3, payload=b"x\0"))
        output = call("etl", "dump", "--color", "always", path)[1]
        assert "\x1b[1;31merror\x1b[0m" in output
        assert "\x1b[33mwarning\x1b[0m" in output


def _Narrow(**_options):  # noqa: N802 - it stands for a class
    from eliot_etw.viewers._screen import Screen

    return Screen(width=40)


class TestChoice:
    """Which events are shown."""

    @pytest.mark.parametrize(
        ("options", "shown"),
        [
            ((), 2),
            (("--provider", "a-PROV*"), 2),
            (("--provider", "{A61EA624-4944-55fc-c2a8-37838829438d}"), 2),
            (("--provider", "a61ea624*"), 2),
            (("--provider", "other"), 0),
            (("--name", "te*"), 1),
            (("--provider", "A-*", "--name", "Other"), 1),
        ],
    )
    def test_globs(self, call, path, options, shown):
        """Patterns choose by name or GUID, in upper or lower case."""
        trace(path, rich_event(), rich_event(name="Other"))
        status, output, errors = call("etl", "dump", "--json", *options, path)
        assert (0, shown) == (status, len(output.splitlines()))
        assert bool(errors) == (not shown)

    def test_several_files(self, call, path, tmp_path):
        """Files are shown one after the other; one that cannot be read is one line, status 2."""
        trace(path, rich_event())
        text = tmp_path / "app.log"
        text.write_bytes(b"{}")
        status, output, errors = call("etl", "dump", text, "/nowhere", path)
        assert (2, True) == (status, "A-Provider/Test" in output)
        first, second = errors.splitlines()
        assert first.startswith(f"eliot-etw: {text}: A trace must begin with a buffer")
        assert second == "eliot-etw: /nowhere: No such file or directory"

    def test_damage(self, call, path):
        """What is damaged is said, the rest is shown."""
        trace(path, rich_event(), event(NOW + 1, payload=b""), rich_event(NOW + 2))
        status, output, errors = call("etl", "dump", "--json", path)
        assert (0, 2) == (status, len(output.splitlines()))
        assert errors.splitlines() == [
            f"{path}: an event of 2025-06-15T15:06:40.0000001Z: a payload must hold all fields "
            "that the metadata names, got 0 bytes, which is too short. The event is damaged.",
            f"eliot-etw: {path}: left out: 1 damaged.",
        ]


class TestCalls:
    """How it is called, and how it ends."""

    def test_no_file(self, call):
        """Without a file it is a wrong call."""
        status, output, errors = call("etl", "dump")
        assert (2, "") == (status, output)
        assert errors.startswith("eliot-etw: Missing argument 'FILE...'.")

    def test_no_verb(self, call):
        """Without a verb it says which there are."""
        status, output, errors = call("etl")
        assert (0, True, "") == (status, "  dump  Show every" in output, errors)

    def test_closed_pipe(self, start, path):
        """Who has seen enough may close the pipe."""
        trace(path, *[rich_event(NOW + n) for n in range(3000)])
        program = start("etl", "dump", path)
        program.stdout.read(100)
        program.stdout.close()
        assert (0, b"") == (program.wait(60), program.stderr.read())


class TestMetrics:
    """Events that hold metrics of OpenTelemetry are decoded."""

    def request(self, count):
        """Make a request of OTLP with so many points."""
        service = pytest.importorskip(
            "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2"
        )
        request = service.ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
        metric.name, metric.unit = "shop.orders", "1"
        for number in range(count):
            metric.gauge.data_points.add().as_int = number
        return request.SerializeToString()

    def test_text(self, call, path):
        """The data point stands where the fields of other events do."""
        trace(path, metrics_event(self.request(1)))
        status, output, errors = call("etl", "dump", "--utc", path)
        assert (0, "") == (status, errors)
        first, second = output.splitlines()[1:]
        assert "NativeMetricsExtension_Provider/otlp_metrics" in first
        assert '    metric=shop.orders kind=gauge unit="1" value=0' == second

    def test_several(self, call, path):
        """Several are a list."""
        trace(path, metrics_event(self.request(2)))
        output = call("etl", "dump", "--json", path)[1]
        first, second = json.loads(output)["fields"]["points"]
        assert (0, 1) == (first["value"], second["value"])

    def test_json(self, call, path):
        """JSON has the bytes, too."""
        request = self.request(1)
        trace(path, metrics_event(request))
        shown = json.loads(call("etl", "dump", "--json", path)[1])
        assert "shop.orders" == shown["fields"]["metric"]
        assert request.hex() == shown["rest"]

    def test_package_is_missing(self, call, path, monkeypatch):
        """Without the package that decodes them, the size is shown, and said once what to do."""
        monkeypatch.setitem(
            sys.modules, "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", None
        )
        trace(path, metrics_event(b"123"), metrics_event(b"12345", NOW + 1))
        for verb in (["etl", "dump"], ["tree"]):
            status, output, errors = call(*verb, path)
            assert (0, 1) == (status, errors.count("\n"))
            assert "size_bytes=3" in output
            assert "size_bytes=5" in output
            assert "python -m pip install 'eliot-etw[otel]'" in errors
