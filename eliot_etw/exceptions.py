"""Every exception that the library raises.

They form a tree::

    EliotError
    ├── InvalidTaskID (ValueError)
    ├── InvalidTraceParent (ValueError)
    ├── MissingDependency (ImportError)
    ├── InvalidEvent (ValueError)
    ├── TooManyCalls (RuntimeError)
    ├── AlreadyFinished (RuntimeError)
    ├── ValidationError
    ├── UnflushedTracebacks
    ├── InvalidSettings (ValueError)
    ├── ProtocolError (ValueError)
    ├── InvalidTrace (ValueError)
    ├── MessagesRefused
    ├── SinkUnavailable
    └── InvalidTree (ValueError)
        ├── WrongTask
        ├── WrongTaskLevel
        ├── WrongActionType
        ├── InvalidStatus
        ├── DuplicateChild
        └── InvalidStartMessage

They are raised while something is set up, tested or read back, and by the collector's sinks.
A call that logs raises none of them.
"""

from collections.abc import Mapping


class EliotError(Exception):
    """The root of the library's own exceptions."""


class InvalidTaskID(EliotError, ValueError):
    """A serialized task id is not of the form ``<task_uuid>@/<n>/<n>``."""


class InvalidTraceParent(EliotError, ValueError):
    """A text is no header ``traceparent`` of W3C's Trace Context."""


class MissingDependency(EliotError, ImportError):
    """A feature needs a package that is not installed."""


class InvalidEvent(EliotError, ValueError):
    """An ETW event is beyond what the format can hold, or is damaged."""


class TooManyCalls(EliotError, RuntimeError):
    """What `preserve_context` returned was called a second time.

    Its place in the tree can be taken only once: call `preserve_context` again for each callable.
    """


class AlreadyFinished(EliotError, RuntimeError):
    """A callback was added to a `DeferredContext` after the end of its action."""


class ValidationError(EliotError):
    """A field, or a whole message, is not what its type says.

    Validators may raise it with the value before the text, as Eliot's do; it reads as the text.
    """

    def __str__(self) -> str:
        last = self.args[-1] if self.args else None
        return last if isinstance(last, str) else super().__str__()


class UnflushedTracebacks(EliotError):
    """A test logged tracebacks that it did not flush with `MemoryLogger.flush_tracebacks`."""


class InvalidSettings(EliotError, ValueError):
    """What `configure` was given is not right, or cannot be; the text says where in it."""


class ProtocolError(EliotError, ValueError):
    """What came over the network is none of the messages of senders and collectors.

    Attributes:
        code: Why, for programs: ``"version"`` if it is of another version, else ``"garbage"``.
    """

    def __init__(self, text: str, *, code: str = "garbage") -> None:
        super().__init__(text)
        self.code = code


class InvalidTrace(EliotError, ValueError):
    """A file is not a trace of Event Tracing for Windows (``.etl``)."""


class SinkUnavailable(EliotError):
    """A sink of the collector cannot store anything now; what it was given must come again."""


class MessagesRefused(EliotError):
    """A sink of the collector will never store some of the messages that it was given.

    Attributes:
        refused: For each of them its index in the batch, and why. All others are stored.
    """

    def __init__(self, refused: Mapping[int, str]) -> None:
        self.refused = refused
        number, why = next(iter(refused.items()))
        super().__init__(f"{len(refused):,} messages were refused; number {number}: {why}")


class InvalidTree(EliotError, ValueError):
    """Messages do not fit together as one action."""


class WrongTask(InvalidTree):
    """A message belongs to another task than the action it was given to."""


class WrongTaskLevel(InvalidTree):
    """A message is not a direct child of the action it was given to."""


class WrongActionType(InvalidTree):
    """The end of an action has another type than its start."""


class InvalidStatus(InvalidTree):
    """The end of an action says neither that it succeeded nor that it failed."""


class DuplicateChild(InvalidTree):
    """Two different children claim one place."""


class InvalidStartMessage(InvalidTree):
    """The start of an action has another status than ``started``, or is not its first message."""
