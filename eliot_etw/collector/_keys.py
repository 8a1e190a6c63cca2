"""The keys that may talk to a collector: a folder of public keys, read again when it changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final, final

from eliot_etw import log_message
from eliot_etw._require import require
from eliot_etw.collector._addresses import is_address, is_local

ZAP: Final = "inproc://zeromq.zap.01"
"""Where libzmq asks whether a connection may be made."""

_LOOK_EVERY_S: Final = 0.5
_SUFFIX: Final = ".key"
# What a ZAP request and its answer begin with: https://rfc.zeromq.org/spec/27/.
_ZAP_VERSION: Final = b"1.0"
_ZAP_FRAMES: Final = 7
_KEY_BYTES: Final = 32


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys.

    Args:
        folder: Where to; it is made if it is not there.
        name: What the files are called, before ``.key`` and ``.key_secret``.

    Returns:
        The file with the public key, and the one with both, which only its owner may read.

    Raises:
        ValueError: If `name` cannot be that of a file.
        FileExistsError: If there are keys of that name.
    """
    if not name or name != Path(name).name or name.startswith("."):
        msg = f"The name of keys must be that of a file, got {name!r}. Write, say, web-1."
        raise ValueError(msg)
    auth: Any = require("zmq.auth", feature="Making keys", extra="collector")
    folder.mkdir(parents=True, exist_ok=True)
    public, secret = folder / f"{name}{_SUFFIX}", folder / f"{name}{_SUFFIX}_secret"
    for path in (public, secret):
        if path.exists():
            raise FileExistsError(f"{path} is there already. Choose another name, or remove it.")
    mask = os.umask(0o077)  # the secret is nobody else's from its first byte on
    try:
        auth.create_certificates(folder, name)
    finally:
        os.umask(mask)
    public.chmod(0o644)
    return public, secret


@final
class AllowedKeys:
    """The public keys in a folder: the files called ``NAME.key``.

    Args:
        folder: The folder.

    Raises:
        OSError: If it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._load: Any = require("zmq.auth", feature="Keys", extra="collector").load_certificate
        self._z85: Any = require("zmq.utils.z85", feature="Keys", extra="collector")
        self._seen: Mapping[str, tuple[int, int, int]] = {}
        self._names: dict[bytes, str] = {}
        self._look_at = 0.0
        self._seen = self._look()
        self._read()

    def refresh(self) -> bool:
        """Read the folder again, if it has changed; say whether it has."""
        if monotonic() < self._look_at:
            return False
        self._look_at = monotonic() + _LOOK_EVERY_S
        try:
            seen = self._look()
        except OSError:  # not even there: nobody is allowed
            seen = {}
        if seen == self._seen:
            return False
        self._seen = seen
        self._read()
        return True

    def _look(self) -> dict[str, tuple[int, int, int]]:
        """Say what is there, and when it was changed."""
        found = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with suppress(FileNotFoundError):
                        state = entry.stat()
                        found[entry.name] = (state.st_mtime_ns, state.st_size, state.st_ino)
        return found

    def _read(self) -> None:
        """Read all keys; say which files are none."""
        names: dict[bytes, str] = {}
        for name in sorted(self._seen):
            try:
                public, _ = self._load(self._folder / name)
                key = self._z85.decode(public)
            except Exception as error:  # noqa: BLE001 - also KeyError or struct.error for no key
                log_message("collector:bad_key", log_level="error", file=name, reason=repr(error))
                continue
            names[key] = name.removesuffix(_SUFFIX)
        self._names = names
        log_message("collector:keys", names=sorted(names.values()))

    def name_of(self, public: bytes) -> str | None:
        """Return the name of a public key of 32 bytes; None if it is not allowed."""
        return self._names.get(public)

    def text_of(self, public: bytes) -> str:
        """Write any public key as files have it; an empty text if it is none."""
        return self._z85.encode(public).decode() if len(public) == _KEY_BYTES else ""

    def name_of_user(self, user: str) -> str | None:
        """Return the name of who is a user by `zap_reply`; None if the key is allowed no more."""
        return self._names.get(bytes.fromhex(user))


def zap_reply(request: list[bytes], keys: AllowedKeys) -> list[bytes]:
    """Answer who asks whether a connection may be made; write down who may not.

    Args:
        request: What libzmq asks.
        keys: Who may.

    Returns:
        The answer: the key, as hexadecimal digits, is the user's id, for another key may have its
        name later; an error if the question is none.

    Source:
        https://rfc.zeromq.org/spec/27/, the ZeroMQ Authentication Protocol.
    """
    if len(request) != _ZAP_FRAMES or request[0] != _ZAP_VERSION:
        return [_ZAP_VERSION, b"", b"500", b"", b"", b""]
    mechanism, credentials = request[5], request[6]
    if mechanism != b"CURVE" or keys.name_of(credentials) is None:
        log_message(
            "collector:denied",
            log_level="warning",
            address=request[3].decode("ascii", "replace"),
            public_key=keys.text_of(credentials),
        )
        return [_ZAP_VERSION, request[1], b"400", b"this key is not allowed", b"", b""]
    return [_ZAP_VERSION, request[1], b"200", b"OK", credentials.hex().encode(), b""]


def own_keys(path: str) -> tuple[bytes, bytes]:
    """Read the collector's keys. Raises ValueError if there are none in the file."""
    auth: Any = require("zmq.auth", feature="Keys", extra="collector")
    public, secret = auth.load_certificate(Path(path).expanduser())
    if secret is None:
        msg = f"secret_key must be a file with a secret key, got {path!r}. Name the .key_secret."
        raise ValueError(msg)
    return public, secret


def check_listener(
    endpoint: str, keys: str | None, secret_key: str | None, allow_unencrypted: bool
) -> None:
    """Refuse to listen where anybody may say anything, or nobody can."""
    if not is_address(endpoint):
        msg = f"endpoint must look like tcp://host:port or ipc://path, got {endpoint!r}."
        raise ValueError(msg)
    if (keys is None) != (secret_key is None):
        msg = "keys and secret_key must be given together. Make them with: eliot-etw keys new NAME"
        raise ValueError(msg)
    if keys is None and not allow_unencrypted and not is_local(endpoint):
        msg = (
            f"endpoint must be on this machine where there are no keys, got {endpoint!r}. Give "
            "keys and secret_key (eliot-etw keys new NAME), or set allow_unencrypted."
        )
        raise ValueError(msg)
