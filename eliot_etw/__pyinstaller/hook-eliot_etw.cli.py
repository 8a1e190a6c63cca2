"""For PyInstaller: the verbs of ``eliot-etw``, and what they use if it is there."""

from pkgutil import iter_modules

from eliot_etw import cli
from eliot_etw.__pyinstaller import installed

_VERBS = [f"{cli.__name__}.{module.name}" for module in iter_modules(cli.__path__)]
_RICH = ["rich.box", "rich.console", "rich.table", "rich.text"]

hiddenimports = [*_VERBS, *installed("click", "simpleeval", *_RICH)]
