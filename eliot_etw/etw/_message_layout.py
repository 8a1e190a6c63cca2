"""How a message lies in an event: what the way there and the way back must both know."""

from typing import Final

from eliot_etw import _names as names

ACTION: Final = "eliot:action"
"""The place of an action, ``<task_uuid>@/2/1``: the same in its start and its end."""
REST: Final = "eliot:rest"
"""JSON with the fields that cannot be fields of an event."""
TRUNCATED: Final = "eliot:truncated"
"""JSON that tells which values were cut, and how many bytes they had."""

PLACE: Final = (names.TASK_UUID, names.TASK_LEVEL, names.TIMESTAMP)
"""The first fields of every event, in this order."""
TYPES: Final = (names.ACTION_TYPE, names.MESSAGE_TYPE, names.ACTION_STATUS)
"""What says of which kind a message is: fields of their own as long as they are text."""

FALLBACK_NAMES: Final = ("eliot:message", "eliot:action", "eliot:action")
"""By opcode, what an event is called that cannot have the name of its type."""

ABSENT_TAG: Final = 1
"""Tags one of the first fields that says nothing: the message has it not, or not of its type."""

ZONE_TAG: Final = 1440
"""Added to the minutes that a time is ahead of UTC, these are the tags of its field; UTC has 0."""
