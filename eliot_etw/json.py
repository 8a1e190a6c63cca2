"""What values that JSON does not know become: `json_default`, and Eliot's encoder class."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

from eliot_etw._safe import safe_repr

__all__ = ["EliotJSONEncoder", "json_default"]

# Above this an array is logged as its beginning and its shape, as Eliot does.
_MAX_ARRAY_ITEMS = 10_000

_NOT_MINE = object()


class EliotJSONEncoder(json.JSONEncoder):
    """A `json.JSONEncoder` with `json_default`, for programs that still pass an encoder class."""

    def default(self, o: Any) -> Any:
        """Convert what JSON does not know."""
        return json_default(o)


def json_default(o: Any) -> Any:
    r"""Convert a value that JSON does not know into one that it does.

    Sets and frozensets become lists; dates and times ISO 8601 text; paths, decimal numbers
    and bytes text (bytes that are not UTF-8 with ``\xNN`` in place of what cannot be decoded);
    complex numbers ``{"real": ..., "imag": ...}``; mappings dicts. NumPy, Pandas, Polars and
    Pydantic values are known if the program has imported those packages. (Dataclasses, enums,
    UUIDs and datetimes rarely come here: the encoder knows them.)

    Args:
        o: The value.

    Returns:
        The converted value; its `repr` if nothing better is known.
    """
    for convert in (_plain_default, _numpy_default, _pandas_default, _polars_default):
        converted = convert(o)
        if converted is not _NOT_MINE:
            return converted
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(o, pydantic.BaseModel):
        return o.model_dump()
    return safe_repr(o)


def _plain_default(o: Any) -> Any:
    """Convert the standard library's types."""
    if isinstance(o, (bytes, bytearray, memoryview)):
        return bytes(o).decode("utf-8", "backslashreplace")
    if isinstance(o, (date, time)):
        return o.isoformat()
    # UUIDs come here only in a subinterpreter: orjson knows the main interpreter's class.
    if isinstance(o, (PurePath, Decimal, UUID)):
        return str(o)
    if isinstance(o, (AbstractSet, tuple)):
        return list(o)
    if isinstance(o, float):
        return float(o)
    if isinstance(o, complex):
        return {"real": o.real, "imag": o.imag}
    if isinstance(o, Mapping):
        return dict(o)
    return _NOT_MINE


def _numpy_default(o: Any) -> Any:
    """Convert NumPy's arrays and scalars."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return _NOT_MINE
    if isinstance(o, numpy.ndarray):
        if o.size > _MAX_ARRAY_ITEMS:
            return {
                "array_start": o.flat[:_MAX_ARRAY_ITEMS].tolist(),
                "original_shape": o.shape,
            }
        return o.tolist()
    if isinstance(o, (numpy.datetime64, numpy.timedelta64)):
        return str(o)
    # Not by item(), which leaves what is longer than Python's own numbers as it is.
    if isinstance(o, numpy.floating):
        return float(o)
    if isinstance(o, numpy.complexfloating):
        return complex(o)
    if isinstance(o, numpy.generic):
        return o.item()
    return _NOT_MINE


def _pandas_default(o: Any) -> Any:
    """Convert Pandas' tables and times."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return _NOT_MINE
    if isinstance(o, pandas.Series):
        return o.to_list()
    if isinstance(o, pandas.DataFrame):
        return o.to_dict(orient="records")
    if isinstance(o, pandas.Interval):
        return {"left": o.left, "right": o.right, "closed": o.closed}
    if isinstance(o, pandas.Period):
        return str(o)
    return _NOT_MINE


def _polars_default(o: Any) -> Any:
    """Convert Polars' tables."""
    polars = sys.modules.get("polars")
    if polars is None:
        return _NOT_MINE
    if isinstance(o, polars.Series):
        return o.to_list()
    if isinstance(o, polars.DataFrame):
        return o.to_dicts()
    return _NOT_MINE
