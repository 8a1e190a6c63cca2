"""Runs Eliot's own test modules against this package: ``python run_eliot_suite.py test_api ...``.

Eliot's tests stand in the package `eliot.tests` and import their subject relatively. Here the
package `eliot` is a stand-in whose modules offer our objects, so the tests that run are Eliot's,
unchanged.
"""

import importlib.util
import sys
import types
import unittest

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
    exceptions,
    filter,  # noqa: A004 - Eliot's name
    json,
    parse,
    prettyprint,
    serializers,
    testing,
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


def _stand_in(name, *sources, **more):
    """Make the module `eliot.<name>` out of what these modules offer."""
    module = types.ModuleType(f"eliot.{name}" if name else "eliot")
    for source in sources:
        module.__dict__.update(
            {key: value for key, value in vars(source).items() if not key.startswith("__")}
        )
    module.__dict__.update(more)
    sys.modules[module.__name__] = module
    return module


def install():
    """Put the stand-in into `sys.modules`."""
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
        "prettyprint": prettyprint,
        "filter": filter,
        "serializers": serializers,
    }
    for name, module in submodules.items():
        sys.modules[f"eliot.{name}"] = module
        setattr(eliot, name, module)


if __name__ == "__main__":
    install()
    names = [f"eliot.tests.{name}" for name in sys.argv[1:]]
    unittest.main(module=None, argv=["eliot", *names])
