"""Lets ``python -m eliot_etw.cli`` do what the command ``eliot-etw`` does."""

from eliot_etw.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
