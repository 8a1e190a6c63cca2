"""Tests of the handler that writes records of `logging` as events."""

import json
import logging
import logging.config
import logging.handlers
import os
import subprocess
import sys
import threading
from datetime import datetime, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw import _bridge, current_action, start_action
from eliot_etw.etw import FileTime, activity_id, provider_guid
from eliot_etw.stdlib import EtwHandler
from eliot_etw.stdlib import etw as module
from eliot_etw.testing import RecordingEtw
from tests.etw._schemas import PATIENT

GUID = UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
FIELDS = [
    "module", "funcName", "pathname", "filename", "lineno", "levelname", "msg", "name", "levelno",
    "thread", "threadName", "processName",
]  # fmt: skip


@pytest.fixture
def etw():
    """Return what stands in for Windows."""
    with RecordingEtw() as etw:
        yield etw


@pytest.fixture
def handler(etw):
    """Return a handler."""
    handler = EtwHandler()
    yield handler
    handler.close()


@pytest.fixture
def logger(handler):
    """Return a logger that logs everything to the handler."""
    logger = logging.getLogger("app.db")
    logger.addHandler(handler)
    logger.setLevel(1)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def record(**attributes):
    """Make a record as the module `logging` makes it, with some attributes otherwise."""
    made = logging.LogRecord("app", logging.INFO, "/a/b.py", 7, "message", (), None, "function")
    made.__dict__.update(attributes)
    return made


def fields(etw):
    """Return the fields of the latest event."""
    return etw.events[-1].decode().as_dict()


class TestFields:
    """What an event has."""

    def test_always(self, etw, logger):
        """Each has these fields, the first ones as PyEtw has them."""
        logger.warning("%s: %d", "text", 7)
        (event,) = etw.events
        decoded = event.decode()
        assert ("log", FIELDS) == (decoded.name, [name for name, _ in decoded.fields])
        found = decoded.as_dict()
        assert (found["module"], found["funcName"]) == ("test_etw", "test_always")
        assert (found["pathname"], found["filename"]) == (__file__, "test_etw.py")
        assert 0 < found["lineno"] < 1000
        assert (found["levelname"], found["levelno"]) == ("WARNING", 30)
        assert (found["msg"], found["name"]) == ("text: 7", "app.db")
        assert found["thread"] == threading.get_ident()
        assert found["threadName"] == threading.current_thread().name
        assert found["processName"] == "MainProcess"

    def test_always_the_same(self, etw, handler):
        """These fields are the same in a record that has others besides."""
        handler.handle(record())
        plain = fields(etw)
        handler.handle(record(value=[1], lineno=7))
        assert plain == {name: fields(etw)[name] for name in FIELDS}
        handler.handle(record(pathname="a\ud800"))
        handler.handle(record(pathname="a\ud800", value=[1]))
        assert {"a\\ud800"} == {e.decode().as_dict()["pathname"] for e in etw.events[2:]}

    def test_provider(self, etw, logger):
        """The provider is called as the logger is, as tools that take ``*app.db`` expect it."""
        logger.info("")
        (event,) = etw.events
        assert ("app.db", provider_guid("app.db")) == (event.provider_name, event.provider_id)
        assert (11, 0, None) == (event.channel, event.opcode, event.activity_id)

    @pytest.mark.parametrize(
        ("number", "level"),
        [(60, 1), (50, 1), (45, 2), (40, 2), (30, 3), (25, 4), (20, 4), (10, 5), (5, 5), (1, 5)],
    )
    def test_level(self, etw, logger, number, level):
        """The level is that of the record, down to the next that has a name."""
        logger.log(number, "message")
        assert (level, 2) == (etw.events[-1].level, etw.events[-1].keyword)

    def test_exception(self, etw, logger):
        """An exception is there as text, and in the keyword."""
        try:
            raise ValueError("no good")
        except ValueError:
            logger.exception("failed")
        found = fields(etw)
        assert found["exc_text"].startswith("Traceback (most recent call last):\n")
        assert found["exc_text"].endswith("\nValueError: no good")
        assert (2, 6) == (etw.events[-1].level, etw.events[-1].keyword)

    def test_formatter(self, etw, handler):
        """A formatter may show exceptions otherwise; another handler's text is taken as it is."""

        class Short(logging.Formatter):
            def formatException(self, _):  # noqa: N802 - as logging calls it
                return "short"

        handler.setFormatter(Short())
        error = ValueError()
        handler.handle(record(exc_info=(ValueError, error, None)))
        assert fields(etw)["exc_text"] == "short"
        handler.handle(record(exc_info=(ValueError, error, None), exc_text="made before"))
        assert fields(etw)["exc_text"] == "made before"

    def test_stack(self, etw, logger):
        """A stack is there as text."""
        logger.info("here", stack_info=True)
        assert fields(etw)["stack_info"].startswith("Stack (most recent call last):")

    def test_action(self, etw, logger):
        """Within an action the event belongs to it; it takes none of its places."""
        logger.info("outside")
        with start_action(action_type="a") as action, start_action(action_type="b"):
            logger.info("inside", extra={"task_uuid": "mine"})
            found = fields(etw)
            expected = activity_id(action.task_uuid, [2], os.getpid())
            assert (action.task_uuid, "/2") == (found["task_uuid"], found["task_level"])
            assert expected == etw.events[-1].activity_id.bytes_le
            assert found["task_uuid_"] == "mine"
            assert current_action().next_level() == [2, 2]
        logger.info("outside", extra={"task_uuid": "mine"})
        assert fields(etw)["task_uuid"] == "mine"
        assert etw.events[-1].activity_id is None

    def test_nothing_to_do(self, etw, handler):
        """What formatters leave in a record is not taken for something of the program's."""
        made = record(taskName="task", message="message", asctime="now")
        handler.handle(made)
        assert [*fields(etw)] == FIELDS

    def test_changed_level_name(self, etw, handler):
        """Nothing that is remembered of a place in the source hides what has changed."""
        handler.handle(record(levelname="A", threadName="T"))
        handler.handle(record(levelname="B", threadName="U"))
        assert ("B", "U") == (fields(etw)["levelname"], fields(etw)["threadName"])


class TestExtra:
    """What a program adds to a record."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("text", "text"),
            ("", ""),
            ("a\0b", "a\0b"),
            ("a\ud800", "a\\ud800"),
            (7, 7),
            (-(1 << 63), -(1 << 63)),
            ((1 << 64) - 1, (1 << 64) - 1),
            (1 << 70, str(1 << 70)),
            (True, True),
            (0.5, 0.5),
            (b"\0\xff", b"\0\xff"),
            (GUID, GUID),
            (None, "null"),
            ([1, {"a": None}], '[1,{"a":null}]'),
            ({"a": "ß"}, '{"a":"ß"}'),
        ],
    )
    def test_types(self, etw, logger, value, expected):
        """Each value has a field of its own type; what has none is JSON."""
        logger.info("first", extra={"value": value})
        logger.info("second, planned before", extra={"value": value})
        for event in etw.events:
            found = event.decode().as_dict()["value"]
            assert (expected, type(expected)) == (found, type(found))

    def test_time(self, etw, logger):
        """A time is one for Windows too."""
        now = datetime(2026, 1, 2, 3, 4, 5, 678901, timezone.utc)
        logger.info("", extra={"when": now})
        assert FileTime.from_datetime(now) == fields(etw)["when"]

    def test_same_names_other_types(self, etw, logger):
        """The shape of an event is that of its values."""
        for value in (1, "1", 1.0, 1 << 63, True):
            logger.info("", extra={"value": value})
            found = fields(etw)["value"]
            assert (value, type(value)) == (found, type(found))

    def test_names_that_no_field_can_have(self, etw, handler):
        """They are in a field of their own, as JSON."""
        handler.handle(record(**{"": 1, "a\0b": 2, "good": 3}))
        found = fields(etw)
        assert ({"": 1, "a\0b": 2}, 3) == (json.loads(found["eliot:rest"]), found["good"])

    def test_names_that_differ_by_case_alone(self, etw, handler):
        """No two fields of an event have names that a tool of Windows takes for one."""
        handler.handle(record(Msg=1, LEVELNAME=2, Exc_Text=3, good=4, Good=5))
        found = fields(etw)
        rest = json.loads(found["eliot:rest"])
        assert ({"Msg": 1, "LEVELNAME": 2, "Exc_Text": 3, "Good": 5}, 4) == (rest, found["good"])

    def test_many(self, etw, handler):
        """An event has 128 fields at most; nothing is lost."""
        extra = {f"x{number}": number for number in range(300)}
        handler.handle(record(**extra))
        found = fields(etw)
        rest = json.loads(found.pop("eliot:rest"))
        assert extra == {name: found[name] for name in found if name in extra} | rest

    def test_many_shapes(self, etw, handler):
        """Tools take a bounded number of shapes: beyond it all is in one field of JSON."""
        for number in range(100):
            handler.handle(record(**{f"x{number}": number}))
        shapes = {event.metadata for event in etw.events}
        assert len(shapes) < 70
        assert {"x99": 99} == json.loads(fields(etw)["eliot:rest"])
        handler.handle(record(x0=5))
        assert fields(etw)["x0"] == 5

    @PATIENT
    @given(
        st.dictionaries(
            st.text(max_size=5),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.binary(),
                lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(), value),
                max_leaves=5,
            ),
            max_size=5,
        ),
        st.text(),
    )
    def test_whatever_it_is(self, extra, message):
        """Each record becomes an event that can be decoded, with all of its extra fields."""
        extra = {
            name: value for name, value in extra.items() if name not in _bridge.OWN_ATTRIBUTES
        }
        with RecordingEtw() as etw:
            handler = EtwHandler()
            handler.handle(record(msg=message, **extra))
            found = fields(etw)
            handler.close()
        rest = json.loads(found.pop("eliot:rest", "{}"))
        assert len(extra) == len(found) - len(FIELDS) + len(rest)
        assert message.encode("utf-8", "backslashreplace").decode() == found["msg"]
        assert set(handler.stats().values()) == {0}


class TestHardRecords:
    """Records that are hard to write are written all the same."""

    def test_arguments_that_do_not_fit(self, etw, handler, capsys):
        """The parts of the message are there; the developer is told, as by all handlers."""
        handler.handle(record(msg="%d", args=("seven",)))
        assert fields(etw)["msg"] == "%d ('seven',)"
        assert handler.stats()["errors"] == 1
        assert "TypeError: %d format" in capsys.readouterr().err

    def test_attributes_of_other_types(self, etw, handler):
        """A record that came from elsewhere may have anything in it."""
        handler.handle(
            record(
                module=None, funcName=[], pathname=object, filename="a\ud800", lineno="x",
                levelname="x" * 5000, thread=-1, threadName=None, processName=7, msg=["m"],
            )
        )  # fmt: skip
        found = fields(etw)
        assert ("", "[]", "<class 'object'>", "a\\ud800", 0) == tuple(
            found[name] for name in FIELDS[:5]
        )
        assert ("x" * 2000 + "...", "['m']", 0, "", "7") == tuple(
            found[name] for name in ("levelname", "msg", "thread", "threadName", "processName")
        )

    def test_values_that_cannot_be_shown(self, etw, handler):
        """Neither they nor an exception of that kind stop the record."""

        class Refusing(Exception):
            def __str__(self):
                raise RuntimeError

            __repr__ = __str__

        handler.handle(record(exc_info=(Refusing, Refusing(), None), value=Refusing()))
        assert fields(etw)["value"] == "eliot: unknown, str() raised exception"
        handler.handle(record(exc_info="nonsense"))
        assert fields(etw)["exc_text"] == "'nonsense'"

    @pytest.mark.parametrize("size", [65_000, 65_500, 70_000, 1_000_000])
    def test_long(self, etw, handler, size):
        """What is too long is cut, visibly, and counted; what is short is all there."""
        handler.handle(record(msg="ä" * (size // 2), long="x" * size, short="short"))
        found = fields(etw)
        assert "ä" * 1000 in found["msg"]
        assert "x" * 1000 in found["long"]
        assert "short" == found["short"]
        expected = {"msg": size // 2 * 2, "long": size}
        assert expected == json.loads(found["eliot:truncated"])
        assert handler.stats()["truncated"] == 1

    def test_long_enough(self, etw, handler):
        """What just fits is not cut."""
        handler.handle(record(msg="x" * 64_000))
        assert (64_000, 0) == (len(fields(etw)["msg"]), handler.stats()["truncated"])
        handler.handle(record(msg="x" * 65_400))
        assert (True, 1) == (len(fields(etw)["msg"]) > 60_000, handler.stats()["truncated"])

    def test_no_room_at_all(self, etw, capsys):
        """A provider may have a name so long that nothing fits beside it: that is counted."""
        handler = EtwHandler(provider_name="x" * 65_400)
        handler.handle(record())
        assert ([], 1) == (etw.events, handler.stats()["errors"])
        handler.close()
        assert "_Unusual" in capsys.readouterr().err

    def test_unforeseen(self, etw, handler, capsys, monkeypatch):
        """Anything else is told as all handlers tell it, and counted; it never raises."""
        handler.handle(record(levelno=[]))
        assert (etw.events, handler.stats()["errors"]) == ([], 1)
        assert "TypeError" in capsys.readouterr().err
        monkeypatch.setattr(logging, "raiseExceptions", False)
        handler.handle(record(levelno=[]))
        assert capsys.readouterr().err == ""

    def test_windows_refuses(self, etw, handler):
        """Records that Windows does not take are counted by its codes."""
        for code in (8, 234, 8):
            etw.fail_writes(code)
            handler.handle(record())
        found = handler.stats()
        assert (3, 2, 1) == (found["failed"], found["failed_8"], found["failed_234"])

    def test_logging_while_logging(self, etw, handler):
        """An argument that logs itself is no trouble."""

        class Chatty:
            def __str__(self):
                handler.handle(record(msg="inner"))
                return "chatty"

        handler.handle(record(msg="%s", args=(Chatty(),)))
        assert ["inner", "chatty"] == [e.decode().as_dict()["msg"] for e in etw.events]

    def test_threads(self, etw, logger):
        """All threads may log, to loggers that nobody has used before."""

        def log(number):
            for turn in range(20):
                logger.getChild(f"x{turn}").info("%d", number, extra={"turn": turn})

        threads = [threading.Thread(target=log, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(etw.events) == 160
        assert len(etw.registered) == len(set(etw.registered)) == 21


class TestListening:
    """Nothing is done that nobody wants."""

    def test_nobody(self, etw, handler):
        """With nobody listening nothing is formatted."""
        etw.disable()
        handler.handle(record(msg="%d", args=("no number",), levelno=50))
        etw.enable(3)
        handler.handle(record(msg="%d", args=("no number",)))
        etw.enable(5, match_any=1)
        handler.handle(record(msg="%d", args=("no number",)))
        assert ([], 0, 0) == (etw.events, etw.unwanted, handler.stats()["errors"])

    def test_one_logger(self, etw, handler):
        """Who listens to one logger gets that one."""
        etw.disable()
        etw.enable(5, provider="app.a")
        for name in ("app", "app.a", "app.b"):
            handler.handle(record(name=name))
        assert ["app.a"] == [event.provider_name for event in etw.events]

    def test_failures_only(self, etw, handler):
        """Records with an exception can be asked for by their keyword."""
        etw.enable(5, match_any=4)
        handler.handle(record())
        handler.handle(record(exc_text="Traceback"))
        assert len(etw.events) == 1

    def test_filters(self, etw, handler):
        """Filters are asked, and may put another record in the place of one."""
        handler.addFilter(lambda record: record.msg != "no")
        assert [False, True] == [handler.handle(record(msg=text)) for text in ("no", "yes")]
        if sys.version_info >= (3, 12):
            handler.addFilter(lambda _: record(msg="other"))
            handler.handle(record())
            assert fields(etw)["msg"] == "other"

    def test_level(self, etw, handler, logger):
        """The handler has a level of its own, as all handlers have."""
        handler.setLevel("ERROR")
        logger.warning("no")
        logger.error("yes")
        assert ["yes"] == [event.decode().as_dict()["msg"] for event in etw.events]


class TestProviders:
    """Which provider a record goes to."""

    def test_root(self, etw, handler):
        """The root logger's is there from the start, as ``*root``."""
        assert ["root"] == etw.registered
        handler.handle(record(name="root"))
        assert etw.events[0].provider_id == provider_guid("root")

    @pytest.mark.parametrize(
        ("name", "provider"),
        [("", "root"), ("ß", "root"), ("app.ß", "app"), ("app.a\0.b", "app"), ("app.ß.x", "app")],
    )
    def test_names_that_no_provider_can_have(self, etw, handler, name, provider):
        """Such a logger writes to the provider of the nearest above it; none is lost."""
        handler.handle(record(name=name))
        assert (provider, 1) == (etw.events[0].provider_name, handler.stats()["shared"])
        assert name == fields(etw)["name"]

    def test_no_room(self, etw, handler, monkeypatch):
        """So does one for which there is no room."""
        monkeypatch.setattr(module, "_MAX_PROVIDERS", 3)
        for name in ("app", "app.a", "app.b", "app.b.c", "other", "app.a"):
            handler.handle(record(name=name))
        assert ["root", "app", "app.a"] == etw.registered
        providers = [event.provider_name for event in etw.events]
        assert ["app", "app.a", "app", "app", "root", "app.a"] == providers
        assert handler.stats()["shared"] == 3

    def test_refused(self, etw, handler):
        """So does one that Windows refuses to register."""
        etw.fail_register(8)
        handler.handle(record(name="app"))
        assert ["root"] == [event.provider_name for event in etw.events]

    def test_names_without_end(self, etw, handler, monkeypatch):
        """Loggers whose names are made up do not fill the memory."""
        monkeypatch.setattr(module, "_MAX_REMEMBERED", 5)
        for number in range(20):
            handler.handle(record(name=f"app.ß{number}", lineno=number))
        assert len(handler._providers) == 5
        assert len(etw.events) == 20

    def test_own_provider(self, etw):
        """One provider of one's own choice takes all records."""
        group = UUID(int=5)
        handler = EtwHandler(provider_name="MyCompany.MyProgram", guid=str(GUID), group=group)
        for name in ("a", "b", "root"):
            handler.handle(record(name=name))
        assert {("MyCompany.MyProgram", GUID, group)} == {
            (event.provider_name, event.provider_id, event.provider_group) for event in etw.events
        }
        assert ["MyCompany.MyProgram"] == etw.registered
        handler.close()

    @pytest.mark.parametrize("given", [{"provider_name": ""}, {"provider_name": 5},
                                       {"group": "nonsense"},
                                       {"provider_name": "A.B", "guid": "nonsense"}])  # fmt: skip
    def test_no_provider(self, etw, given):
        """What is no name or no GUID is refused, and nothing is registered."""
        with pytest.raises(ValueError, match=r"must be (text|a GUID).*, got "):
            EtwHandler(**given)
        assert etw.registered == []

    def test_group_of_all(self, etw):
        """The providers of all loggers may belong to a group."""
        handler = EtwHandler(group=str(GUID))
        handler.handle(record())
        assert etw.events[0].provider_group == GUID
        handler.close()

    def test_guid_alone(self, etw):
        """One GUID cannot be that of all loggers."""
        with pytest.raises(ValueError, match="no provider_name"):
            EtwHandler(guid=GUID)
        assert etw.registered == []

    @pytest.mark.skipif(os.name == "nt", reason="there is Windows")
    def test_no_windows(self):
        """On another system it says so at once."""
        with pytest.raises(OSError, match="needs Windows, this is"):
            EtwHandler()


class TestLife:
    """From the configuration to the end."""

    def test_configuration(self, etw):
        """It can be named in a configuration."""
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {
                    "etw": {
                        "class": "eliot_etw.stdlib.EtwHandler",
                        "level": "INFO",
                        "provider_name": "MyCompany.MyProgram",
                    }
                },
                "loggers": {"configured": {"handlers": ["etw"], "level": "DEBUG"}},
            }
        )
        logger = logging.getLogger("configured")
        logger.debug("no")
        logger.info("yes")
        assert ["yes"] == [event.decode().as_dict()["msg"] for event in etw.events]
        (handler,) = logger.handlers
        logger.removeHandler(handler)
        handler.close()

    def test_close(self, etw, handler):
        """Nothing is registered after its end, whatever is logged then."""
        handler.handle(record(name="a"))
        handler.close()
        handler.close()
        for name in ("a", "b", "root"):
            handler.handle(record(name=name))
        assert ([], 1) == (etw.registered, len(etw.events))
        assert handler.stats()["after_close"] == 3

    def test_shutdown(self):
        """A program that ends has it ended, and nothing is said about it."""
        program = (
            "import logging, logging.handlers\n"
            "from eliot_etw.stdlib import EtwHandler\n"
            "from eliot_etw.testing import RecordingEtw\n"
            "etw = RecordingEtw()\n"
            "etw.__enter__()\n"
            "late = logging.handlers.MemoryHandler(99, target=EtwHandler())\n"
            "logging.basicConfig(handlers=[late, EtwHandler()], level=1)\n"
            "logging.getLogger('a').info('first')\n"
            "logging.shutdown()\n"
            "print(len(etw.events), etw.registered)\n"
        )
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert (result.stdout, result.stderr) == ("2 []\n", "")


class TestBudget:
    """How many calls of Python's a record takes: a slowdown is seen without a clock."""

    def calls_of(self, handler):
        """Return the names of the Python functions that are called for a record."""
        made, names = record(), []
        handler.handle(made)  # what is done once only is done

        def note(frame, event, _):
            if event == "call":
                names.append(frame.f_code.co_name)

        sys.setprofile(note)
        try:
            handler.handle(made)
        finally:
            sys.setprofile(None)
        return names

    def test_somebody_listens(self, handler):
        """To make an event of a record is six calls; to write it is the seventh."""
        ours = ["handle", "emit", "is_enabled", "encode", "getMessage", "current_action"]
        assert [*ours, "_write"] == self.calls_of(handler)[:7]

    def test_nobody_listens(self, etw, handler):
        """A record that nobody wants is two calls."""
        etw.disable()
        assert ["handle", "emit"] == self.calls_of(handler)
