"""The program's destinations: what is added, removed, put into all messages, and counted."""

import os
from typing import IO, Any

from eliot_etw._logger import DESTINATIONS
from eliot_etw.destinations.file import FileDestination
from eliot_etw.json import json_default
from eliot_etw.typing import JsonDefault

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
