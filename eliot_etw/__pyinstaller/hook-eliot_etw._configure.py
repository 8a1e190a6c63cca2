"""For PyInstaller: what reads settings from a TOML file."""

from eliot_etw.__pyinstaller import installed

hiddenimports = installed("tomllib", "tomli")
