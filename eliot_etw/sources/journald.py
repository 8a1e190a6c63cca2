"""Messages read back from the journal of systemd, by way of `journalctl`."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any, Final, final

from eliot_etw._json import decode_line
from eliot_etw._names import JOURNAL
from eliot_etw._written import place_of
from eliot_etw.typing import MessageDict

_KEYS: Final = ("unit", "identifier", "since", "until", "namespace", "directory")
# In this order: where there is the first, the other is for people.
_MESSAGE_FIELDS: Final = (b"ELIOT_MESSAGE", b"MESSAGE")
_COMMAND: Final = (
    "journalctl",
    "--output=export",
    f"--output-fields={b','.join(_MESSAGE_FIELDS).decode()}",
    "--no-pager",
)
_CHUNK_BYTES: Final = 1 << 18
_LENGTH_BYTES: Final = 8
# Begins what is no field but for people: that there are no entries.
_REMARK: Final = b"-- "


@final
class JournalSource:
    """The messages in the journal of systemd, in the journal's order.

    These are what `JournaldDestination` wrote, and also lines of JSON that a program of a unit
    wrote to its standard output. Whatever else is in the journal is left out and counted.

    Each iteration reads the journal anew. It raises `OSError` if ``journalctl`` is not there, or
    cannot do it.

    Args:
        unit: Only what this unit of systemd logged, such as ``shop.service``.
        identifier: Only what has this ``SYSLOG_IDENTIFIER``, mostly the name of the program.
        since: Only from this time on, written as ``journalctl`` takes it: ``2026-05-01 12:00``,
            ``yesterday``, ``-1h``.
        until: Only until this time.
        namespace: The journal's namespace, if it is not that of the system.
        directory: A folder of journal files to read, instead of the machine's own.

    Attributes:
        name: What to call it in reports, which is also what `named` takes.
        skipped: How many entries the last iteration left out so far.
        hint: What ``journalctl`` had to say, such as that the user may not see everything.
    """

    def __init__(
        self,
        *,
        unit: str | None = None,
        identifier: str | None = None,
        since: str | None = None,
        until: str | None = None,
        namespace: str | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        values = (unit, identifier, since, until, namespace, directory)
        pairs = zip(_KEYS, values, strict=True)
        chosen = [f"{key}={os.fspath(value)}" for key, value in pairs if value is not None]
        self._options = [f"--{option}" for option in chosen]
        self.name = JOURNAL + ",".join(chosen)
        self.skipped = 0
        self.hint = ""

    @classmethod
    def named(cls, name: str) -> JournalSource:
        """Make the source that a command line names.

        >>> JournalSource.named("journal:unit=shop.service,since=-1h").name
        'journal:unit=shop.service,since=-1h'

        Raises:
            ValueError: If it names none.
        """
        chosen: dict[str, str] = {}
        for option in filter(None, name.removeprefix(JOURNAL).split(",")):
            key, _, value = option.partition("=")
            if key not in _KEYS or not value:
                msg = (
                    f"{JOURNAL} must be followed by nothing, or by {', '.join(_KEYS)}, "
                    f"got {option!r}. Write {JOURNAL}unit=shop.service,since=-1h"
                )
                raise ValueError(msg)
            chosen[key] = value
        return cls(**chosen)

    def __iter__(self) -> Iterator[MessageDict]:
        self.skipped, self.hint = 0, ""
        entries = _Entries()
        journalctl = _Journalctl(self._options)
        try:
            while chunk := journalctl.read():
                for entry in entries.of(chunk):
                    message = _message_of(entry)
                    if message is None:
                        self.skipped += 1
                    else:
                        yield message
            self.hint = journalctl.finish()
        finally:
            journalctl.close()

    def follow(self) -> FollowedJournal:
        """Return what reads the same journal as it grows."""
        return FollowedJournal(self.name, self._options)


@final
class FollowedJournal:
    """The messages of a journal that programs write to, as `JournalSource.follow` makes it.

    Attributes:
        name: What to call the journal in reports.
    """

    def __init__(self, name: str, options: list[str]) -> None:
        self.name = name
        self._options = [*options, "--follow", "--no-tail"]
        self._entries = _Entries()
        self._journalctl: _Journalctl | None = None

    def poll(self) -> Iterator[MessageDict]:
        """Give what is there and was not given yet; never waits.

        Raises:
            OSError: If ``journalctl`` is not there, or has ended.
        """
        if self._journalctl is None:
            self._journalctl = _Journalctl(self._options)
            self._journalctl.never_wait()
        while chunk := self._journalctl.read():
            yield from filter(None, map(_message_of, self._entries.of(chunk)))
        if chunk is not None:
            said = self._journalctl.finish()
            raise OSError(errno.EPIPE, f"journalctl has ended {said}".rstrip())

    def close(self) -> None:
        """Stop following. A later `poll` begins anew."""
        if self._journalctl is not None:
            self._journalctl.close()
            self._journalctl = None
            self._entries = _Entries()


@final
class _Journalctl:
    """The program ``journalctl``, running."""

    def __init__(self, options: list[str]) -> None:
        """Start it. Raises OSError if it is not there."""
        # Not a pipe, which would have to be read at the same time as the other.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - close() does it
        try:
            self._process = subprocess.Popen(  # noqa: S603 - no shell takes it apart
                [*_COMMAND, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,
            )
        except FileNotFoundError as error:
            self._said.close()
            msg = "reading a journal needs journalctl, which comes with systemd, on Linux"
            raise FileNotFoundError(errno.ENOENT, msg) from error
        self._output: Any = self._process.stdout

    def never_wait(self) -> None:
        """Let `read` return None where it would wait."""
        os.set_blocking(self._output.fileno(), False)  # type: ignore[attr-defined,unused-ignore] # not on Windows

    def read(self) -> bytes | None:
        """Read what there is; nothing at the end."""
        chunk: bytes | None = self._output.read(_CHUNK_BYTES)
        return chunk

    def finish(self) -> str:
        """Wait for its end, and return what it had to say. Raises OSError if it failed."""
        status = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip()
        if status:
            raise OSError(errno.EIO, said or f"journalctl ended with status {status}")
        return said

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._output.close()
        self._said.close()


@final
class _Entries:
    """Takes apart what ``journalctl --output=export`` writes, as it comes.

    Source:
        https://systemd.io/JOURNAL_EXPORT_FORMATS/: a line for each field, and a blank one after
        each entry; a value that is no printable text has its length before it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._entry: dict[bytes, bytes] = {}
        # No line ends before: a long one is not searched anew with each chunk.
        self._searched = 0

    def of(self, chunk: bytes) -> Iterator[dict[bytes, bytes]]:
        """Give the entries that end in this chunk."""
        self._buffer += chunk
        begin = 0
        while (end := self._buffer.find(b"\n", max(begin, self._searched))) >= 0:
            line = bytes(self._buffer[begin:end])
            after = end + 1
            name, equals, value = line.partition(b"=")
            if not line:
                yield self._entry
                self._entry = {}
            elif equals:
                self._entry[name] = value
            elif not line.startswith(_REMARK):
                first = after + _LENGTH_BYTES
                after = first + int.from_bytes(self._buffer[after:first], "little") + 1
                if len(self._buffer) < after:
                    break
                self._entry[name] = bytes(self._buffer[first : after - 1])
            begin = after
        else:
            self._searched = len(self._buffer)
        del self._buffer[:begin]
        self._searched = max(0, self._searched - begin)


def _message_of(entry: dict[bytes, bytes]) -> MessageDict | None:
    """Return the message in an entry; None if there is none."""
    for name in _MESSAGE_FIELDS:
        text = entry.get(name, b"")
        if text.startswith(b"{"):
            try:
                message = decode_line(text)
            except (ValueError, RecursionError):
                continue
            if type(message) is dict and place_of(message):
                return message
    return None
