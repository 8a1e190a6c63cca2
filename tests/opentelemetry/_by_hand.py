"""Events that Microsoft's encoder for Python makes, field by field, as somebody types them."""

import ctypes
import sys

import pytest

from tests.etw.test_encode import Theirs, WindowsLibrary

UNSIGNED, BOOLEAN, JSON = 18, 3, 12


@pytest.fixture(scope="module")
def microsoft():
    """Return the module traceloggingdynamic, on any system."""
    with pytest.MonkeyPatch.context() as patch:
        if not hasattr(ctypes, "WinDLL"):
            patch.setattr(ctypes, "WinDLL", WindowsLibrary, raising=False)
        yield pytest.importorskip("traceloggingdynamic")
    # The next to import it may want another stand-in.
    sys.modules.pop("traceloggingdynamic", None)


def build(microsoft, name, fields):
    """Return the metadata and the payload of an event.

    Args:
        microsoft: Their module.
        name: The event's name.
        fields: Of each its name, the method of their encoder, and its arguments; or the name of a
            struct and its members.
    """
    theirs = Theirs(microsoft, name)
    _add(theirs.builder, fields)
    return theirs.blobs


def _add(builder, fields):
    for name, *rest in fields:
        if isinstance(rest[0], list):
            builder.add_struct(name.encode(), len(rest[0]))
            _add(builder, rest[0])
        else:
            getattr(builder, f"add_{rest[0]}")(name.encode(), *rest[1:])
