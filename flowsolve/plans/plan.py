r"""Plans: a fixed-step solver laid out on a grid, as numbers.

On a fixed grid every point at which the network is asked, and the end, is a linear combination of
the start, the p's so far and the fresh noises. So a solver's ``step`` is run once on symbols and
what it does is written down as a short program of linear combinations with float64 coefficients.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..output import write
from ..processes import Level, Process
from ..solvers import Step
from . import equality, files
from .program import Arrive, Evaluate, Program
from .table import table
from .trace import trace


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """A solver on a grid, as numbers; :func:`flowsolve.plan` makes one.

    ``print(plan)`` shows all of it as a table. Two plans are equal if they are the same method up
    to rounding: the same number of evaluations and of draws, on the same levels, at the same
    states, with the same end, whatever coordinates either works in. Plans are immutable, and can be
    pickled.

    Attributes:
        program: what is computed, in order; value 0 is the start.
    """

    program: Program

    @classmethod
    def trace(cls, process: Process, steps: Sequence[Step]) -> Plan:
        """The plan of a run made of these steps."""
        return cls(trace(process, steps))

    @property
    def levels(self) -> tuple[Level, ...]:
        """The grid."""
        return self.program.levels

    @property
    def nfe(self) -> int:
        """Evaluations a run spends."""
        return self.program.evaluations

    @property
    def draws(self) -> int:
        """Fresh noises a run uses."""
        return self.program.draws

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return self.program is other.program or equality.same(self.program, other.program)

    def __hash__(self) -> int:
        return hash((self.nfe, self.draws))  # of what equal plans have in common to the bit

    def __repr__(self) -> str:
        first, *_, last = levels = self.levels
        return (
            f"<Plan: {self.nfe} evaluations, {self.draws} draws of noise, {len(levels) - 1} steps "
            f"from t={first.t:.6g} to t={last.t:.6g}>"
        )

    def __str__(self) -> str:
        return (
            f"Plan: evaluations {self.nfe}, draws of noise {self.draws}, "
            f"steps {len(self.levels) - 1}.\n"
            "A state on a level is x = A x0 + R eps; eps(x) and x0(x) are the network's estimates "
            "there. The last line is the result.\n"
        ) + table(self.program)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a file: JSON, with every number in full. It appears complete or not at
        all."""
        text = files.dumps(self.program)
        write(Path(path), lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """The plan in a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a plan's file, of another version, or damaged.
        """
        data = Path(path).read_bytes()
        try:
            return cls(files.loads(data.decode()))
        except (ValueError, OverflowError, RecursionError) as error:
            expected = f"a {files.FORMAT} of version {files.VERSION}, as Plan.save writes it"
            raise ValueError(f"{os.fspath(path)}: {error}; expected {expected}") from error

    def check(self, process: Process) -> None:
        """Raise ValueError unless the plan's levels are levels of ``process``, to rounding."""
        _check(self.program, process)


@lru_cache(maxsize=256)
def _check(program: Program, process: Process) -> None:
    asked = (i.level for i in program if isinstance(i, (Evaluate, Arrive)))
    for level in (program.start, *asked):
        try:
            there = process.level(level.t)
        except ValueError:
            there = None
        if there is None or not equality.same_level(level, there):
            has = f"has {there}" if there else "has no such time"
            raise ValueError(
                f"solver: this plan was made for another process. It has {level}; the model's "
                f"{type(process).__name__} {has}"
            )
