"""What :func:`flowsolve.tune` returns."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..checked import checked
from ..output import columns
from .plan import Plan


class Errors(NamedTuple):
    """How far from the end of the ODE a run ends, in the data's units: of each sample the root mean
    square over its entries; over samples

    Attributes:
        rmse: the root mean square, which a few samples that end in another mode decide.
        median: which they do not.
        high: the quantile at 0.9.
        standard_error: of ``rmse``.

    Examples:
        >>> from flowsolve.plans import Errors
        >>> round(Errors(rmse=0.04, median=0.01, high=0.06, standard_error=0.002).both, 3)
        0.02
    """

    rmse: float
    median: float
    high: float
    standard_error: float

    @property
    def both(self) -> float:
        """√(rmse · median)."""
        return math.sqrt(self.rmse * self.median)


@dataclass(frozen=True)
class Tuned:
    """A plan that was fitted to a model: a solver, as its plan is. Prints what was gained.

    Attributes:
        plan: the plan; ``plan.save(path)`` writes it, to be shipped with the weights.
        error, auto_error: of it and of ``auto`` with as many evaluations, on starts that were used
            for nothing else.
        held_back: how many those are.
        name: what the fit began from, and what was fitted; "auto" where nothing was better.
        evaluations: spent, in evaluations of one sample.
        seconds: how long it took.
        interrupted: what ended it early, as Ctrl-C does; None if nothing did.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> tuned = flowsolve.tune(model, nfe=4, effort="search", n=32)
        >>> tuned.save("sampler.json")
        >>> flowsolve.sample(model, solver="sampler.json", n=8, seed=0).shape
        torch.Size([8, 2])
    """

    plan: Plan
    error: Errors
    auto_error: Errors
    held_back: int
    name: str
    evaluations: int
    seconds: float
    interrupted: KeyboardInterrupt | None = None

    @property
    def nfe(self) -> int:
        """Evaluations a run spends."""
        return self.plan.nfe

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a file, as :meth:`Plan.save`."""
        self.plan.save(path)

    def __str__(self) -> str:
        rows = [["", "RMSE", "±", "median", "90 %"]]
        for name, e in (("tuned", self.error), ("auto", self.auto_error)):
            values = (e.rmse, e.standard_error, e.median, e.high)
            rows.append([name, *(f"{v:.3g}" for v in values)])
        early = ", interrupted" if self.interrupted else ""
        return (
            f"Tuned for {self.nfe} evaluations: {self.name}\n{columns(rows)}\n"
            f"{self.held_back} starts held back; {self.evaluations:,} evaluations of one sample, "
            f"{self.seconds:.1f} s{early}"
        )

    def __repr__(self) -> str:
        ratio = self.error.both / self.auto_error.both if self.auto_error.both else 1.0
        return f"<Tuned: {self.nfe} evaluations, error {ratio:.3g} of auto's, from {self.name}>"


def planned(solver: Any, nfe: int | None) -> tuple[Any, int | None]:
    """What a user gave for ``solver`` and ``nfe``, a plan in place of what has one: of a
    :class:`Tuned`, in a file, or the one of a folder of files for so many evaluations, the most of
    them that ``nfe`` pays for. Everything else is as it was.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: for a file that is no plan's, and for a folder without one for the budget.
    """
    if isinstance(solver, Tuned):
        return solver.plan, nfe
    if not (isinstance(solver, os.PathLike) or (isinstance(solver, str) and _is_path(solver))):
        return solver, nfe
    path = Path(solver)
    if not path.exists():
        raise FileNotFoundError(
            f"solver={str(solver)!r}: there is no such file or folder; expected a plan's file, as "
            "Plan.save writes it, or a folder of them, as flowsolve tune does"
        )
    if not path.is_dir():
        return Plan.load(path), nfe
    found = {k: file for file in path.glob("nfe*.json") if (k := _budget(file)) is not None}
    fits = [k for k in found if nfe is None or k <= nfe]
    if not fits:
        has = f"plans for {', '.join(map(str, sorted(found)))} evaluations" if found else "none"
        raise ValueError(
            f"solver={str(solver)!r}, nfe={nfe}: the folder has {has}; expected one with a plan "
            "for the budget, such as nfe8.json, as flowsolve tune writes them"
        )
    return Plan.load(found[max(fits)]), None


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text or text.endswith(".json")


def _budget(file: Path) -> int | None:
    number = file.stem.removeprefix("nfe")
    return int(number) if number.isdecimal() else None
