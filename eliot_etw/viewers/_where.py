"""The expressions of ``--where``: a small language that can look at a log and do nothing else.

simpleeval evaluates; which parts of Python's grammar there are is decided here. There is nothing
that could take long or much room (powers, shifts, repeated or formatted texts, comprehensions),
and no attribute of a Python object can be reached but a few methods of texts.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, Final, TypeAlias, final
from warnings import catch_warnings, simplefilter

from eliot_etw._names import TASK_LEVEL, TASK_UUID
from eliot_etw._require import require
from eliot_etw.viewers._nodes import ACTION, Node

_METHODS: Final = frozenset({"endswith", "lower", "startswith", "strip", "upper"})
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "abs": abs,
    "float": float,
    "int": int,
    "len": len,
    "max": max,
    "min": min,
    "round": round,
    "str": str,
}
_GRAMMAR: Final = (
    *(ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    *(ast.Compare, ast.cmpop, ast.IfExp, ast.Call, ast.Attribute, ast.Subscript),
    *(ast.Constant, ast.Name, ast.expr_context, ast.List, ast.Tuple, ast.Set),
)

_Operator: TypeAlias = Callable[[Any, Any], Any]


@final
class Where:
    """An expression that says of an action or message whether it is selected.

    Names are fields of the start, the end or the message; one that is missing is None. Comparing
    or calculating with None does not fail: nothing is greater or less than None, nor in it.

    Args:
        text: The expression.

    Attributes:
        failures: For how many nodes it could not be evaluated: those are not selected.
        first_failure: What was wrong the first time.

    Raises:
        ValueError: If it is not an expression of this language.
        MissingDependency: If simpleeval is not installed.
    """

    def __init__(self, text: str) -> None:
        simpleeval: Any = require("simpleeval", feature="--where", extra="cli")
        self._text = text
        self._parsed = _checked(text)
        self._names = _Names()
        self._evaluator = simpleeval.SimpleEval(_OPERATORS, dict(_FUNCTIONS), self._names)
        self._evaluator.nodes |= {
            ast.Attribute: self._attribute,
            ast.Subscript: self._subscript,
            ast.List: self._items,
            ast.Tuple: self._items,
            ast.Set: self._items,
        }
        self.failures = 0
        self.first_failure = ""

    def __call__(self, node: Node) -> bool:
        self._names.node = node
        try:
            return bool(self._evaluator.eval(self._text, self._parsed))
        except Exception as error:  # noqa: BLE001 - one odd value must not end the whole listing
            self.failures += 1
            self.first_failure = self.first_failure or f"{type(error).__name__}: {error}"
            return False

    def _attribute(self, node: ast.Attribute) -> Any:
        """Look into a nested object, or find one of the methods of texts."""
        value = self._evaluator._eval(node.value)
        if isinstance(value, dict):
            return value.get(node.attr)
        if isinstance(value, str) and node.attr in _METHODS:
            return getattr(value, node.attr)
        if value is None:
            return _nothing if node.attr in _METHODS else None
        msg = f"{type(value).__name__} has no {node.attr}"
        raise AttributeError(msg)

    def _subscript(self, node: ast.Subscript) -> Any:
        """Look into an object or a list; what is not there is None."""
        container, key = (self._evaluator._eval(part) for part in (node.value, node.slice))
        try:
            return None if container is None else container[key]
        except (KeyError, IndexError):
            return None

    def _items(self, node: ast.List | ast.Tuple | ast.Set) -> list[Any]:
        """Evaluate what stands in brackets, to be searched with ``in``."""
        return [self._evaluator._eval(item) for item in node.elts]


@final
class _Names:
    """The names in an expression: what every node has, and else the fields."""

    node: Node

    def __getitem__(self, name: str) -> Any:
        property_ = _PROPERTIES.get(name)
        if property_:
            return property_(self.node)
        for message in (self.node.end, self.node.start):
            if message is not None and name in message:
                return message[name]
        return None


def _level(node: Node) -> Any:
    """Return the level: of an action that of itself, not of its start."""
    message = node.start or node.end
    level = message.get(TASK_LEVEL) if message else None
    return level[:-1] if level and node.kind == ACTION else level


def _task(node: Node) -> Any:
    message = node.start or node.end
    return message and message.get(TASK_UUID)


_PROPERTIES: Final[dict[str, Callable[[Node], Any]]] = {
    "depth": lambda node: node.depth,
    "duration": lambda node: node.duration,
    "failed": lambda node: node.has_failed,
    "fields": lambda node: {**(node.start or {}), **(node.end or {})},
    "level": _level,
    "status": lambda node: node.status,
    "task": _task,
    "timestamp": lambda node: node.timestamp,
    "type": lambda node: node.type,
}


def _nothing(*_: object) -> None:
    """Be the method of what is not there."""


def _checked(text: str) -> ast.expr:
    """Parse an expression and see that it has only what the language has."""
    try:
        with catch_warnings():
            # Of an odd backslash Python warns; it is none of our business.
            simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"it is no expression ({getattr(error, 'msg', error)})"
        raise ValueError(msg) from None
    for node in ast.walk(tree):
        if not isinstance(node, _GRAMMAR):
            msg = f"it must not contain {type(node).__name__}"
            raise ValueError(msg)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            msg = f"it must not use an attribute that begins with an underscore: {node.attr}"
            raise ValueError(msg)
        if isinstance(node, ast.Call):
            _check_call(node)
    return tree.body


def _check_call(node: ast.Call) -> None:
    """See that only what may be called is called."""
    function = node.func
    if isinstance(function, ast.Name) and function.id in _FUNCTIONS:
        return
    if isinstance(function, ast.Attribute) and function.attr in _METHODS:
        return
    known = ", ".join(sorted(_FUNCTIONS) + sorted(f"text.{name}" for name in _METHODS))
    msg = f"it may call only {known}"
    raise ValueError(msg)


def _or_none(function: _Operator) -> _Operator:
    """Make an operator of numbers that gives None if an operand is missing."""

    def operate(left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        for operand in (left, right):
            if not isinstance(operand, (int, float)):
                msg = f"cannot calculate with {type(operand).__name__}"
                raise TypeError(msg)
        return function(left, right)

    return operate


def _or_false(function: _Operator) -> _Operator:
    """Make a comparison that is false if something is missing."""
    return lambda left, right: left is not None and right is not None and function(left, right)


def _is_in(item: Any, container: Any) -> bool:
    if container is None or (item is None and isinstance(container, str)):
        return False
    return item in container


_OPERATORS: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: _or_none(operator.add),
    ast.Sub: _or_none(operator.sub),
    ast.Mult: _or_none(operator.mul),
    ast.Div: _or_none(operator.truediv),
    ast.FloorDiv: _or_none(operator.floordiv),
    ast.Mod: _or_none(operator.mod),
    ast.Not: operator.not_,
    ast.USub: lambda value: None if value is None else -value,
    ast.UAdd: lambda value: value,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: _or_false(operator.lt),
    ast.LtE: _or_false(operator.le),
    ast.Gt: _or_false(operator.gt),
    ast.GtE: _or_false(operator.ge),
    ast.In: _is_in,
    ast.NotIn: lambda item, container: not _is_in(item, container),
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
