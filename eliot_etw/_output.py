"""The program's destinations: `add_destinations`, `remove_destination`, `add_global_fields`."""

import os
from typing import IO, Any

from eliot_etw._logger import Logger
from eliot_etw.destinations.file import FileDestination
from eliot_etw.json import json_default
from eliot_etw.typing import Destination, JsonDefault


def add_destinations(*destinations: Destination) -> None:
    """Add destinations; the first to come get what was logged before (up to 1,000 messages).

    Args:
        *destinations: Callables of one message. They read it and never change it.

    Raises:
        TypeError: If one of them cannot be called.
    """
    Logger._destinations.add(*destinations)


def remove_destination(destination: Destination) -> None:
    """Remove a destination that was added before.

    Raises:
        ValueError: If it is not there.
    """
    Logger._destinations.remove(destination)


def add_global_fields(**fields: Any) -> None:
    """Add fields to every message from now on; a message's own field of the same name wins."""
    Logger._destinations.add_global_fields(**fields)


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
