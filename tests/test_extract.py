"""Tests of exceptions as fields, and as text."""

import linecache
import sys

import pytest

from eliot_etw import register_exception_extractor, start_action, write_traceback
from eliot_etw._extract import beside, extract, failure_fields, traceback_fields
from eliot_etw._safe import UNPRINTABLE


class AppError(Exception):
    """An exception of a program's own."""

    code = 7


class DerivedError(AppError):
    """One that is derived from it."""


class Mute(Exception):
    """An exception that has no text."""

    def __str__(self):
        raise AppError

    __repr__ = __str__


class OddMeta(type):
    """The class of classes that do not let anybody look at them."""

    def __getattribute__(cls, name):
        raise AppError

    def __hash__(cls):
        raise AppError


class Secretive(Exception, metaclass=OddMeta):
    """An exception whose class lets nobody look at it."""


def raised(error):
    """Return an exception that has been raised, with its traceback."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - whichever it is, it is what we want
        return caught


class TestExtract:
    """The registry of extractors."""

    def test_none(self):
        """Without an extractor there are no fields."""
        assert ({}, None) == extract(AppError())

    def test_os_error(self):
        """The number of an operating system's error is there out of the box."""
        assert ({"errno": 2}, None) == extract(FileNotFoundError(2, "no such file"))

    def test_registered(self):
        """An exception is described by the extractor of its class."""
        register_exception_extractor(AppError, lambda error: {"code": error.code})
        assert ({"code": 7}, None) == extract(AppError())

    def test_nearest_base(self):
        """The extractor of the nearest base class describes it."""
        register_exception_extractor(Exception, lambda error: {"far": 1})
        register_exception_extractor(AppError, lambda error: {"near": 1})
        assert ({"near": 1}, None) == extract(DerivedError())
        assert ({"far": 1}, None) == extract(ValueError())

    def test_last_counts(self):
        """Of two extractors for one class the last one counts."""
        register_exception_extractor(AppError, lambda error: {"x": 1})
        register_exception_extractor(AppError, lambda error: {"x": 2})
        assert ({"x": 2}, None) == extract(AppError())

    def test_mapping(self):
        """What it returns is copied: it may be its own."""
        own = {"x": 1}
        register_exception_extractor(AppError, lambda error: own)
        result, _ = extract(AppError())
        assert own == result
        assert own is not result

    @pytest.mark.parametrize("garbage", [None, 7, "text", ["x"], object()])
    def test_garbage(self, garbage):
        """What is no mapping gives no fields, and the error that says so."""
        register_exception_extractor(AppError, lambda error: garbage)
        found, broken = extract(AppError())
        assert found == {}
        assert isinstance(broken, (TypeError, ValueError))

    def test_raises(self):
        """What an extractor raises is returned with no fields."""
        error = ValueError("broken")

        def extractor(_):
            raise error

        register_exception_extractor(AppError, extractor)
        assert ({}, error) == extract(AppError())

    def test_class_that_hides(self):
        """An exception whose class lets nobody look at it gives no fields, and raises nothing."""
        found, broken = extract(Secretive())
        assert found == {}
        assert broken is not None

    @pytest.mark.parametrize("wrong", [7, int, AppError(), None])
    def test_no_exception_class(self, wrong):
        """Only classes of exceptions have extractors; anything else is refused at once."""
        with pytest.raises(TypeError, match=r"must be a class of exceptions, got .*Pass the cla"):
            register_exception_extractor(wrong, dict)

    def test_not_callable(self):
        """An extractor that cannot be called is refused at once."""
        with pytest.raises(TypeError, match=r"extractor must be callable with one exception"):
            register_exception_extractor(AppError, {"code": 7})


class TestInMessages:
    """Extractors at work."""

    def test_failed_action(self, messages):
        """The end of a failed action has the fields of the extractor besides its own."""
        register_exception_extractor(AppError, lambda error: {"code": error.code})
        start_action(action_type="a").finish(AppError("no"))
        assert (messages[1]["code"], messages[1]["reason"]) == (7, "no")

    def test_traceback(self, messages):
        """So has a logged traceback."""
        register_exception_extractor(AppError, lambda error: {"code": error.code})
        write_traceback(exc_info=(AppError, AppError("no"), None))
        assert (messages[0]["code"], messages[0]["reason"]) == (7, "no")

    @pytest.mark.parametrize(
        "name",
        ["reason", "exception", "task_uuid", "task_level", "timestamp", "action_status"],
    )
    def test_names_of_ours(self, messages, name):
        """A field of the extractor that has one of our names gets an underscore."""
        register_exception_extractor(AppError, lambda error: {name: "mine"})
        with start_action(action_type="outer"):
            start_action(action_type="a").finish(AppError("no"))
        end = messages[2]
        assert (end[name + "_"], end["reason"]) == ("mine", "no")
        assert (end["action_status"], end["task_level"]) == ("failed", [2, 2])

    @pytest.mark.parametrize("name", ["message_type", "reason", "exception", "traceback"])
    def test_names_of_a_traceback(self, messages, name):
        """The same in a logged traceback."""
        register_exception_extractor(AppError, lambda error: {name: "mine"})
        write_traceback(exc_info=(AppError, AppError("no"), None))
        assert messages[0][name + "_"] == "mine"
        assert (messages[0]["message_type"], messages[0]["reason"]) == ("eliot:traceback", "no")

    @pytest.mark.parametrize("fail", ["action", "traceback"])
    def test_that_raises(self, messages, fail):
        """What an extractor raises is told in a traceback of its own; the rest is logged."""

        def extractor(error):
            raise ValueError("broken extractor")

        register_exception_extractor(AppError, extractor)
        with start_action(action_type="outer"):
            if fail == "action":
                start_action(action_type="a").finish(AppError("no"))
            else:
                write_traceback(exc_info=(AppError, AppError("no"), None))
        reasons = [m["reason"] for m in messages if "reason" in m]
        assert reasons == ["broken extractor", "no"]
        assert len({m["task_uuid"] for m in messages}) == 1

    def test_that_raises_what_it_extracts(self, messages):
        """An extractor that fails for its own exceptions, too, is no endless loop."""

        def extractor(error):
            raise AppError("again")

        register_exception_extractor(AppError, extractor)
        start_action(action_type="a").finish(AppError("no"))
        write_traceback(exc_info=(AppError, AppError("no"), None))
        assert [m["reason"] for m in messages if "reason" in m] == ["again", "no", "again", "no"]

    def test_names_that_are_no_text(self, messages):
        """Names that are no text are passed on: it is the encoder that names them."""
        register_exception_extractor(AppError, lambda error: {1: "a", None: "b"})
        start_action(action_type="a").finish(AppError("no"))
        assert (messages[1][1], messages[1][None]) == ("a", "b")

    def test_secretive_class(self, messages):
        """A failed action and a traceback are logged whatever the exception's class is."""
        start_action(action_type="a").finish(Secretive("no"))
        write_traceback(exc_info=(None, Secretive("no"), None))
        reasons = [m["reason"] for m in messages if m.get("action_status") == "failed"]
        assert reasons == ["no"]
        assert [m["reason"] for m in messages if "traceback" in m].count("no") == 1


class TestFailureFields:
    """What the end of a failed action says."""

    def test_fields(self):
        """The dotted name of the class, and the text."""
        assert failure_fields(AppError("no room")) == {
            "exception": f"{AppError.__module__}.AppError",
            "reason": "no room",
        }

    def test_no_text(self):
        """An exception without a text has a fixed one."""
        assert failure_fields(Mute())["reason"] == UNPRINTABLE


class TestTracebackFields:
    """The text of a traceback."""

    def test_line(self):
        """File, line and function of each frame, and the error; no source is read for it."""
        text = traceback_fields(raised(AppError("no room")))["traceback"]
        first, frame, last = text.splitlines()
        assert first == "Traceback (most recent call last):"
        assert frame.strip().startswith(f'File "{__file__}", line ')
        assert frame.endswith(", in raised")
        assert last.endswith("AppError: no room")

    def test_no_file_is_read(self, monkeypatch):
        """Source files are not read: the program may have more urgent things to do."""

        def read(*args):
            raise AssertionError

        for name in ("getline", "getlines", "updatecache", "checkcache"):
            monkeypatch.setattr(linecache, name, read)
        assert "AppError" in traceback_fields(raised(AppError()))["traceback"]

    def test_no_locals(self):
        """Values of variables are not in it: they may be secret."""

        def fail():
            password = "secret"  # noqa: F841 - what must not be logged
            raise AppError

        with pytest.raises(AppError) as caught:
            fail()
        assert "secret" not in traceback_fields(caught.value)["traceback"]

    def test_cause(self):
        """The cause of an exception is in it, with its own traceback."""
        try:
            raise AppError("effect") from raised(ValueError("cause"))
        except AppError as error:
            text = traceback_fields(error)["traceback"]
        assert text.index("ValueError: cause") < text.index("direct cause") < text.index("effect")
        assert text.count("Traceback") == 2

    def test_context(self):
        """So is what was being handled when it was raised."""
        try:
            try:
                raise ValueError("first")
            except ValueError:
                raise AppError("second")  # noqa: B904 - the context is the point
        except AppError as error:
            text = traceback_fields(error)["traceback"]
        assert text.index("ValueError: first") < text.index("another exc") < text.index("second")

    def test_suppressed_context(self):
        """What `from None` hides stays hidden."""
        error = AppError()
        error.__context__, error.__suppress_context__ = ValueError("hidden"), True
        assert "hidden" not in traceback_fields(error)["traceback"]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="notes are new in Python 3.11")
    def test_notes(self):
        """Notes are in it."""
        error = AppError("no room")
        error.add_note("on the third attempt")
        lines = traceback_fields(error)["traceback"].splitlines()
        assert lines[-1] == "on the third attempt"

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are new in Python 3.11")
    def test_group(self):
        """The exceptions of a group are in it, each with its traceback and chain."""
        try:
            raise AppError("two") from ValueError("why")
        except AppError as error:
            second = error
        group = ExceptionGroup("many", [raised(KeyError("one")), second])  # noqa: F821 - new
        text = traceback_fields(raised(group))["traceback"]
        for part in ("many (2 sub-exceptions)", "KeyError: 'one'", "AppError: two", "why"):
            assert part in text

    def test_cycle(self):
        """Exceptions that are each other's context have an end."""
        one, two = AppError("one"), AppError("two")
        one.__context__, two.__context__ = two, one
        text = traceback_fields(one)["traceback"]
        assert (text.count("AppError: one"), text.count("AppError: two")) == (1, 1)

    def test_long_chain(self):
        """A chain that is longer than the stack is deep is no error."""
        error = AppError("first")
        for _ in range(5_000):
            error, before = AppError("next"), error
            error.__cause__ = before
        assert isinstance(traceback_fields(error)["traceback"], str)

    def test_none(self):
        """Where there is no exception, that is what it says, as Python does."""
        assert traceback_fields(None)["traceback"] == "NoneType: None\n"

    @pytest.mark.parametrize("error", [Mute(), Secretive()])
    def test_hostile(self, error):
        """Something is written for every exception."""
        assert isinstance(traceback_fields(raised(error))["traceback"], str)


class TestBeside:
    """Fields of two origins."""

    def test_ours_first(self):
        """Ours keep their names, and come first; nothing is lost of the others."""
        result = beside({"x": 1, "reason": 2, "reason_": 3}, {"reason": 0})
        assert result == {"reason": 0, "x": 1, "reason_": 2, "reason__": 3}
        assert next(iter(result)) == "reason"

    def test_left_alone(self):
        """Neither is changed."""
        theirs, ours = {"x": 1}, {"y": 2}
        beside(theirs, ours)
        assert (theirs, ours) == ({"x": 1}, {"y": 2})
