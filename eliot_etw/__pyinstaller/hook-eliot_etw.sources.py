"""For PyInstaller: what reads compressed logs, if it is there."""

from eliot_etw.__pyinstaller import installed

hiddenimports = installed("zstandard")
