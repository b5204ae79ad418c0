"""What is known of the data and of the network before a run, on which "auto" depends."""

from __future__ import annotations

from typing import Any, NamedTuple


class About(NamedTuple):
    """What is known.

    Attributes:
        size: how many numbers a sample's state has.
        scale: the standard deviation of one of them.
        predicts: what the network predicts, a
            :class:`~flowsolve.parametrizations.Parametrization`.
    """

    size: int | None = None
    scale: float | None = None
    predicts: Any = None


NOTHING = About()
