"""The program's destinations: what is added, removed, put into all messages, and counted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import IO, Any, final

from eliot_etw._logger import DESTINATIONS
from eliot_etw.destinations.file import FileDestination
from eliot_etw.json import json_default
from eliot_etw.typing import Destination, JsonDefault

add_destinations = DESTINATIONS.add
remove_destination = DESTINATIONS.remove
add_global_fields = DESTINATIONS.add_global_fields
logging_stats = DESTINATIONS.stats


def to_file(
    output_file: IO[Any] | str | os.PathLike[str],
    encoder: type[Any] | None = None,
    json_default: JsonDefault = json_default,
) -> None:
    """Add a `FileDestination`: one line of JSON per message.

    Args:
        output_file: A file that is open for writing text or bytes, or a path to append to.
        encoder: A `json.JSONEncoder` class, as older programs pass it.
        json_default: Converts values that JSON does not know.

    Raises:
        RuntimeError: If the file is not open for writing.
        OSError: If the path cannot be opened.
    """
    add_destinations(FileDestination(output_file, encoder, json_default))


@final
class Configuration:
    """What `configure` set up; leaving a ``with`` block, or `close`, ends it.

    Attributes:
        destinations: The destinations, each with its wrappers around it, in the order in which
            they were given.
    """

    def __init__(self, destinations: tuple[Destination, ...], undo: ExitStack) -> None:
        self.destinations = destinations
        self._undo = undo

    def close(self) -> None:
        """Take everything back: handlers, destinations, which are closed, and global fields.

        May be called twice.
        """
        self._undo.close()

    def __enter__(self) -> Configuration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def configure(settings: Mapping[str, Any] | str | os.PathLike[str]) -> Configuration:
    """Set up logging as settings say.

    Everything is checked before anything is made, and what was made is closed again if something
    fails: there is no set-up by halves.

    Args:
        settings: The settings, or the path of a TOML file that has them: the tables
            ``destinations``, ``fields`` and ``logging``.

    Returns:
        What was set up, which `Configuration.close` ends.

    Raises:
        InvalidSettings: If something is unknown, missing or of the wrong type, or what it asks for
            cannot be, with its place in the settings.
        MissingDependency: If the settings are in a file, and Python is older than 3.11 and the
            package tomli is not there.
        OSError: If the file cannot be read.
        TypeError: If the settings are neither a dict nor a path.
    """
    from eliot_etw._configure import set_up  # noqa: PLC0415 - only who has settings needs it

    return set_up(settings)
