"""Which nodes of a tree are shown, and where they stand in what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from eliot_etw._trace_context import FIRST_DRAWN
from eliot_etw.viewers._nodes import ACTION, GAP, Node


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
    Where one service continues another whose log is not here, no action of that one is shown.
    """
    # The actions that are shown around the current node: their depth in the task, and whether
    # everything within is shown.
    around: list[tuple[int, bool]] = []
    # Likewise of services whose log is not here: their depth, and whether nothing follows them.
    absent: list[tuple[int, bool]] = []
    for node in nodes:
        depth = node.depth
        # Whether nothing follows the absent actions that it stands in.
        is_end = True
        if absent or node.is_elsewhere:
            while absent and absent[-1][0] >= depth:
                absent.pop()
            is_within = bool(absent) and absent[-1][0] == depth - 1
            is_end = not is_within or absent[-1][1]
            if node.is_elsewhere and (is_within or not depth or node.position >= FIRST_DRAWN):
                absent.append((depth, is_end and node.is_last))
                continue
            if is_within and node.kind == GAP:
                continue
        while around and around[-1][0] >= depth:
            around.pop()
        whole = bool(around) and around[-1][1]
        if whole:
            is_last = is_end and node.is_last
        elif node.leads if around else node.shows:
            is_last = is_end and node.is_last_lead
            whole = node.is_match
        else:
            continue
        yield Shown(node, len(around), is_last, not whole)
        if node.kind == ACTION:
            around.append((depth, whole))
