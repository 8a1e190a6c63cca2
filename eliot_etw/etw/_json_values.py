"""What becomes of the values of any event where there is only JSON: in messages and in dumps."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final
from uuid import UUID

from eliot_etw._json import json_float
from eliot_etw._safe import name_beside
from eliot_etw.etw._records import TICKS_PER_SECOND
from eliot_etw.etw._values import FileTime, SystemTime

_FIRST_MOMENT: Final = datetime(1601, 1, 1)  # in UTC, and written so below


def json_value(value: Any) -> Any:
    r"""Convert a value of a `DecodedEvent`, as its `as_dict` gives it.

    Numbers, booleans and text stay what they are; lone surrogates become visible, as in all our
    JSON. A `FileTime` becomes text of ISO 8601 with all its seven digits (``...Z``), or its number
    after the year 9999; a `SystemTime` the same without a time zone, for it does not say which;
    GUIDs and addresses their usual text; bytes hexadecimal digits; NaN and the infinities the
    texts ``NaN``, ``Infinity`` and ``-Infinity``.

    >>> json_value([FileTime(133_170_048_000_000_001), b"\x00\xff", float("nan")])
    ['2023-01-01T00:00:00.0000001Z', '00ff', 'NaN']

    Args:
        value: The value; a list or dict of them is converted throughout.
    """
    convert = _CONVERSIONS.get(type(value))
    return value if convert is None else convert(value)


def iso_time(ticks: int) -> str | None:
    """Write a time in ticks since 1601 as ISO 8601 in UTC; None outside the years 1 to 9999.

    >>> iso_time(133_170_048_000_000_001)
    '2023-01-01T00:00:00.0000001Z'
    """
    seconds, fraction = divmod(ticks, TICKS_PER_SECOND)
    try:
        moment = _FIRST_MOMENT + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return f"{moment.isoformat()}.{fraction:07}Z"


def _file_time(time: FileTime) -> str | int:
    return iso_time(time) or int(time)


def _system_time(time: SystemTime) -> str:
    year, month, _, day, *clock, millisecond = time
    hours, minutes, seconds = clock
    date = f"{year:04}-{month:02}-{day:02}"
    return f"{date}T{hours:02}:{minutes:02}:{seconds:02}.{millisecond:03}"


def _text(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def _list(values: list[Any]) -> list[Any]:
    return [json_value(value) for value in values]


def _dict(values: dict[str, Any]) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    for name, value in values.items():
        converted[name_beside(_text(name), converted)] = json_value(value)
    return converted


_CONVERSIONS: Final[dict[type, Any]] = {
    str: _text,
    float: json_float,
    bytes: bytes.hex,
    UUID: str,
    FileTime: _file_time,
    SystemTime: _system_time,
    IPv4Address: str,
    IPv6Address: str,
    list: _list,
    dict: _dict,
}
