"""What a grid is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from ..checked import read
from ..errors import register
from ..processes import Level, Process
from ..readers import Must

#: So many levels are laid out in a second.
Steps = Annotated[int, Must(lambda n: 1 <= n <= 100_000, "a positive integer, at most 100000")]


class Grid(ABC):
    """How to place the levels of a run. A subclass is a frozen dataclass, its fields its options;
    one that is defined with a name is known by it: ``class Mine(Grid, name="mine")``.

    Examples:
        >>> levels = flowsolve.grids.Karras().levels(flowsolve.VP(), 8)
        >>> len(levels), levels[-1].clean
        (9, True)
    """

    such_as: ClassVar[str] = "a flowsolve.grids object, such as flowsolve.grids.Karras()"
    #: The named grids.
    known: ClassVar[dict[str, type[Grid]]] = {}
    #: True if the grid is laid out in σ̄, which only processes with numbers for A and R have.
    in_sigma = False

    def __init_subclass__(
        cls, name: str | None = None, aliases: Sequence[str] = (), **rest: Any
    ) -> None:
        super().__init_subclass__(**rest)
        for known in () if name is None else (name, *aliases):
            register("grid", Grid.known, known, cls)

    @abstractmethod
    def levels(
        self, process: Process, n: int, start: Level | None = None, end: Level | None = None
    ) -> tuple[Level, ...]:
        """Levels from ``start`` (default: the process's noisiest) to ``end`` (default: clean), n
        steps.

        Raises:
            ValueError: if n < 1 or the levels are not strictly decreasing in noise.
        """

    def _ends(
        self, process: Process, n: int, start: Level | None, end: Level | None
    ) -> tuple[Level, Level]:
        process, n = read("process", process, Process), read("n", n, Steps)
        start, end = read("start", start, Level | None), read("end", end, Level | None)
        if self.in_sigma and not process.scalar:
            raise ValueError(
                f"grid={self} places levels by σ̄ = R/A, which is no number where A and R are "
                f"matrices, as in {process!r}; "
                "use 'quadratic', 'uniform', 'linspace' or times of your own"
            )
        return ends_of(process, start, end)


def ends_of(process: Process, start: Level | None, end: Level | None) -> tuple[Level, Level]:
    """Where a run begins and ends: by default at the noisiest level, and on clean data. Raises
    ValueError unless that is downward."""
    start, end = start or process.start, end or process.clean
    if not end.t < start.t:
        raise ValueError(
            f"the run's end, {end}, is not quieter than its start, {start}; expected "
            "span=(noisy, quiet)"
        )
    return start, end


def strictly_decreasing(levels: Sequence[Level]) -> tuple[Level, ...]:
    kept = [levels[0]]
    for level in levels[1:]:
        if level.t < kept[-1].t:
            kept.append(level)
        elif level.t > kept[-1].t:
            raise ValueError(f"a grid must be decreasing: {kept[-1]} is followed by {level}")
    if len(kept) < 2:
        raise ValueError("a grid needs at least two different levels")
    return tuple(kept)
