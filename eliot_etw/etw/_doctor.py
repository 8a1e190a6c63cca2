"""Finds out why nothing of a provider is recorded: what `eliot-etw etw doctor` says."""

from __future__ import annotations

import sys
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was found out."""

    is_good: bool
    text: str
    """What is so, in a sentence."""
    advice: str = ""
    """What to do about it, if anything is to be done."""


def diagnose(name: str) -> list[Finding]:
    """Find out whether a provider is registered, who listens to it, and what stands in the way.

    Args:
        name: What the provider is called.

    Raises:
        ValueError: If that is no name of a provider.
    """
    if sys.platform != "win32":
        text = f"Event Tracing for Windows needs Windows, this is {sys.platform}."
        return [Finding(False, text, "Use EtlFileDestination here, which writes the same events.")]
    raise NotImplementedError(name)
