"""Computations of Dask's as trees, across threads, processes and machines; as in `eliot.dask`.

Dask is a package of its own: ``python -m pip install 'eliot-etw[dask]'``.

A computation is one action; within it, each task that Dask runs is an action of the type
``eliot:remote_task``, wherever it runs, with a message ``dask:task`` in it: the task's ``key``,
and the keys of its ``dependencies``. What the task logs is in that action too.

Processes and machines that run tasks need destinations of their own. A task that Dask runs again
is logged in the same place again. The place of a task that Dask does not run, as another one
failed or the result was there already, stays empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from eliot_etw._action import Action, start_action
from eliot_etw._require import require

require("dask", feature="eliot_etw.dask", extra="dask")

from dask._task_spec import Alias, GraphNode, Task, TaskRef, convert_legacy_task
from dask.base import compute, get_scheduler, persist, unpack_collections
from dask.core import toposort

__all__ = ["compute_with_trace", "persist_with_trace"]


def compute_with_trace(*args: Any) -> tuple[Any, ...]:
    """Do what `dask.compute` does, as an action ``dask:compute`` with each task in it.

    Args:
        *args: Collections of Dask's, and anything else, which is returned as it is. Annotations
            of tasks, such as priorities, do not reach the workers.

    Returns:
        The results.

    Raises:
        Exception: What a task raised; the action has failed then.
    """
    with start_action(action_type="dask:compute") as action:
        return _tracing(compute, args, action)


def persist_with_trace(*args: Any) -> tuple[Any, ...]:
    """Do what `dask.persist` does, as an action ``dask:persist`` with each task in it.

    On a cluster the action ends when the tasks are on their way; they are in it all the same.

    Args:
        *args: See `compute_with_trace`.

    Returns:
        The collections that hold the results, or are going to.

    Raises:
        Exception: What a task raised, if it was waited for.
    """
    with start_action(action_type="dask:persist") as action:
        return _tracing(persist, args, action)


def _tracing(do: Callable[..., Any], args: tuple[Any, ...], action: Action) -> tuple[Any, ...]:
    """Have Dask do something with collections, and log each task of it within an action."""
    collections, _ = unpack_collections(*args)  # type: ignore[no-untyped-call] # not typed there
    run = get_scheduler(collections=collections)  # type: ignore[no-untyped-call] # likewise
    if do is persist and hasattr(getattr(run, "__self__", None), "persist"):
        # A client of a cluster: it is not waited for.
        run = partial(run, sync=False)

    def run_traced(graph: Any, keys: Any, **options: Any) -> Any:
        # What comes here is optimized, and has no more tasks than are needed.
        tasks = graph if isinstance(graph, Mapping) else graph.__dask_graph__()
        return run(_trace_graph(tasks, action), keys, **options)

    return tuple(do(*args, scheduler=run_traced))


def _trace_graph(graph: Mapping[Any, Any], action: Action) -> dict[Any, Any]:
    """Put each task of a graph into something that logs it; all else stays as it is."""
    nodes = {key: convert_legacy_task(key, value, graph) for key, value in graph.items()}
    needs = {
        key: node.dependencies & graph.keys() if isinstance(node, GraphNode) else frozenset()
        for key, node in nodes.items()
    }
    traced = dict(graph)
    names: dict[Any, str] = {}
    # In the order in which they can run, so that places grow with it.
    for key in toposort(graph, needs):  # type: ignore[no-untyped-call] # likewise
        node = nodes[key]
        if isinstance(node, Alias):
            names[key] = _name(node.target, names)
        elif isinstance(node, Task):
            traced[key] = _trace_task(node, action, names)
    return traced


def _trace_task(node: Task, action: Action, names: Mapping[Any, str]) -> Task:
    """Put a task into one of the same key and the same dependencies that logs it."""
    inputs = tuple(node.dependencies)
    call = _Call(
        node,
        inputs,
        action.serialize_task_id().decode("ascii"),
        _name(node.key, names),
        sorted(_name(key, names) for key in inputs),
    )
    run = _run_coroutine if node.is_coro else _run
    refs = map(TaskRef, inputs)
    return Task(node.key, run, call, *refs, _data_producer=node.data_producer)


def _name(key: Any, names: Mapping[Any, str]) -> str:
    """Return a key as text; for another name of a task, that of the task."""
    if key in names:
        return names[key]
    return key if isinstance(key, str) else "-".join(map(str, key))


@dataclass(frozen=True)
class _Call:
    """A task that is going to be run somewhere, and what is logged of it there."""

    node: Task
    inputs: tuple[Any, ...]
    task_id: str
    key: str
    dependencies: list[str]

    def start(self) -> Action:
        """Start the action of the task."""
        action = Action.continue_task(task_id=self.task_id)
        action.log("dask:task", key=self.key, dependencies=self.dependencies)
        return action

    def run(self, values: tuple[Any, ...]) -> Any:
        """Run the task with the results of those that it needs."""
        return self.node(dict(zip(self.inputs, values, strict=True)))


def _run(call: _Call, *values: Any) -> Any:
    """Run a task, and log it: what Dask calls."""
    with call.start():
        return call.run(values)


async def _run_coroutine(call: _Call, *values: Any) -> Any:
    """Run a task that is a coroutine function, and log it."""
    with call.start():
        return await call.run(values)
