"""Files of Windows that the C library cannot open so: for appending only, or for one alone."""

from __future__ import annotations

import errno
import os
from typing import Final

_OPEN_ALWAYS: Final = 4
_OPEN_EXISTING: Final = 3
_GENERIC_READ: Final = 0x80000000
_APPEND_DATA: Final = 0x4
_SYNCHRONIZE: Final = 0x100000
_SHARE_READ: Final = 0x1
_SHARE_WRITE: Final = 0x2
_SHARE_DELETE: Final = 0x4
_ATTRIBUTE_NORMAL: Final = 0x80
_SHARING_VIOLATION: Final = 32


def open_to_append(path: str) -> int:
    """Open a file for appending only: O_APPEND of the C library is a seek and then a write.

    Raises:
        OSError: If it can be neither opened nor made.

    Source:
        CreateFileW: a handle with FILE_APPEND_DATA but without FILE_WRITE_DATA appends atomically.
    """
    share = _SHARE_READ | _SHARE_WRITE | _SHARE_DELETE
    return _open(path, _APPEND_DATA | _SYNCHRONIZE, share, _OPEN_ALWAYS, os.O_APPEND)


def open_alone(path: str) -> int:
    """Open a file to read as only one can: whoever opened it before let nobody in, or we fail.

    It may be removed meanwhile.

    Raises:
        BlockingIOError: If somebody has it open.
        OSError: If it cannot be opened.
    """
    return _open(path, _GENERIC_READ, _SHARE_DELETE, _OPEN_EXISTING, os.O_RDONLY)


def _open(path: str, access: int, share: int, disposition: int, flags: int) -> int:
    import _winapi  # noqa: PLC0415 - there is none elsewhere
    import msvcrt  # noqa: PLC0415 - there is none elsewhere

    try:
        handle = _winapi.CreateFile(  # type: ignore[attr-defined,unused-ignore] # Windows only
            path, access, share, 0, disposition, _ATTRIBUTE_NORMAL, 0
        )
    except OSError as error:
        if getattr(error, "winerror", 0) == _SHARING_VIOLATION:
            raise BlockingIOError(errno.EAGAIN, "in use", path) from None
        error.filename = path
        raise
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
    fd: int = msvcrt.open_osfhandle(handle, flags)  # type: ignore[attr-defined,unused-ignore] # Windows only
    return fd
