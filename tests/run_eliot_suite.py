"""Runs one of Eliot's own test modules against this package: ``run_eliot_suite.py test_api``.

Eliot's tests stand in the package `eliot.tests` and import their subject relatively. Here the
package `eliot` is a stand-in whose modules offer our objects, so the tests that run are Eliot's,
unchanged. What happened is printed as JSON: how many tests ran, and which did not pass or were
skipped; the details go to standard error.
"""

import importlib.util
import json as stdlib_json
import sys
import types
import unittest

from hypothesis import Phase, settings

import eliot_etw
from eliot_etw import (
    _action,
    _context,
    _dispatch,
    _extract,
    _fields,
    _json,
    _logger,
    _message,
    _names,
    _safe,
    _task_level,
    _traceback,
    _types,
    dask,
    exceptions,
    filter,  # noqa: A004 - Eliot's name
    journald,
    json,
    logwriter,
    parse,
    prettyprint,
    serializers,
    stdlib,
    testing,
    twisted,
)

_FIELD_NAMES = {
    f"{name}_FIELD": getattr(_names, name)
    for name in (
        "TASK_UUID",
        "TASK_LEVEL",
        "TIMESTAMP",
        "MESSAGE_TYPE",
        "ACTION_TYPE",
        "ACTION_STATUS",
        "EXCEPTION",
        "REASON",
    )
}
_STATUSES = {
    f"{name}_STATUS": getattr(_names, name) for name in ("STARTED", "SUCCEEDED", "FAILED")
}


def _stand_in(name, *sources, kind=types.ModuleType, **more):
    """Make the module `eliot.<name>` out of what these modules offer."""
    module = kind(f"eliot.{name}" if name else "eliot")
    for source in sources:
        module.__dict__.update(
            {key: value for key, value in vars(source).items() if not key.startswith("__")}
        )
    module.__dict__.update(more)
    sys.modules[module.__name__] = module
    return module


class _Output(types.ModuleType):
    """The module `eliot._output`, whose default logger changes while tests run."""

    @property
    def _DEFAULT_LOGGER(self):  # noqa: N802 - Eliot's name
        return _logger._default

    @_DEFAULT_LOGGER.setter
    def _DEFAULT_LOGGER(self, logger):  # noqa: N802 - Eliot's name
        _logger.swap_logger(logger)


def _offer_private_names():
    """Give our classes the private names that Eliot's tests look at to see what is public."""
    action = _action.Action
    action._identification = property(
        lambda self: {"task_uuid": self.task_uuid, "action_type": self.action_type}
    )
    action._task_level = action.task_level
    action._nextTaskLevel = lambda self: _task_level.TaskLevel(self.next_level())
    writer = logwriter.ThreadedWriter
    writer._thread = property(lambda self: self._writer)
    writer._reader = property(fset=lambda self, target: setattr(self, "_write", target))
    action._logger = property(lambda self: self._route.writer)
    eliot_etw.FileDestination._json_default = property(lambda self: self._default)


def install():
    """Put the stand-in into `sys.modules`."""
    _offer_private_names()
    spec = importlib.util.find_spec("eliot")
    eliot = _stand_in("", eliot_etw, __version__=eliot_etw.__version__)
    eliot.__path__ = list(spec.submodule_search_locations)
    serializer = _fields.FieldsSerializer
    submodules = {
        "_action": _stand_in(
            "_action",
            parse,
            _action,
            _context,
            exceptions,
            _task_level,
            eliot_etw,
            **_FIELD_NAMES,
            **_STATUSES,
        ),
        "_message": _stand_in("_message", _message, parse, _action, **_FIELD_NAMES),
        "_output": _stand_in(
            "_output",
            _dispatch,
            _logger,
            eliot_etw,
            _safe_unicode_dictionary=_dispatch.text_of,
            kind=_Output,
        ),
        "_validation": _stand_in(
            "_validation",
            _fields,
            _types,
            exceptions,
            _MessageSerializer=serializer,
            _ActionSerializers=_action.ActionSerializers,
        ),
        "_traceback": _stand_in(
            "_traceback",
            _traceback,
            _extract,
            eliot_etw,
            TRACEBACK_MESSAGE=types.SimpleNamespace(_serializer=_fields.TRACEBACK_SERIALIZER),
            _writeTracebackMessage=lambda logger, *exc_info: _traceback.write_traceback(
                logger, exc_info
            ),
        ),
        "_util": _stand_in("_util", safeunicode=_safe.safe_str, saferepr=_safe.safe_repr),
        "_errors": _stand_in("_errors", _extract),
        "json": _stand_in(
            "json",
            json,
            _dumps_bytes=lambda o, default=None: _json.orjson.dumps(o, default),
            _dumps_unicode=lambda o, default=None: _json.orjson.dumps(o, default).decode(),
            _encoder_to_default_function=lambda encoder: encoder.default,
        ),
        "testing": testing,
        "parse": parse,
        "_parse": parse,
        "prettyprint": prettyprint,
        "dask": _stand_in("dask", dask, _add_logging=None, _RunWithEliotContext=None),
        "filter": filter,
        "journald": journald,
        "logwriter": logwriter,
        "twisted": _stand_in(
            "twisted",
            twisted,
            _passthrough=twisted.passthru,
            _RedirectLogsForTrial=twisted._TrialRedirection,
        ),
        "serializers": serializers,
        "stdlib": stdlib,
    }
    for name, module in submodules.items():
        sys.modules[f"eliot.{name}"] = module
        setattr(eliot, name, module)


def main(name):
    """Run a test module, and print what happened."""
    install()
    # Tests that add a destination expect to see only what is logged from then on.
    eliot_etw.add_destinations(lambda message: None)
    # Eliot tries its examples by the hundred; that ours are taken, too, a sample can tell.
    settings.register_profile(
        "sample", max_examples=25, deadline=None, database=None, phases=[Phase.generate]
    )
    settings.load_profile("sample")
    suite = unittest.defaultTestLoader.loadTestsFromName(f"eliot.tests.{name}")
    result = unittest.TextTestRunner().run(suite)
    prefix = f"eliot.tests.{name}."
    outcome = {
        "run": result.testsRun,
        "skipped": [test.id().removeprefix(prefix) for test, _ in result.skipped],
        "failed": [
            test.id().removeprefix(prefix) for test, _ in [*result.failures, *result.errors]
        ],
    }
    print(stdlib_json.dumps(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
