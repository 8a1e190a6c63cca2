"""Draws tasks as trees for a person: one line for each action and message, and what they say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias, final

from eliot_etw._names import (
    ACTION_STATUS,
    ACTION_TYPE,
    EXCEPTION,
    MESSAGE_TYPE,
    OTEL_KIND,
    OTEL_PARENT_SPAN_ID,
    OTEL_RESOURCE,
    OTEL_SCOPE,
    OTEL_SCOPE_VERSION,
    OTEL_SPAN_ID,
    PLACE_FIELDS,
    REASON,
    TRACEBACK,
)
from eliot_etw._program import printable
from eliot_etw.typing import MessageDict
from eliot_etw.viewers._layout import STYLE, Layout
from eliot_etw.viewers._nodes import ACTION, GAP, MESSAGE, Node
from eliot_etw.viewers._screen import Screen
from eliot_etw.viewers._select import shown
from eliot_etw.viewers._text import Clock, one_line

# Shown in other ways than as fields.
_OF_ACTION: Final = PLACE_FIELDS | {ACTION_TYPE, ACTION_STATUS}
_OF_FAILURE: Final = _OF_ACTION | {EXCEPTION, REASON}
_OF_MESSAGE: Final = PLACE_FIELDS | {MESSAGE_TYPE}
_OF_TRACEBACK: Final = _OF_MESSAGE | {EXCEPTION, REASON, TRACEBACK}
# What nearly every action has that was a span. A person wants to know of it which service it is,
# and what kind of span if it is no usual one.
_OF_SPANS: Final = frozenset({
    OTEL_KIND, OTEL_PARENT_SPAN_ID, OTEL_RESOURCE, OTEL_SCOPE, OTEL_SCOPE_VERSION, OTEL_SPAN_ID,
})  # fmt: skip
_USUAL: Final = "internal"
_SERVICE: Final = "service.name"

# How many characters to show of a value where there is little room.
_BRIEF: Final = 60
# A cache of styled names is emptied when it holds so many: a log may make up a new one each time.
_MOST_NAMES: Final = 10_000

# Fields whose values are texts of several lines.
Blocks: TypeAlias = list[tuple[str, str]]

_is_uuid = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


@final
class TreeText:
    """Draws one task after another.

    Args:
        screen: For how wide a screen, in which styles and signs.
        clock: How to show times.
        slow_s: How many seconds make an action slow. Within a slow action, one that took at least
            half of its time is slow, too: it shows where the time went.
        limit: How many characters to show of a value; 0 for all, for all lines of a text, and for
            what OpenTelemetry keeps of each span.
    """

    def __init__(
        self, screen: Screen, clock: Clock, *, slow_s: float = 1.0, limit: int = 300
    ) -> None:
        look, signs = screen.palette, screen.signs
        self._look, self._signs = look, signs
        self._layout = Layout(screen, clock, slow_s=slow_s, limit=limit)
        self._limit = limit
        self._good = f"{look.good}{signs.good}{look.off} {look.strong}"
        self._bad = f"{look.bad}{signs.bad} "
        self._open = f"{look.warning}{signs.open}{look.off} {look.strong}"
        self._said = f"{signs.message} {look.message}"
        # Beginnings of fields by key, and of lines by mark and type: a log has few of them.
        self._names: dict[str, str] = {}
        self._heads: dict[tuple[str, str], str] = {}

    def draw(self, uuid: str, nodes: Iterable[Node]) -> Iterator[str]:
        """Draw what is to be shown of a task, a node at a time, each with its newline."""
        look = self._look
        for item in shown(nodes):
            node = item.node
            blocks: Blocks = []
            if node.kind == ACTION:
                pieces = self._action(node, blocks)
            elif node.kind == MESSAGE:
                pieces = self._message(node, blocks)
            else:
                pieces = [self._absence(node)]
            if item.is_context:
                pieces = [f"{look.faint}{STYLE.sub('', piece)}{look.off}" for piece in pieces]
            if item.depth == 0:
                yield from self._layout.heading(node)
                pieces.insert(1, f"{look.faint}{self.id(uuid)}{look.off}")
            yield self._layout.line(item, pieces)
            failure = self._failure(node) if node.has_failed else ""
            if failure:
                yield from self._layout.failure(item, failure)
            for key, text in blocks:
                # The failure above it is name enough for a traceback.
                name = "" if key == TRACEBACK and node.has_failed else self._name(key)
                yield from self._layout.block(item, name, text, whole=key == TRACEBACK)

    def id(self, uuid: str) -> str:
        """Name a task: the beginning of a UUID is enough to find it by."""
        return f"[{uuid[:8] if _is_uuid(uuid) else one_line(uuid, 36)}]"

    def plain_fields(self, start: MessageDict) -> str:
        """Write the fields that an action began with on one line, none of them at length."""
        return " ".join(
            f"{one_line(key, _BRIEF)}={one_line(value, _BRIEF)}"
            for key, value in start.items()
            if key not in _OF_ACTION and key not in _OF_SPANS
        )

    def _action(self, node: Node, blocks: Blocks) -> list[str]:
        """Give the pieces of an action's line."""
        start, end = node.start, node.end
        failed = node.has_failed
        pieces = [self._head(node, self._bad if failed else self._good if end else self._open)]
        if start:
            self._fields(start, _OF_ACTION, pieces, blocks)
        if end:
            results: list[str] = []
            self._fields(end, _OF_FAILURE if failed else _OF_ACTION, results, blocks)
            if results:
                look = self._look
                results[0] = f"{look.key}{self._signs.result}{look.off} {results[0]}"
                pieces += results
        if not (start and end):
            missing = (
                "(no start, no end)" if start is end else "(no end)" if start else "(no start)"
            )
            pieces.append(self._note(missing))
        return pieces

    def _message(self, node: Node, blocks: Blocks) -> list[str]:
        """Give the pieces of a message's line."""
        message = node.start or {}
        if node.has_failed:
            pieces = [self._head(node, self._bad)]
            self._fields(message, _OF_TRACEBACK, pieces, blocks)
            if TRACEBACK in message:
                blocks.append((TRACEBACK, str(message[TRACEBACK])))
        else:
            pieces = [self._head(node, self._said)]
            self._fields(message, _OF_MESSAGE, pieces, blocks)
        if node.is_rival:
            pieces.append(self._note("(same place as another message)"))
        return pieces

    def _absence(self, node: Node) -> str:
        """Say what is missing, or what comes too late."""
        sign = self._signs.gap
        if node.kind != GAP:
            return self._note(f"{sign} logged after the end:")
        if node.until == node.position:
            return self._note(f"{sign} missing message {node.position}")
        return self._note(f"{sign} missing messages {node.position}-{node.until}")

    def _fields(
        self,
        message: MessageDict,
        hidden: frozenset[str],
        pieces: list[str],
        blocks: Blocks,
    ) -> None:
        """Give the fields of a message as pieces, and those of several lines as blocks."""
        limit, names = self._limit, self._names
        for key, value in message.items():
            if key in hidden:
                continue
            if limit and key in _OF_SPANS:
                pieces += self._of_span(key, value)
                continue
            if type(value) is str and "\n" in value:
                blocks.append((key, value))
            else:
                pieces.append((names.get(key) or self._name(key)) + one_line(value, limit))

    def _of_span(self, key: str, value: object) -> list[str]:
        """Give of what a span has besides its attributes what a person wants to know."""
        if key == OTEL_RESOURCE and isinstance(value, dict) and _SERVICE in value:
            return [self._name(_SERVICE) + one_line(value[_SERVICE], self._limit)]
        if key == OTEL_KIND and value != _USUAL:
            return [self._name(key) + one_line(value, self._limit)]
        return []

    def _name(self, key: str) -> str:
        """Make the beginning of a field."""
        if len(self._names) > _MOST_NAMES:
            self._names.clear()
        name = f"{self._look.key}{one_line(key, self._limit)}={self._look.off}"
        self._names[key] = name
        return name

    def _head(self, node: Node, mark: str) -> str:
        """Make the beginning of a line: a mark, and the type."""
        kind = node.type
        if type(kind) is not str:
            unknown = "(unknown action)" if node.kind == ACTION else "(no type)"
            name = unknown if kind is None else one_line(kind, self._limit)
            return f"{mark}{name}{self._look.off}"
        head = self._heads.get((mark, kind))
        if head is None:
            if len(self._heads) > _MOST_NAMES:
                self._heads.clear()
            limit = self._limit or len(kind)
            name = printable(kind[:limit]) + (self._signs.more if len(kind) > limit else "")
            head = self._heads[mark, kind] = f"{mark}{name}{self._look.off}"
        return head

    def _note(self, text: str) -> str:
        return f"{self._look.warning}{text}{self._look.off}"

    def _failure(self, node: Node) -> str:
        """Say why an action failed, or of which exception a traceback is, if it is known."""
        message = (node.end if node.kind == ACTION else node.start) or {}
        exception, reason = message.get(EXCEPTION), message.get(REASON)
        said = [str(exception).removeprefix("builtins.")] if exception is not None else []
        said += [str(reason)] if reason not in (None, "") else []
        return ": ".join(said)
