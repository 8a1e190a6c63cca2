"""Tests of what is found out about a provider of which nothing is recorded."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.etw import Provider, provider_guid
from eliot_etw.etw._doctor import diagnose, examine
from eliot_etw.etw._win32 import Session
from eliot_etw.testing import RecordingEtw

NAME = "MyCompany.MyProgram"
GUID = provider_guid(NAME)


class Windows:
    """Says what a test wants it to say."""

    def __init__(self, info=b"", sessions=(), error=None):
        self.info, self._sessions, self.error = info, sessions, error
        self.hides_sessions = False

    def provider_info(self, guid):
        assert guid == GUID
        if self.error:
            raise self.error
        return self.info

    def sessions(self):
        if self.hides_sessions:
            raise OSError("nobody may know")
        return list(self._sessions)


def info(*instances):
    """Write a TRACE_GUID_INFO: of each process what its sessions want."""
    blob = struct.pack("<II", len(instances), 0)
    for number, (process, flags, enabled) in enumerate(instances, 1):
        following = 16 + 32 * len(enabled) if number < len(instances) else 0
        blob += struct.pack("<IIII", following, len(enabled), process, flags)
        for session, level, match_any, match_all in enabled:
            blob += struct.pack("<IBBHIIQQ", 1, level, 0, session, 0, 0, match_any, match_all)
    return blob


def found(windows, level=5, **options):
    """Examine, and return what is good and what is not."""
    with RecordingEtw(level, **options) as etw:
        findings = [*examine(NAME, GUID, windows)]
        assert etw.registered == []
    for finding in findings:
        assert finding.text[0].isupper()
        assert finding.text.endswith(".")
    good = [finding.text for finding in findings if finding.is_good]
    return good, [
        f"{finding.text} {finding.advice}" for finding in findings if not finding.is_good
    ]


class TestAllIsWell:
    """A provider that is recorded."""

    def test_good(self):
        """Each thing that must be so is said to be so."""
        windows = Windows(
            info((7, 0, [(3, 5, 0xFF, 0)]), (42, 0, [(3, 5, 0xFF, 0)])),
            [Session(3, "mine", "C:\\a.etl", 64, 0)],
        )
        assert (
            [
                f"The provider 'MyCompany.MyProgram' has the GUID {GUID}.",
                "It is registered, by the processes 7, 42.",
                "The session 'mine' listens to levels up to 5, keywords 0xff.",
                "It writes to C:\\a.etl.",
                "A program that registers it now is told to write levels up to 5, "
                "keywords 0xffffffffffffffff.",
            ],
            [],
        ) == found(windows)

    def test_all_of_everything(self):
        """0 is all levels, and all keywords."""
        good, bad = found(Windows(info((7, 0, [(3, 0, 0, 0)])), [Session(3, "s", "", 64, 0)]))
        assert "levels up to 255, keywords 0xffffffffffffffff." in good[2]
        assert "It writes to no file: what is not read meanwhile is gone." == good[3]
        assert bad == []


class TestWhatIsWrong:
    """What stands in the way is named, with what to do."""

    def test_nothing(self):
        """Nobody has registered it, and nobody listens."""
        _, bad = found(Windows(), level=None)
        assert len(bad) == 3
        assert "Start your program" in bad[0]
        assert f"logman start mytrace -p {{{GUID}}} 0xffffffffffff 5 " in bad[1]
        assert "is told that nobody listens." in bad[2]

    def test_not_registered(self):
        """A session may wait for a provider that is not there."""
        good, bad = found(Windows(info((0, 2, [(3, 5, 0, 0)])), [Session(3, "s", "f", 64, 0)]))
        assert any("The session 's' listens" in text for text in good)
        assert ["No running process has registered it."] == [text[:37] for text in bad]

    @pytest.mark.parametrize(
        ("wanted", "words"),
        [
            ((3, 2, 0, 0), "gets failures only. Ask for level 5."),
            ((3, 1, 0, 0), "gets the gravest failures only. Ask for level 5."),
            ((3, 5, 0xFF00, 0), "No event of ours has these"),
            ((3, 5, 0xFF, 0x100), "wants all of 0x100. No event of ours has these"),
        ],
    )
    def test_wants_something_else(self, wanted, words):
        """A session may ask for what there is not."""
        _, bad = found(Windows(info((7, 0, [wanted])), [Session(3, "s", "f", 64, 0)]))
        assert len(bad) == 1
        assert words in bad[0]

    def test_session_that_loses(self):
        """A session may lose what it asked for."""
        windows = Windows(info((7, 0, [(3, 5, 0, 0)])), [Session(3, "s", "f", 4, 9)])
        _, bad = found(windows)
        assert ["It has lost 9 events", "Its buffers have 4 KB"] == [
            text.split(",")[0].split(";")[0] for text in bad
        ]

    def test_unknown_session(self):
        """Of a session that the user may not see only its number is known."""
        good, _ = found(Windows(info((7, 0, [(9, 5, 0, 0)]))))
        assert any("The session number 9 listens" in text for text in good)

    def test_no_sessions(self):
        """So it is with all of them."""
        windows = Windows(info((7, 0, [(9, 5, 0, 0)])))
        windows.hides_sessions = True
        good, bad = found(windows)
        assert ["Which sessions there are, Windows does not say: nobody may know. "] == bad
        assert any("The session number 9 listens" in text for text in good)

    def test_session_that_has_stopped(self):
        """A session that listens no more is none."""
        blob = bytearray(info((7, 0, [(3, 5, 0, 0)])))
        blob[24] = 0
        _, bad = found(Windows(bytes(blob)))
        assert "No session listens to it." in bad[0]

    def test_denied(self):
        """What Windows does not tell is said, and the rest goes on."""
        error = OSError(0, "ended with the error 5", None, 5)
        error.winerror = 5
        good, bad = found(Windows(error=error))
        assert "Who has registered the provider" in bad[0]
        assert "Run this as an administrator" in bad[0]
        assert "A program that registers it now is told to write" in good[-1]

    def test_missing(self):
        """So it is with what this Windows has not."""
        _, bad = found(Windows(error=OSError("needs the function X")))
        assert "needs the function X" in bad[0]

    def test_no_registration(self):
        """Windows may refuse the very registration."""
        with RecordingEtw() as etw:
            etw.fail_register(8)
            *_, last = examine(NAME, GUID, Windows())
        assert (False, True) == (last.is_good, "error 8" in last.text)

    @given(st.binary(max_size=200))
    def test_damaged(self, blob):
        """Whatever Windows says, there is a finding and no crash."""
        assert found(Windows(blob))


class TestDiagnose:
    """The whole."""

    @pytest.mark.skipif(os.name == "nt", reason="there is Windows")
    def test_no_windows(self):
        """On another system it is one clear line."""
        (finding,) = diagnose(NAME)
        assert (False, True) == (finding.is_good, "needs Windows, this is" in finding.text)

    @pytest.mark.skipif(os.name != "nt", reason="there is no Windows")
    def test_windows(self):
        """On Windows there is more, whatever it lets a user see."""
        provider = Provider(NAME)
        findings = diagnose(NAME)
        assert str(GUID) in findings[0].text
        assert len(findings) > 2
        provider.close()

    def test_name_that_no_provider_can_have(self):
        """A name that is none is an error."""
        with pytest.raises(ValueError, match="text without NUL"):
            diagnose("")
