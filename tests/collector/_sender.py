"""A program that ships to a collector until its standard input ends, and says what became of it.

    python -m tests.collector._sender ENDPOINT SETTINGS

The settings are JSON: ``who`` logs, ``burst`` and ``pause_s`` between bursts, how many
``children`` log together in place of it, ``settings`` of the destination. It prints a list with
what each sender counted, and how many messages were ``logged``; all is acknowledged then, if that
is possible within ``patience_s``.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from threading import Event, Thread
from time import sleep

from eliot_etw import add_destinations, log_message
from eliot_etw.destinations import ZmqDestination


def log(ended, who, burst, pause_s):
    """Log until the end; return how many messages."""
    number = 0
    while not ended.is_set():
        for _ in range(burst):
            number += 1
            log_message("test:message", who=who, number=number)
        sleep(pause_s)
    return number


def end(destination, logged, patience_s):
    """Wait until all is acknowledged; return what was counted."""
    destination.flush(patience_s)
    return {"logged": logged, **destination.stats()}


def children(destination, how_many, patience_s):
    """Have children log all at once."""
    folder = Path(tempfile.mkdtemp())
    here, there = os.pipe()
    forked = []
    for child in range(how_many):
        forked.append(os.fork())
        if not forked[-1]:
            os.close(there)
            os.read(here, 1)  # until the parent has all
            for number in range(1, 101):
                log_message("test:message", who=f"child {child}", number=number)
            (folder / str(child)).write_text(json.dumps(end(destination, 100, patience_s)))
            sys.exit()
    os.close(there)
    assert [os.waitpid(child, 0)[1] for child in forked] == [0] * how_many
    return [json.loads(file.read_text()) for file in folder.iterdir()]


def main():
    """Do what the command line says."""
    endpoint, settings = sys.argv[1], json.loads(sys.argv[2])
    path = settings["settings"].get("server_key")
    if path is not None:
        settings["settings"]["server_key"] = Path(path)
    destination = ZmqDestination(endpoint, exit_timeout_s=5, **settings["settings"])
    add_destinations(destination)
    if settings["children"]:
        print(json.dumps(children(destination, settings["children"], settings["patience_s"])))
        return
    ended = Event()

    def watch():
        sys.stdin.read()
        ended.set()

    Thread(target=watch, daemon=True).start()
    logged = log(ended, settings["who"], settings["burst"], settings["pause_s"])
    print(json.dumps([end(destination, logged, settings["patience_s"])]))


if __name__ == "__main__":
    main()
