"""What does it cost to import the library, in time and in modules?"""

from __future__ import annotations

from functools import partial

from _measure import ELIOT, OURS, Question, Reach, Setting, printed_number

_PROGRAM = """
import sys
from time import perf_counter
before, started = len(sys.modules), perf_counter()
import {module}
print({result})
"""


def questions(setting: Setting) -> list[Question]:
    """List what is measured here."""
    less = [Reach(ELIOT, at_least=1)]
    modules = _contenders(setting, "len(sys.modules) - before")
    return [
        Question(
            "`import`", "ms", _contenders(setting, "(perf_counter() - started) * 1000"), less
        ),
        Question("modules loaded by `import`", "modules", modules, less, is_noisy=False),
    ]


def _contenders(setting: Setting, result: str) -> dict[str, partial[float]]:
    """Import each library in a fresh interpreter that knows nothing of this folder."""
    return {
        name: partial(
            printed_number,
            setting.python,
            "-I",
            "-c",
            _PROGRAM.format(module=module, result=result),
        )
        for name, module in ((OURS, "eliot_etw"), (ELIOT, "eliot"))
    }
