"""What the clients of all engines share: what they are given, and their names in reports."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit


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
    """Return a URL as it may be shown to anybody."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)) if at else url
