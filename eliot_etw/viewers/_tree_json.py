"""Writes tasks for programs: one JSON object for each tree, on one line.

A tree is ``{"task": <task_uuid>, "tree": <node>}``, and a node one of:

* ``{"kind": "action", "type", "status", "duration", "start", "end", "children": [<node>...]}``:
  ``status`` is ``succeeded``, ``failed``, ``started`` (there is no end) or null (there is neither
  start nor end); ``duration`` is in seconds or null; ``start`` and ``end`` are the messages as
  they were logged, or null.
* ``{"kind": "message", "type", "message"}``: ``message`` as it was logged. ``"rival": true`` is
  added if another message has the same place.
* ``{"kind": "missing", "first", "last"}``: positions from which nothing was read.
* ``{"kind": "after_end"}``: what follows was logged after the end of the action around it.

``"context": true`` is added to what was not selected itself. Every message is there exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from eliot_etw.viewers._nodes import ACTION, GAP, MESSAGE, Node
from eliot_etw.viewers._select import Shown, shown
from eliot_etw.viewers._text import safe_json


def tree_json(uuid: str, nodes: Iterable[Node]) -> Iterator[str]:
    """Write what is to be shown of a task, piece by piece; the module says in which shape."""
    # For each node on the way to the current one, what ends it.
    ends: list[str] = []
    has_sibling = False
    for item in shown(nodes):
        while len(ends) > item.depth:
            yield ends.pop()
            has_sibling = True
        if item.depth == 0:
            yield f'{{"task":{safe_json(uuid)},"tree":'
        elif has_sibling:
            yield ","
        text = safe_json(_described(item))
        if item.node.kind == ACTION:
            yield f'{text[:-1]},"children":['
            ends.append("]}")
        else:
            yield text
            ends.append("")
        if item.depth == 0:
            ends[0] += "}\n"
        has_sibling = False
    if ends:
        yield "".join(reversed(ends))


def _described(item: Shown) -> dict[str, Any]:
    """Say what a node is, without its children."""
    node = item.node
    described: dict[str, Any]
    if node.kind == ACTION:
        described = {
            "kind": "action",
            "type": node.type,
            "status": node.status,
            "duration": node.duration,
            "start": node.start,
            "end": node.end,
        }
    elif node.kind == MESSAGE:
        described = {"kind": "message", "type": node.type, "message": node.start}
    elif node.kind == GAP:
        described = {"kind": "missing", "first": node.position, "last": node.until}
    else:
        described = {"kind": "after_end"}
    if node.is_rival:
        described["rival"] = True
    if item.is_context:
        described["context"] = True
    return described
