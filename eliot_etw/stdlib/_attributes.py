"""What a record has beside what every record has: what the program gave it as `extra`."""

from __future__ import annotations

from typing import Any, Final

from eliot_etw import _names as names
from eliot_etw._bridge import OWN_ATTRIBUTES

is_without_extra: Final = OWN_ATTRIBUTES.issuperset
"""Says of a record's attributes whether there is nothing from `extra`."""


def extra_of(attributes: dict[str, Any], task_uuid: str) -> dict[str, Any]:
    """Return what a record has from `extra`.

    Args:
        attributes: The record's attributes.
        task_uuid: The task that it is logged in, empty if there is none. That a filter or a
            factory of ours wrote the same to the record says nothing more.
    """
    extra = {name: value for name, value in attributes.items() if name not in OWN_ATTRIBUTES}
    given = extra.get(names.TASK_UUID)
    if type(given) is str and given in ("", task_uuid):
        del extra[names.TASK_UUID]
        extra.pop(names.TASK_LEVEL, None)
    return extra
