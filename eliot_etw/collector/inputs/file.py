"""Messages from a file that a program appends lines of JSON to."""

from __future__ import annotations

import os
import secrets
from collections import deque
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import BinaryIO, Final, NamedTuple, final

import msgspec

from eliot_etw import write_traceback
from eliot_etw.collector.inputs import Batch, Deliver, Origin

_CHUNK_BYTES: Final = 1 << 18
# A longer line is no message: it is left out, and counted.
_MAX_LINE_BYTES: Final = 16 << 20
# So much of a file may be delivered and not settled.
_WINDOW_BYTES: Final = 8 << 20
_POLL_S: Final = 0.1
_SAVE_EVERY_S: Final = 0.5
# By its beginning a file is told from another that has got its number in the file system.
_COMPARED_BYTES: Final = 256


class _Position(NamedTuple):
    """How far a file was read.

    Attributes:
        identity: Other random text for each file that was ever read.
        inode: The number of the file in the file system.
        head: How it begins, as hexadecimal text.
        offset: So many bytes of it are in every sink.
    """

    identity: str
    inode: int
    head: str
    offset: int


@final
class FileInput:
    """Follows a file of JSON lines, as ``tail -F`` does, and goes on after a restart where it was.

    The file may not exist yet, be renamed and made anew, or be cut to nothing. How far it is in
    every sink is kept in the input's folder; what is read again after a restart has the same
    numbers. A file that was renamed while nobody looked is found again in its folder.

    Args:
        path: The file; not a compressed one.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser().absolute()
        self._stopping = Event()
        self._file: BinaryIO | None = None
        self._position = _Position("", 0, "", 0)
        # What was read and not delivered yet; where it ends in the file.
        self._rest = b""
        self._read_to = 0
        self._is_overlong = False
        # What was delivered, oldest first: where it ends, and whether it is settled.
        self._under_way: deque[tuple[int, Event]] = deque()
        self._save_at = 0.0
        self._saved = self._position
        self._counts = dict.fromkeys(("messages", "held_back", "overlong", "failures"), 0)
        self._thread: Thread | None = None

    # ---- its life ------------------------------------------------------------------------------

    def start(self, deliver: Deliver, folder: Path) -> None:
        """Begin to read. Raises OSError if the input's folder cannot be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._deliver = deliver
        self._saved_in = folder / "position.json"
        self._find_again()
        self._thread = Thread(target=self._run, name="eliot_etw file input", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Read no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Write down what is settled by now, and close the file."""
        self.stop(timeout_s)
        if self._thread is not None and not self._thread.is_alive():
            self._save(at_once=True)
            self._close_file()

    def stats(self) -> dict[str, int]:
        """Count what happened."""
        return self._counts.copy()

    def _run(self) -> None:
        """Read, until told to stop."""
        while not self._stopping.is_set():
            try:
                if self._step():
                    continue
            except OSError:  # it cannot be read now; it may be so later
                self._counts["failures"] += 1
                self._close_file()
            except Exception:  # noqa: BLE001 - whatever it is, the other inputs are not to suffer
                self._counts["failures"] += 1
                write_traceback()
            self._stopping.wait(_POLL_S)

    def _step(self) -> bool:
        """Read some more; say whether there may be more at once."""
        self._save()
        if self._read_to - self._position.offset > _WINDOW_BYTES:
            return False
        if self._file is None and not self._open(self._path):
            return False
        if self._read_chunk():
            return True
        if not self._is_replaced() or self._under_way:
            return False
        if self._read_chunk():  # written between the last read and the renaming
            return True
        self._deliver_lines([self._rest] if self._rest else [], self._read_to)
        if not self._under_way:
            self._close_file()
        return True

    # ---- which file ----------------------------------------------------------------------------

    def _open(self, path: Path) -> bool:
        """Open a file, and go on in it if it is the one that was read before."""
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - kept open
        except FileNotFoundError:
            return False
        last = self._position
        inode = os.fstat(file.fileno()).st_ino
        size = os.fstat(file.fileno()).st_size
        head = file.read(_COMPARED_BYTES)
        known = bytes.fromhex(last.head)
        if inode != last.inode or size < last.offset or not head.startswith(known):
            last = _Position(secrets.token_hex(8), inode, "", 0)
        self._position = last._replace(head=head.hex())
        # Before anything of it is delivered: else a restart would take it for another file.
        self._save(at_once=True)
        self._file = file
        self._rest, self._read_to, self._is_overlong = b"", last.offset, False
        return True

    def _find_again(self) -> None:
        """Open the file that was read last, whatever it is called now."""
        with suppress(OSError, msgspec.MsgspecError):
            self._position = msgspec.json.decode(self._saved_in.read_bytes(), type=_Position)
            with os.scandir(self._path.parent) as entries:
                paths = [each.path for each in entries if each.inode() == self._position.inode]
            for path in paths:
                before = self._position
                if self._open(Path(path)) and self._position.identity == before.identity:
                    return
                self._close_file()
                self._position = before

    def _is_replaced(self) -> bool:
        """Say whether the path leads to another file by now, or the file was cut to nothing."""
        assert self._file is not None  # noqa: S101 - it was opened
        state = os.fstat(self._file.fileno())
        if state.st_size < self._read_to:
            return True
        try:
            return not os.path.samestat(state, os.stat(self._path))
        except FileNotFoundError:
            return False

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    # ---- what is in it -------------------------------------------------------------------------

    def _read_chunk(self) -> bool:
        """Read a piece, and deliver the lines that end in it; say whether there was one."""
        assert self._file is not None  # noqa: S101 - it was opened
        self._file.seek(self._read_to)
        chunk = self._file.read(_CHUNK_BYTES)
        if not chunk:
            return False
        if not self._position.head and self._read_to == 0:
            self._position = self._position._replace(head=chunk[:_COMPARED_BYTES].hex())
        begin = self._read_to - len(self._rest)
        self._read_to += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if lines and self._is_overlong:
            begin += len(lines.pop(0)) + 1
            self._is_overlong = False
        if len(self._rest) > _MAX_LINE_BYTES or (self._is_overlong and not lines):
            self._counts["overlong"] += not self._is_overlong
            self._rest, self._is_overlong = b"", True
        self._deliver_lines(lines, begin)
        return True

    def _deliver_lines(self, lines: list[bytes], begin: int) -> None:
        """Deliver lines, as soon as they are taken."""
        ends = list(accumulate((len(line) + 1 for line in lines), initial=begin))[1:]
        pairs = [(line, end) for line, end in zip(lines, ends, strict=True) if line.strip()]
        if not pairs:
            return
        numbers = [end for _, end in pairs]
        batch = Batch([line for line, _ in pairs], [Origin(self._sender(), numbers)])
        settled = Event()
        while not self._deliver(batch, settled.set):
            self._counts["held_back"] += 1
            if self._stopping.wait(_POLL_S):
                return
        self._counts["messages"] += len(batch)
        self._under_way.append((ends[-1], settled))

    def _sender(self) -> str:
        return f"file:{self._position.identity}"

    def _save(self, *, at_once: bool = False) -> None:
        """Write down how far everything is settled, now and then."""
        while self._under_way and self._under_way[0][1].is_set():
            end, _ = self._under_way.popleft()
            self._position = self._position._replace(offset=end)
        if self._position == self._saved or (not at_once and monotonic() < self._save_at):
            return
        self._save_at = monotonic() + _SAVE_EVERY_S
        new = self._saved_in.with_suffix(".new")
        with suppress(OSError):  # then more is read again after a restart
            new.write_bytes(msgspec.json.encode(self._position))
            os.replace(new, self._saved_in)
            self._saved = self._position
