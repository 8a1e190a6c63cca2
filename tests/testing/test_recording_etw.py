"""Tests of what stands in for Event Tracing for Windows in a test."""

import threading
from uuid import UUID

import pytest

from eliot_etw.destinations.etw import EtwDestination
from eliot_etw.etw import EventEncoder, Field, InType, OutType, Provider, Schema, _win32
from eliot_etw.testing import RecordingEtw

GUID = UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
EVENT = EventEncoder(
    Schema("event", (Field("text", InType.ANSI, OutType.UTF8), Field("number", InType.INT64)))
)
# Id 1, version 2, channel 11, level 4, opcode 3, task 5, keyword 6.
DESCRIPTOR = bytes([1, 0, 2, 11, 4, 3, 5, 0, 6, 0, 0, 0, 0, 0, 0, 0])


def write(provider, text="text", **other):
    """Write an event of level 4 and keyword 6."""
    arguments = {
        "descriptor": DESCRIPTOR,
        "metadata": EVENT.metadata,
        "payload": EVENT.payload([text, 7]),
        "activity": None,
        "related": None,
    }
    return provider.write(*(arguments | other).values())


class TestEvents:
    """What is kept."""

    def test_event(self):
        """An event is kept with all that Windows would keep, and can be decoded."""
        with RecordingEtw() as etw:
            assert write(Provider("a"), activity=GUID.bytes_le) == 0
        (event,) = etw.events
        assert ("a", 4, 3, 6) == (event.provider_name, event.level, event.opcode, event.keyword)
        assert (1, 2, 11, 5) == (event.id, event.version, event.channel, event.task)
        assert (GUID, None) == (event.activity_id, event.related_activity_id)
        decoded = event.decode()
        assert ("event", {"text": "text", "number": 7}) == (decoded.name, decoded.as_dict())

    def test_messages(self):
        """Events of ours are messages too, as a file has them; others are left out."""
        with RecordingEtw() as etw:
            destination = EtwDestination("b")
            write(Provider("a"))
            place = {"task_uuid": "u", "task_level": [1], "timestamp": 1.5}
            message = {**place, "message_type": "m", "x": {}}
            destination(message)
            destination.close()
        assert [message] == etw.messages

    def test_unwanted(self):
        """What nobody wants is counted, not kept."""
        with RecordingEtw(level=3) as etw:
            provider = Provider("a")
            assert write(provider) == 0
            etw.enable(5, match_any=1)
            write(provider)
            etw.enable(5, match_any=2, match_all=3)
            write(provider)
            etw.disable()
            write(provider)
        assert ([], 4) == (etw.events, etw.unwanted)

    def test_threads(self):
        """All threads may write."""
        with RecordingEtw() as etw:
            provider = Provider("a")
            threads = [
                threading.Thread(target=write, args=[provider, str(number)])
                for number in range(20)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert {str(n) for n in range(20)} == {e.decode().as_dict()["text"] for e in etw.events}


class TestListening:
    """Sessions that listen."""

    def test_one_provider(self):
        """A session may name a provider, or its GUID, also one that is not there yet."""
        with RecordingEtw(level=None) as etw:
            etw.enable(3, provider="b")
            a, b, c = Provider("a"), Provider("b"), Provider("c", guid=GUID)
            etw.enable(2, provider=GUID)
            assert [-1, 3, 2] == [provider.level for provider in (a, b, c)]
            etw.disable("b")
            assert [-1, -1, 2] == [provider.level for provider in (a, b, c)]

    def test_all_providers(self):
        """Without a name it is about all of them, whatever was said before."""
        with RecordingEtw() as etw:
            a = Provider("a")
            etw.disable("a")
            etw.enable(4)
            assert [4, 4] == [a.level, Provider("b").level]
            etw.disable()
            assert -1 == a.level


class TestRefusals:
    """What Windows would refuse is refused."""

    @pytest.mark.parametrize(
        ("code", "wrong"),
        [
            (87, {"descriptor": bytes(15)}),
            (87, {"activity": bytes(15)}),
            (87, {"related": bytes(17)}),
            (534, {"payload": bytes(65_500)}),
        ],
    )
    def test_write(self, code, wrong):
        """A wrong descriptor or id is an invalid parameter; there is a limit to the length."""
        with RecordingEtw() as etw:
            assert write(Provider("a"), **wrong) == code
        assert etw.events == []

    @pytest.mark.parametrize("traits", [b"", b"\4\0a\0\0", b"\3\0a"])
    def test_traits(self, traits):
        """Traits must have their own length first, and a name that ends."""
        etw = RecordingEtw()
        handle = etw.register(GUID, lambda *_: None)
        assert [87, 6] == [etw.set_traits(handle, traits), etw.set_traits(99, traits)]

    def test_errors_on_demand(self):
        """A test may have anything fail, and work again."""
        with RecordingEtw() as etw:
            provider = Provider("a")
            codes = [write(provider)]
            etw.fail_writes(8)
            codes.append(write(provider))
            etw.fail_writes(0)
            codes.append(write(provider))
            etw.fail_register(5)
            with pytest.raises(OSError, match="error 5"):
                Provider("b")
            etw.fail_register(0)
            b = Provider("b")
            assert [["a", "b"], b.name] == [etw.registered, "b"]
        assert ([0, 8, 0], 2) == (codes, len(etw.events))


class TestPlace:
    """The place that it takes."""

    def test_innermost(self):
        """The innermost of several is used, and afterwards whatever was used before."""
        before = list(_win32.STAND_INS)
        with RecordingEtw() as outer:
            with RecordingEtw() as inner:
                first = Provider("a")
            second = Provider("b")
            assert (["a"], ["b"]) == (inner.registered, outer.registered)
            first.close()
            second.close()
        assert before == _win32.STAND_INS

    def test_providers_that_are_left(self):
        """Nobody listens any more to a provider that is still there afterwards."""
        with RecordingEtw() as etw:
            provider = Provider("a")
        assert (-1, ["a"]) == (provider.level, etw.registered)
        write(provider)
        provider.close()
        assert ([], 1, []) == (etw.registered, etw.unwanted, etw.events)

    def test_provider_without_a_name(self):
        """A registration that has told no name yet is listed by its GUID."""
        etw = RecordingEtw()
        etw.register(GUID, lambda *_: None)
        assert [str(GUID)] == etw.registered
