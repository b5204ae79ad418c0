"""What a run records, what comes back from it, and what is raised when it may not go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..operators import combine
from ..parametrizations import Linear
from ..plans import Plan, Remains
from ..processes import Level
from ..typing import Float, Int

#: The most evaluations of a method that chooses its own steps, unless ``nfe`` says otherwise. Runs
#: to 1e-9 take some hundreds.
CAP = 5000


class State(NamedTuple):
    """What a callback sees after each step: the step's number (from 1), evaluations so far, the
    level and a copy of the state.

    The steps of a method that chooses its own are those that it accepted. Of one that steps every
    sample by itself the level may be :class:`~flowsolve.processes.Levels`.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> seen = []
        >>> x = flowsolve.sample(model, solver="ddim", nfe=3, callback=seen.append)
        >>> [(state.step, state.nfe, round(state.level.sigma, 2)) for state in seen]
        [(1, 1, 2.54), (2, 2, 0.38), (3, 3, 0.0)]
    """

    step: int
    nfe: int
    level: Level
    x: Float[Tensor, "n *state"]


@dataclass(frozen=True, eq=False)
class Solution:
    """A finished run, or one that was stopped. Equal to itself alone.

    Attributes:
        x: the result, (n, *shape). A run that ends on a noisy level ends on a state, which in a CLD
            has velocities as well.
        nfe: denoiser evaluations spent, each of a whole batch (but see ``rounds``).
        grid: the levels of the run, as far as it went. The last of a run that was stopped is where
            it was, between those asked for perhaps.
        seed: what start and noise were drawn from, one number or one for each sample; None if both
            were the caller's.
        path: with keep="path": the states on the grid, (steps + 1, n, *state), the start first.
        x0_path: with keep="x0": x̂0 of each evaluation, (nfe, n, *state); where a sample was not
            evaluated, its last.
        stopped: True if the callback ended the run early.
        statistics: of a solver that steps every sample by itself: what each spent. None for the
            others.
        rest: of a run that was stopped: what ``solve(model, start=solution)`` goes on with.
        rounds: of a run in parallel in time: how often the network was called. ``nfe`` is then the
            evaluations that one sample took, of the sample that took most.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> solution = flowsolve.solve(model, solver="ddim", nfe=10, n=4, seed=0, keep="path")
        >>> solution.nfe, len(solution.grid), solution.path.shape
        (10, 11, torch.Size([11, 4, 2]))
    """

    x: Float[Tensor, "n *shape"]
    nfe: int
    grid: tuple[Level, ...]
    seed: int | tuple[int, ...] | None
    path: Float[Tensor, "levels n *state"] | None = None
    x0_path: Float[Tensor, "nfe n *state"] | None = None
    stopped: bool = False
    statistics: Statistics | None = None
    rest: Rest | None = field(default=None, repr=False)
    rounds: int | None = None


class Rest(NamedTuple):
    """What a stopped run goes on with: the ``plan``, what is left of it, and the number of the
    ``first`` sample."""

    plan: Plan
    remains: Remains
    first: int


class Statistics(NamedTuple):
    """What each sample of a batch spent: three tensors of integers (n,).

    Attributes:
        accepted, rejected: steps that were taken, and steps that had to be tried again with another
            length.
        evaluations: evaluations of the denoiser that the sample needed.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> solution = flowsolve.solve(model, solver="adaptive", n=4, seed=0)
        >>> int(solution.statistics.evaluations.max()) == solution.nfe
        True
    """

    accepted: Int[Tensor, "n"]
    rejected: Int[Tensor, "n"]
    evaluations: Int[Tensor, "n"]


class Record:
    """Watches a run: counts and keeps what was asked for. No device syncs."""

    def __init__(
        self, keep: frozenset[str], callback: Callable[[State], Any] | None, bar: Any
    ) -> None:
        self.keep, self.callback, self.bar = keep, callback, bar
        self.steps = 0
        self.asked: list[Level] = []
        self.reached: list[Level] = []
        self.path: list[Tensor] = []
        self.x0: list[Tensor] = []

    @property
    def looks(self) -> bool:
        return bool(self.keep) or self.callback is not None

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None:
        self.asked.append(level)
        if "x0" in self.keep:
            self.x0.append(combine(linear.x0, (x, out)))
        if self.bar is not None:
            self.bar.update()

    def repeat_x0(self, running: Tensor) -> None:
        """Of samples that are not running, x̂0 is what it was last."""
        if "x0" in self.keep and not running.all():
            self.x0[-1][~running] = self.x0[-2][~running]

    def arrived(self, x: Tensor, level: Level) -> bool:
        self.stand(x, level)
        return self.stepped(x, level)

    def stand(self, x: Tensor, level: Level) -> None:
        """``level`` is one of the grid's, or where the run ends."""
        self.reached.append(level)
        if "path" in self.keep:
            self.path.append(x)

    def stepped(self, x: Tensor, level: Level) -> bool:
        """Whether the callback, told of a step that ended with x on ``level``, asks to stop."""
        self.steps += 1
        if self.callback is None:
            return False
        answer = self.callback(State(self.steps, len(self.asked), level, x.clone()))
        try:
            return bool(answer)
        except (RuntimeError, ValueError):  # several numbers
            raise TypeError(
                f"callback returned {answer!r}: expected something that is true or false"
            ) from None


class BudgetExceeded(RuntimeError):
    """An adaptive method reached its cap on evaluations before the end.

    Attributes:
        x: the last state reached, shape (batch, *shape).
        level: the noise level of ``x``; of a solver that steps every sample by itself,
            :class:`~flowsolve.processes.Levels`.
        nfe: evaluations spent.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> try:
        ...     flowsolve.sample(model, solver="adaptive", rtol=1e-6, nfe=9)
        ... except flowsolve.BudgetExceeded as error:
        ...     print(error.nfe, error.x.shape)
        9 torch.Size([1, 2])
    """

    def __init__(self, nfe: int, x: Float[Tensor, "n *state"], level: Level) -> None:
        self.nfe, self.x, self.level = nfe, x, level
        super().__init__(
            f"nfe={nfe} evaluations were spent at {level}, before the end of the run. Give a "
            f"larger nfe= (without one it is {CAP}) or larger rtol= and atol=; the state reached "
            "is in this exception's .x and .level."
        )

    def __reduce__(self) -> Any:
        return type(self), (self.nfe, self.x, self.level)


def progress_bar(progress: bool, total: int | None, unit: str = "eval", initial: int = 0) -> Any:
    """A tqdm bar, or None if ``progress`` is False. Raises ImportError, saying what to install,
    without tqdm."""
    if not progress:
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'flowsolve[run]'") from None
    return tqdm(total=total, unit=unit, initial=initial, leave=False)
