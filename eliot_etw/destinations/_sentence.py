"""A message as a line for people, for places that show one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from eliot_etw import _names as names
from eliot_etw._json import value_text
from eliot_etw._levels import type_of
from eliot_etw._safe import safe_str
from eliot_etw.typing import JsonDefault, MessageDict

_MAX_SENTENCE: Final = 500
# What has been said already, or is of no use in a line.
_NOT_SAID: Final = names.PLACE_FIELDS | {
    names.MESSAGE_TYPE,
    names.ACTION_TYPE,
    names.ACTION_STATUS,
    names.EXCEPTION,
    names.REASON,
    names.TRACEBACK,
}


def title_of(message: MessageDict) -> str:
    """Return what all messages of one kind say first.

    >>> title_of({"action_type": "shop:order", "action_status": "failed", "number": 17})
    'shop:order failed'
    """
    kind = type_of(message)
    title = "message" if kind is None else safe_str(kind)
    if names.ACTION_STATUS in message:
        return f"{title} {safe_str(message[names.ACTION_STATUS])}"
    return title


def sentence_of(message: MessageDict, default: JsonDefault) -> str:
    """Say in a line for people what a message says.

    >>> sentence_of({"action_type": "shop:order", "action_status": "failed", "reason": "no tea",
    ...              "exception": "shop.SoldOut", "task_level": [1]}, repr)
    'shop:order failed: shop.SoldOut: no tea'
    >>> sentence_of({"message_type": "shop:paid", "amount": 3, "by": "card"}, repr)
    'shop:paid amount=3 by=card'
    """
    why = [safe_str(message[name]) for name in (names.EXCEPTION, names.REASON) if name in message]
    sentence = ": ".join([title_of(message), *why])
    pairs = (
        f"{safe_str(name)}={text_for_people(value, default)}"
        for name, value in list(message.items())
        if name not in _NOT_SAID
    )
    return _one_line(" ".join([sentence, *_up_to(_MAX_SENTENCE, pairs)]))


def _up_to(length: int, parts: Iterable[str]) -> Iterator[str]:
    """Give parts until they are so long together."""
    for part in parts:
        yield part
        length -= len(part)
        if length <= 0:
            return


def _one_line(text: str) -> str:
    """Cut a text to its length, and keep it from beginning a new line."""
    if len(text) > _MAX_SENTENCE:
        text = text[: _MAX_SENTENCE - 1] + "…"
    return text.replace("\n", "\\n")


def text_for_people(value: Any, default: JsonDefault) -> str:
    """Write a value: a text as it is, anything else as JSON."""
    # Not isinstance(), which asks the value for its class: that may raise.
    is_text = issubclass(type(value), str)
    return str.__str__(value) if is_text else value_text(value, default)
