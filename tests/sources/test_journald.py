"""Tests of reading journals back, with a real systemd-journald and its journalctl."""

import os
import signal
import socket
import sys
import time
from contextlib import closing
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from orjson import dumps

from eliot_etw.destinations import JournaldDestination
from eliot_etw.destinations._journal_fields import bytes_field
from eliot_etw.sources import JournalSource
from eliot_etw.sources.journald import _Entries
from tests import _journal

PLACE = {"task_uuid": "u", "task_level": [1], "timestamp": 1.5}
PATIENCE_S = 60
identifiers = map("source-{}".format, count())


@pytest.fixture(scope="module")
def journal():
    """Return the journal that all tests share."""
    return _journal.shared()


class Log:
    """Writes to a journal under a name of its own."""

    def __init__(self, journal, **options):
        self.journal = journal
        self.identifier = next(identifiers)
        self.destination = JournaldDestination(
            socket_path=journal.socket_path, identifier=self.identifier, **options
        )

    def log(self, *types, **fields):
        """Log messages of these types, and wait until they are in the files."""
        for kind in types:
            self.destination({"message_type": kind, **fields, **PLACE})
        self.journal.sync()

    def source(self, **options):
        """Return a source of what was logged."""
        return JournalSource(directory=self.journal.logs, identifier=self.identifier, **options)


@pytest.fixture
def log(journal):
    """Return a log."""
    log = Log(journal)
    yield log
    log.destination.close()


def types(messages):
    """Return the types of messages."""
    return [message["message_type"] for message in messages]


def send(journal, *entries):
    """Send entries that are not ours, as other programs do."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.connect(str(journal.socket_path))
        for entry in entries:
            other.send(b"".join(bytes_field(name.encode(), entry[name]) for name in entry))
    journal.sync()


class TestEntries:
    """The export format."""

    fields = st.dictionaries(
        st.sampled_from([b"MESSAGE", b"ELIOT_MESSAGE", b"X"]),
        st.binary() | st.sampled_from([b"-- ", b"a\nb", b"\n", b"="]),
        min_size=1,
    )

    @given(entries=st.lists(fields), size=st.integers(1, 50), binary=st.booleans())
    def test_read_back(self, entries, size, binary):
        """Entries come out as they went in, however the stream is cut."""
        written = b"".join(
            b"".join(_exported(name, value, binary) for name, value in entry.items()) + b"\n"
            for entry in entries
        )
        parser = _Entries()
        chunks = [written[at : at + size] for at in range(0, len(written), size)]
        assert [entry for chunk in chunks for entry in parser.of(chunk)] == entries

    def test_remarks(self):
        """What is for people is no field."""
        assert list(_Entries().of(b"-- No entries --\nA=1\n\n")) == [{b"A": b"1"}]


def _exported(name, value, binary):
    """Write a field as journalctl does, which chooses the form by its content."""
    if binary or b"\n" in value:
        return b"%b\n%b%b\n" % (name, len(value).to_bytes(8, "little"), value)
    return b"%b=%b\n" % (name, value)


class TestMessages:
    """Which entries are messages."""

    def test_others_are_skipped(self, journal, log):
        """Entries of other programs are left out, and counted."""
        name = {"SYSLOG_IDENTIFIER": log.identifier.encode()}
        log.log("a")
        send(
            journal,
            {**name, "MESSAGE": b"hello"},
            {**name, "MESSAGE": b"{no JSON"},
            {**name, "MESSAGE": b'{"a":1}'},
            {**name, "MESSAGE": b"[" * 20_000},
            {**name, "MESSAGE": b'{"a":' * 20_000},
            {**name, "MESSAGE": b"\xff\n\0"},
            {**name, "OTHER": b"x"},
        )
        log.log("b")
        source = log.source()
        assert types(source) == ["a", "b"]
        assert source.skipped == 7
        assert types(source) == ["a", "b"]
        assert source.skipped == 7

    def test_message_for_people(self, journal):
        """If MESSAGE is a sentence, the message is in ELIOT_MESSAGE."""
        log = Log(journal, sentences=True)
        log.log("a", text="b")
        log.destination.close()
        assert list(log.source()) == [{"message_type": "a", "text": "b", **PLACE}]

    def test_lines_of_standard_output(self, journal, log):
        """A message that somebody else brought to the journal is one too."""
        line = b'{"message_type":"a","task_uuid":"u","task_level":[1],"timestamp":1.5}'
        send(journal, {"SYSLOG_IDENTIFIER": log.identifier.encode(), "MESSAGE": line})
        assert types(log.source()) == ["a"]

    def test_large(self, log):
        """A message of many megabytes comes back."""
        log.log("a", text="x\x7f" * 5_000_000)
        [message] = log.source()
        assert message["text"] == "x\x7f" * 5_000_000


class TestSelection:
    """What is asked for."""

    def test_since_and_until(self, log):
        """Only what is in the time is given."""
        log.log("a")
        assert types(log.source(since="-1h")) == ["a"]
        assert types(log.source(since="-1h", until="now")) == ["a"]
        assert types(log.source(until="-1h")) == []
        assert types(log.source(since="2099-01-01")) == []

    def test_unit(self, log):
        """Of a unit that logged nothing, there is nothing."""
        log.log("a")
        assert types(log.source(unit="no-such.service")) == []

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may write so")
    def test_of_a_unit(self, journal):
        """What a unit logged is given, by its name and together with all else that is chosen."""
        of_unit = {"OBJECT_SYSTEMD_UNIT": b"shop.service"}  # as if systemd told of it
        for kind, name in (("a", "one"), ("b", "two")):
            message = dumps({"message_type": kind, **PLACE})
            entry = {"SYSLOG_IDENTIFIER": name.encode(), "MESSAGE": message}
            send(journal, {**entry, **of_unit}, entry)

        def chosen(**options):
            return types(JournalSource(directory=journal.logs, **options))

        assert chosen(unit="shop.service") == ["a", "b"]
        assert chosen(unit="shop") == ["a", "b"]
        assert chosen(unit="shop.service", identifier="two", since="-1h") == ["b"]
        name = f"journal:unit=shop.service,identifier=one,directory={journal.logs}"
        assert types(JournalSource.named(name)) == ["a"]
        assert chosen(unit="other.service") == []

    def test_of_this_machine(self, journal, log):
        """Without a folder it is the journal of this machine."""
        log.log("a", "b")
        program = (
            "from eliot_etw.sources import JournalSource\n"
            f"print(len(list(JournalSource(identifier={log.identifier!r}))))"
        )
        assert journal.run(sys.executable, "-c", program) == "2\n"

    @pytest.mark.parametrize(
        "name", ["journal:", "journal:unit=a.service", "journal:identifier=x,since=-1h"]
    )
    def test_named(self, name):
        """The name on a command line says it all."""
        assert name == JournalSource.named(name).name

    @pytest.mark.parametrize("name", ["journal:x", "journal:unit", "journal:unit=", "journal:y=z"])
    def test_named_wrongly(self, name):
        """A name that is none says what may be there."""
        with pytest.raises(ValueError, match="must be followed by nothing, or by unit, identif"):
            JournalSource.named(name)


class TestErrors:
    """What cannot be read."""

    def test_no_journalctl(self, monkeypatch, tmp_path):
        """Without journalctl it says what it needs."""
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(FileNotFoundError, match="journalctl, which comes with systemd"):
            list(JournalSource())

    @pytest.mark.parametrize(
        ("options", "why"),
        [({"since": "nonsense"}, "nonsense"), ({"directory": "/no/such"}, "/no/such")],
    )
    def test_refused(self, journal, options, why):
        """What journalctl complains about is the error."""
        with pytest.raises(OSError, match=why):
            list(JournalSource(**options))

    def test_hint(self, log, monkeypatch, tmp_path):
        """What it says besides is kept."""
        program = tmp_path / "journalctl"
        program.write_text("#!/bin/sh\necho 'Hint: there is more' >&2\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        source = log.source()
        assert list(source) == []
        assert source.hint == "Hint: there is more"

    def test_left_early(self, log):
        """Whoever stops reading leaves nothing behind."""
        log.log(*"abc")
        messages = iter(log.source())
        assert next(messages)["message_type"] == "a"
        messages.close()


class Followed:
    """Follows a log, and waits for what is to come, at most so long."""

    def __init__(self, log, **options):
        self.followed = log.source(**options).follow()
        self.seen = []

    def until(self, *expected):
        """Read on until just these messages have come."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.seen) < len(expected):
            self.seen += types(self.followed.poll())
            assert time.monotonic() < deadline, self.seen
        assert self.seen == list(expected)


class TestFollow:
    """A journal that grows."""

    def test_follow(self, log):
        """What is there comes first, and then what is logged; also after a restart of reading."""
        log.log("a")
        follow = Followed(log)
        with closing(follow.followed):
            follow.until("a")
            log.log("b", "c")
            follow.until("a", "b", "c")
            follow.followed.close()
            follow.seen.clear()
            follow.until("a", "b", "c")

    def test_daemon_is_restarted(self):
        """Following outlives the daemon."""
        with closing(_journal.start()) as journal:
            log = Log(journal)
            follow = Followed(log)
            with closing(follow.followed):
                log.log("a")
                follow.until("a")
                journal.end(signal.SIGKILL)
                journal.start()
                log.log("b")
                follow.until("a", "b")
            log.destination.close()

    def test_refused(self, log):
        """If journalctl ends, that is an error with its reason."""
        follow = Followed(log, since="nonsense")
        with closing(follow.followed), pytest.raises(OSError, match="nonsense"):
            follow.until("a")

    def test_close(self, log):
        """It may be closed twice, and before it began."""
        followed = log.source().follow()
        followed.close()
        list(followed.poll())
        followed.close()
        followed.close()
