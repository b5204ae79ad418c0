r"""Plans: a fixed-step solver laid out on a grid, as numbers.

On a fixed grid every point at which the network is asked, and the end, is a linear combination of
the start, the p's so far and the fresh noises. So a solver's ``step`` is run once on symbols and
what it does is written down as a short program of linear combinations with float64 coefficients.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from torch import Tensor

from ..around import Around
from ..caching import kept
from ..checked import checked
from ..denoiser import Denoiser
from ..finite import check_finite
from ..noise import Place, Seed, check_seeds
from ..output import file_at, write
from ..parametrizations import Parametrization
from ..processes import Level, Process
from ..readers import Later
from ..solvers import Step
from ..starts import Noise, Number, check_state, draws, own
from ..typing import Float
from . import equality, files
from .bind import bind
from .loop import Run, Watch
from .program import Arrive, Evaluate, Program
from .push import Push, outside
from .rest import cut, remaining
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

    Examples:
        >>> plan = flowsolve.plan("unipc3", flowsolve.VP(), nfe=8)
        >>> plan.save("plan.json")
        >>> flowsolve.Plan.load("plan.json") == plan, plan.rest(3).nfe
        (True, 5)
    """

    program: Program
    #: What it was traced from; None of a plan that was loaded or unpickled, which is its numbers.
    origin: tuple[Process, tuple[Step, ...]] | None = None

    @classmethod
    def trace(cls, process: Process, steps: Sequence[Step]) -> Plan:
        """The plan of a run made of these steps."""
        return cls(trace(process, steps), (process, tuple(steps)))

    def __reduce__(self) -> Any:
        return Plan, (self.program,)  # solvers may have functions for options

    def __copy__(self) -> Plan:
        return self

    def __deepcopy__(self, memo: Any) -> Plan:
        return self

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

    @property
    def places(self) -> tuple[Place, ...]:
        """Where in the run each of them is drawn."""
        return self.program.places

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

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to a file: JSON, with every number in full. It appears complete or not at
        all."""
        text, path = files.dumps(self.program), file_at(path)
        write(path, lambda file: file.write(text.encode()))

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """The plan in a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a plan's file, of another version, or damaged.
        """
        data = file_at(path).read_bytes()
        try:
            return cls(files.loads(data.decode()))
        except (ValueError, OverflowError, RecursionError) as error:
            expected = f"a {files.FORMAT} of version {files.VERSION}, as Plan.save writes it"
            raise ValueError(f"path={os.fspath(path)}: {error}; expected {expected}") from error

    @checked
    def rest(self, k: int) -> Plan:
        """The plan that begins with evaluation number ``k`` of this one, from 0, and asks on the
        same levels from there: ``nfe - k`` evaluations. Its start is a state on
        ``plan.rest(k).levels[0]``, such as data with noise of that level (img2img).

        What came before is not known to it: a multistep method warms up again. Where ``k`` is in
        the middle of a step, the evaluations left of that are DDIM steps between their levels, or
        the forward process's where one goes up (Restart).

        Raises:
            ValueError: if no evaluation is left; and if the plan was loaded or unpickled, and is
                the numbers of a method that remembers.
        """
        if not 0 <= k < self.nfe:
            raise ValueError(
                f"k={k!r}: expected an integer with 0 <= k < {self.nfe}, the plan's nfe"
            )
        if self.origin is not None:
            process, steps = self.origin
            return Plan.trace(process, remaining(self.program, steps, k))
        program = cut(self.program, k)
        if program is None:
            raise ValueError(
                f"k={k}: this plan was read from a file or unpickled, so that it is its numbers "
                "alone, and those from here on go with what was computed before; make it again "
                "with flowsolve.plan(...), which knows the solver, or take the rest first"
            )
        return Plan(program)

    @checked
    def push(
        self,
        model: Annotated[Denoiser | Parametrization | str, Later("find_parametrization")],
        process: Process | None = None,
        *,
        start: Annotated[Float[Tensor, "n *state"], Later("check_state")],
        seed: Annotated[Seed | None, Later("check_seeds")] = None,
        first: Number = 0,
        noise: Noise | None = None,
    ) -> Push:
        """A run whose loop is the caller's::

            run = plan.push(model, start=x)
            while not run.done:
                run.tell(net(run.input, run.time))
            run.x  # what flowsolve.solve(model, solver=plan, start=x).x is, to the bit

        Args:
            model: a :class:`~flowsolve.Denoiser`, whose network is not asked; or what the network
                predicts, as a Denoiser's ``predicts``, and then its ``process``.
            start: the states to start from, (n, *state), on ``plan.levels[0]``.
            seed, first, noise: of a plan that draws noise, as in :func:`flowsolve.solve`.

        Raises:
            TypeError, ValueError: for arguments that do not fit.
        """
        if isinstance(model, Denoiser):
            if process is not None:
                raise ValueError(f"process={process!r} cannot be given beside a Denoiser")
            if isinstance(model, Around):
                raise ValueError(
                    f"model: a {type(model).__name__} changes what its network returns, and here "
                    "the caller asks the network; expected a denoiser that does not"
                )
            model = model.in_run()
        else:
            model = outside(model, process)
        self.check(model.process)
        x = check_state(model, "start", start, model.shape and model.state_shape)
        check_finite("start", x)
        seed = check_seeds(seed)
        used = seed if self.draws and not own(noise) else None
        drawn = draws(noise, x, used, first, self.program, self.levels[0])
        return Push(self.program, model, x, drawn, used)

    @checked
    def check(self, process: Process) -> None:
        """Raise ValueError unless the plan's levels are levels of ``process``, to rounding."""
        _check(self.program, process)


@kept
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


def play(
    plan: Plan, model: Denoiser, x: Tensor, noise: Callable[[int], Tensor], watch: Watch
) -> Tensor:
    """The state at the end of a run from ``x``, both (n, *state); ``noise(k)`` gives the k-th draw.
    ``x`` is not modified."""
    return Run(bind(plan.program, model.answers, model.process), x, noise, watch).through(model)
