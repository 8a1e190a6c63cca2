"""Messages read back from files of JSON lines: plain, compressed, or still growing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, final

from eliot_etw._json import decode_line
from eliot_etw._names import TASK_LEVEL, TASK_UUID
from eliot_etw._written import place_of
from eliot_etw.sources._compressed import MAGIC_BYTES, refuse_compressed
from eliot_etw.sources._lines import Lines, OnBadLine, chunks, name_of, whole, why_no_json
from eliot_etw.typing import MessageDict

# By so much at the end of what was read a file is known again: it holds a time and a unique name.
_COMPARED_BYTES = 256


@final
class FileSource:
    """The messages of a file with one JSON object a line, as `FileDestination` writes it.

    Files compressed with gzip, xz or Zstandard are recognised by their content. Whatever else is
    in the file, every line that is a message is given. The others are reported and skipped; blank
    ones are just skipped.

    Args:
        file: A path, or a file opened for bytes. A path is opened anew by each iteration, which
            raises `OSError` if it cannot be read, or (at its end) if compressed data is damaged.
        on_bad_line: Called for each line that is no message.
        name: What to call the file in reports, if not by its path.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        on_bad_line: OnBadLine | None = None,
        name: str | None = None,
    ) -> None:
        self._file = file
        self._on_bad_line = on_bad_line
        self.name = name or name_of(file)

    def __iter__(self) -> Iterator[MessageDict]:
        return whole(_Messages(self.name, self._on_bad_line), self._file)

    def again(self) -> Iterable[MessageDict]:
        """Give the messages beforehand, and report nothing; none if they can be had but once."""
        if isinstance(self._file, (str, os.PathLike)) and os.path.isfile(self._file):
            return FileSource(self._file)
        return ()


@final
class FollowedFile:
    """The messages of a file that a program is writing to.

    The file may not exist yet, be renamed and made anew, or be cut to nothing, as logrotate does:
    like ``tail -F``, this goes on with the file of that name, after what was left in the old one.

    Args:
        path: The file; not a compressed one.
        on_bad_line: Called for each line that is no message.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, on_bad_line: OnBadLine | None = None
    ) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._last_read = b""
        self.name = name_of(path)
        self._messages = _Messages(self.name, on_bad_line)

    def poll(self) -> Iterator[MessageDict]:
        """Give what has been written since the last call; never waits.

        A line that is not finished yet is given by the call that finds its end.

        Raises:
            OSError: If the file cannot be read, or is compressed.
        """
        if self._was_rewritten():
            yield from self._messages.rest()
            self.close()
        yield from self._read()
        if self._was_replaced():
            # Written between the last read and the renaming.
            yield from self._read()
            yield from self._messages.rest()
            self.close()
            yield from self._read()

    def close(self) -> None:
        """Close the file. A later `poll` opens it again, from its start."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._last_read = b""
            self._messages.number = 0

    def _read(self) -> Iterator[MessageDict]:
        """Give the complete lines that are there."""
        if self._file is None:
            try:
                self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 - kept open
            except FileNotFoundError:
                return
            refuse_compressed(self._file.read(MAGIC_BYTES), self.name)
            self._file.seek(0)
        for chunk in chunks(self._file.read):
            self._last_read = (self._last_read + chunk)[-_COMPARED_BYTES:]
            yield from self._messages.finished([chunk])

    def _was_rewritten(self) -> bool:
        """Say whether the file was cut to nothing and written anew.

        It may have more in it than before by now, so its size is not enough to tell.
        """
        if self._file is None:
            return False
        end = self._file.tell()
        self._file.seek(end - len(self._last_read))
        is_same = self._file.read(len(self._last_read)) == self._last_read
        self._file.seek(end)
        return not is_same

    def _was_replaced(self) -> bool:
        """Say whether the path names another file now."""
        if self._file is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False


@final
class _Messages(Lines[MessageDict]):
    """The lines that are messages."""

    def _decoded(self, lines: Iterable[bytes], *, ended: bool = True) -> Iterator[MessageDict]:
        """Give the lines that are messages; report the others."""
        decode, place = decode_line, place_of
        for line in lines:
            self.number += 1
            if not line:
                continue
            try:
                message = decode(line)
                if type(message) is dict and place(message):
                    yield message
                    continue
                why = _why_no_message(message)
            except (ValueError, RecursionError) as error:
                if not line.strip():
                    continue
                why = why_no_json(line, error, ended=ended)
            self._report(why)


def _why_no_message(value: Any) -> str:
    """Say why a JSON value is no message."""
    if not isinstance(value, dict):
        return f"not a message: {_KINDS.get(type(value), 'a number')}, not an object"
    for field in (TASK_UUID, TASK_LEVEL):
        if field not in value:
            return f"not a message: no {field}"
    if not isinstance(value[TASK_UUID], str):
        return f"not a message: {TASK_UUID} is not text"
    return f"not a message: {TASK_LEVEL} is not a list of whole numbers above 0"


_KINDS = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
