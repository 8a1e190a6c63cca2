"""What the clients of all engines share: what they are given, and their names in reports."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# An option of a URL that nobody is to see.
_SECRET: Final = re.compile(
    r"([?&][^=&]*(?:password|passwd|secret|token|authmechanismproperties)[^=&]*=)[^&]*",
    re.IGNORECASE,
)


class Item(NamedTuple):
    """A message to add.

    Attributes:
        line: Its JSON.
        sender: Who numbers it; empty if nobody does.
        number: Its number there. A sender's numbers grow from one new message to the next.
        name: What makes it the same when it comes again, if nobody numbers it.
    """

    line: bytes
    sender: str
    number: int
    name: str


def without_password(url: str) -> str:
    """Return a URL as it may be shown to anybody, also one that is wrong.

    >>> without_password("redis://user:a/b@host:6379/0?password=c")
    'redis://host:6379/0?password=...'
    """
    # Whoever forgets to escape a password has any character before the last @.
    before, at, shown = url.rpartition("@")
    scheme, mark, _ = before.partition("://")
    return _SECRET.sub(r"\1...", f"{scheme}{mark}{shown}" if at and mark else shown)


def wrong_url(engine: str, url: str, right: str, why: str = "") -> ValueError:
    """Make the exception that says that a URL is none of an engine.

    Args:
        engine: The engine.
        url: What was given.
        right: A URL that would do.
        why: What is wrong, if that is known, without a word of the URL.
    """
    msg = f"url must be one of {engine}, got {without_password(url)!r}"
    msg += f": {why}. Write {right}" if why else f". Write {right}"
    if "@" in url:
        msg += ", with %2F, %3F, %23 for each / ? # in a password"
    return ValueError(msg)
