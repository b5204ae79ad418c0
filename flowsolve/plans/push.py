"""Runs whose loop is the caller's: other libraries' schedulers, networks on other machines.

What is computed between two evaluations is what :func:`~flowsolve.plans.play` computes, so that the
result is :func:`flowsolve.solve`'s to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..finite import finite, non_finite
from ..noise import Seed
from ..parametrizations import Linear, Parametrization
from ..processes import Level, Process
from ..typing import Float
from .bind import Ask, bind
from .loop import Run, shown
from .program import Program


class Push:
    """A run of a plan that is asked from outside; :meth:`flowsolve.Plan.push` begins one.

    It belongs to one thread; the plan may be shared. Answers are taken without their graph.

    Attributes:
        done: whether nothing more is to be asked.
        nfe: evaluations that have been told.
        level: on which the network is to be asked next; at the end, the last one.
        seed: what the noise is drawn from; None if there is none or it is the caller's.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> plan, start = flowsolve.plan("unipc3", model, nfe=8), torch.ones(1, 2).double()
        >>> run = plan.push(model, start=start)
        >>> while not run.done:
        ...     x = run.tell(model.net(run.input, run.time))
        >>> torch.equal(run.x, flowsolve.sample(model, solver=plan, start=start))
        True
    """

    def __init__(
        self,
        program: Program,
        model: Denoiser,
        x: Tensor,
        noise: Callable[[int], Tensor],
        seed: Seed | None,
    ) -> None:
        bound = bind(program, model.answers, model.process)
        self.seed, self.nfe = seed, 0
        self._program, self._model = program, model
        self._run = Run(bound, x, noise, _Nobody())
        self._times = model.times(bound.asked, x)
        self._questions = self._run.questions()
        self._sums: list[tuple[Level, Tensor]] = []  # of the answers: finite if all of one is
        self._next()

    def __repr__(self) -> str:
        at = "done" if self.done else f"asked next at {self.level}"
        return f"<Push: evaluation {self.nfe} of {self._program.evaluations}, {at}>"

    def _next(self) -> None:
        with torch.no_grad():
            self._asked: Ask | None = next(self._questions, None)
        self._x: Tensor | None = None
        self.done = self._asked is None
        self.level: Level = self._program.levels[-1] if self._asked is None else self._asked.level

    @property
    def x(self) -> Float[Tensor, "n *state"]:
        """The state at which the network is to be asked, (n, *state); at the end the result, as
        :class:`~flowsolve.Solution` has it. A copy: :meth:`replace` changes the run."""
        x = self._x
        if x is None:
            run, basis = self._run, self._run.bound.basis
            x = run.x if self._asked is None else run.values[self._asked.x]
            x = x.clone() if basis is None else basis.back(x)
            if self.done and self.level.clean:
                x = self._model.process.data(x)
            self._x = x
        return x

    @property
    def input(self) -> Float[Tensor, "n *state"]:
        """What the network is to be given: :attr:`x` in its dtype and, where its prediction has an
        input scale (EDM's "F"), times that."""
        return self._model.input(self._at(self._question("input")), self.level)

    @property
    def time(self) -> Float[Tensor, "n"]:
        """What the network is to be told about :attr:`level`, (n,)."""
        return self._times[self._question("time").number]

    def tell(self, out: Any) -> Float[Tensor, "n *state"]:
        """Go on with the network's answer, as the network returns it: a tensor of the state's
        shape, an object with it as ``.sample``, or a tuple of it alone. Returns the new :attr:`x`.

        Raises:
            TypeError, ValueError: for another kind of answer, and at the end.
            NonFiniteError: with the last answer, if the result is not finite.
        """
        asked, run, basis = self._question("tell"), self._run, self._run.bound.basis
        with torch.no_grad():
            answer, run.learned = self._model.output(out, self._at(asked), asked.level)
            answer = answer.detach()
            if basis is not None:
                answer = basis.into(answer).to(run.values[asked.x].dtype)
            run.values[asked.out] = answer
        self._sums.append((asked.level, answer.sum()))
        self.nfe += 1
        self._next()
        if self.done and not finite(self.x):
            bad = [not torch.isfinite(each) for _, each in self._sums]
            first = bad.index(True) + 1 if True in bad else 0
            raise non_finite(self.x, [level for level, _ in self._sums[:first]])
        return self.x

    def replace(self, x: Float[Tensor, "n *state"]) -> None:
        """Put ``x``, (n, *state), in the place of the state that the network is to be asked at, as
        inpainting does between steps.

        Raises:
            TypeError, ValueError: for what is no such state, and at the end.
        """
        asked, run = self._question("replace"), self._run
        old = run.values[asked.x]
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x is {kind}; expected a floating-point tensor, a state")
        if x.shape != old.shape or x.device != old.device:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, on {x.device}; expected the state's, "
                f"{tuple(old.shape)} on {old.device}"
            )
        with torch.no_grad():
            new = x.detach().to(old).clone()
            run.values[asked.x] = new if run.bound.basis is None else run.bound.basis.into(new)
        self._x = None

    def _question(self, what: str) -> Ask:
        if self._asked is None:
            raise ValueError(
                f"{what}: the run is at its end, after {self.nfe} evaluations; its result is in .x"
            )
        return self._asked

    def _at(self, asked: Ask) -> Tensor:
        return shown(self._model, self._run.values[asked.x], self._run.bound.basis)


def outside(predicts: str | Parametrization, process: Process | None) -> Denoiser:
    """A denoiser whose network is not here."""
    if not isinstance(predicts, (str, Parametrization)):
        raise TypeError(
            f"model={predicts!r}: expected a flowsolve.Denoiser, or what the network predicts, "
            'such as "eps", and its process'
        )
    if process is None:
        raise TypeError(
            "process=None: expected the process the network was trained on, such as "
            "flowsolve.VP(), since the model is no Denoiser that knows it"
        )
    return Denoiser(_nobody, process, predicts)


def _nobody(x: Tensor, t: Tensor) -> Tensor:
    raise ValueError("the network of this run is asked by its caller")


class _Nobody:
    """Nobody watches: the caller is there at each evaluation."""

    looks = False

    def evaluated(self, x: Tensor, out: Tensor, level: Level, linear: Linear) -> None:
        pass

    def arrived(self, x: Tensor, level: Level) -> bool:
        return False
