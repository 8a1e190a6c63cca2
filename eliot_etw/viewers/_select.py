"""Which nodes of a tree are shown, and where they stand in what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from eliot_etw.viewers._nodes import ACTION, Node


class Shown(NamedTuple):
    """A node that is shown: how deep, whether a sibling follows, whether it is only context."""

    node: Node
    depth: int
    is_last: bool
    is_context: bool


def shown(nodes: Iterable[Node]) -> Iterator[Shown]:
    """Go through the nodes of a task, the root first, and give those that are to be shown.

    A selected node is shown with all that is within it. What leads to one, if it is shown at
    all, is context. A node whose parent is not shown begins a tree of its own, of depth 0.
    An action of somebody else's, of which there is nothing to say, is never shown.
    """
    # The actions that are shown around the current node: their depth in the task, and whether
    # everything within is shown.
    around: list[tuple[int, bool]] = []
    for node in nodes:
        if node.is_elsewhere:
            continue
        depth = node.depth
        while around and around[-1][0] >= depth:
            around.pop()
        whole = bool(around) and around[-1][1]
        if whole:
            is_last = node.is_last
        elif node.leads if around else node.shows:
            is_last = node.is_last_lead
            whole = node.is_match
        else:
            continue
        yield Shown(node, len(around), is_last, not whole)
        if node.kind == ACTION:
            around.append((depth, whole))
