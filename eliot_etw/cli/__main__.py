"""Lets ``python -m eliot_etw.cli`` do what the command ``eliot-etw`` does."""

import sys

from eliot_etw.cli import main

if __name__ == "__main__":
    # What it is called in messages.
    sys.argv[0] = "eliot-etw"
    raise SystemExit(main())
