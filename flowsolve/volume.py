"""The divergence of the ODE as part of the state: what :mod:`flowsolve.likelihood` integrates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .around import Around
from .coordinates import FLOW
from .denoiser import Denoiser
from .network import Times
from .noise import Place, Stream
from .operators import combine
from .parametrizations import Flow
from .plans.program import Arrive, Evaluate, Program
from .processes import Level
from .run import Layout
from .typing import Float

#: The most numbers that the products of one pass have.
MOST = 2**22
#: By what a state knows which of a run's samples it is.
NUMBERS = "sample number"


@dataclass(frozen=True, eq=False)
class Volume(Around):
    """The denoiser of states with the integral of the module's text behind them, one for each of
    the probes: (n, D + probes), its prediction the p of FLOW coordinates."""

    _: KW_ONLY
    #: The signs of all samples; None for the exact trace.
    stream: Stream | None
    #: Where they are drawn: by the time that is asked at, the one at which its step begins. Stages
    #: of a step have large weights of both signs, which probes of their own would not cancel. Where
    #: the steps depend on the data they are drawn once, at the beginning.
    places: Mapping[float, float]
    begin: float

    @classmethod
    def around(cls, model: Denoiser, x: Tensor, stream: Stream | None, run: Layout) -> Any:
        """The one for a run from data like ``x``."""
        size = x[0].numel()
        probes = 1 if stream is None else stream.shape[0] // size
        model = model if model.shape is not None else replace(model, shape=tuple(x.shape[1:]))
        # Steps that depend on the data are of some samples alone, whose signs are to be known.
        own = {}
        if stream is not None and run.plan is None:
            own[NUMBERS] = torch.arange(len(x), device="cpu")
        places = {} if run.plan is None else _steps(run.plan.program)
        how = {"stream": stream, "places": places, "begin": run.levels[0].t}
        how["shape"] = (size + probes,)
        return cls.of(model, own, tuple(own), answers=Flow(), **how)

    def changed(
        self, inside: Denoiser, x: Float[Tensor, "n *state"], level: Level, times: Times
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        graph, shape = torch.is_grad_enabled(), inside.data_shape
        signs = None if self.stream is None else self._signs(self.stream, level, shape)
        with torch.inference_mode(False), torch.enable_grad():
            data = x[:, : math.prod(shape)].reshape(len(x), *shape)
            if not (graph and data.requires_grad):
                data = data.detach().clone().requires_grad_()
            out = inside.evaluate(data, level, times.clone())
            if not out.requires_grad:
                raise ValueError(
                    "model: its network's answer has no gradient with respect to the state "
                    "(computed under torch.no_grad or outside torch?); expected one that autograd "
                    "can differentiate"
                )
            p = combine(inside.linear(level).mix(FLOW.p_of), (data, out))
            traces = FLOW.P(level) @ _traces(p, data, signs, graph)
            both = torch.cat([p.flatten(1), traces], 1)
        return (both if graph else both.detach()), None

    def _signs(
        self, stream: Stream, level: Level, shape: tuple[int, ...]
    ) -> Float[Tensor, "probes n size"]:
        drawn = stream.at(Place(self.places.get(level.t, self.begin), 0))
        if NUMBERS in self.conditioning:
            drawn = drawn[self.conditioning[NUMBERS].to(drawn.device)]
        signs = torch.where(drawn < 0.0, -1.0, 1.0).to(drawn.dtype)
        return signs.view(len(drawn), -1, math.prod(shape)).transpose(0, 1)


def _steps(program: Program) -> dict[float, float]:
    """By the time of each evaluation the one at which its step begins."""
    begins: dict[float, float] = {}
    here = program.start.t
    for i in program:
        if isinstance(i, Evaluate):
            begins.setdefault(i.level.t, here)
        elif isinstance(i, Arrive):
            here = i.level.t
    return begins


def _traces(p: Tensor, x: Tensor, signs: Tensor | None, graph: bool) -> Tensor:
    """tr ∂p/∂x of each sample, (n, 1), or v·(∂p/∂x)ᵀv for each of the probes, (n, probes)."""
    n, size = len(x), x[0].numel()
    if signs is not None:
        products = _products(p, x, signs, graph)
        return (products * signs).sum(2).T
    together = max(1, min(size, MOST // x.numel()))
    trace = torch.zeros(n, dtype=p.dtype, device=p.device)
    for k in range(0, size, together):
        unit = torch.eye(size, dtype=p.dtype, device=p.device)[k : k + together]
        vectors = unit[:, None, :].expand(-1, n, -1)
        trace = trace + (_products(p, x, vectors, graph) * vectors).sum((0, 2))
    return trace[:, None]


def _products(p: Tensor, x: Tensor, vectors: Tensor, graph: bool) -> Tensor:
    """(∂p/∂x)ᵀv for k vectors, (k, n, D): all in one pass, or one after another where some
    operation of the network's cannot be vectorised."""
    vectors = vectors.to(p.dtype)
    shaped = vectors.reshape(len(vectors), *p.shape)
    kept: Any = {"retain_graph": True, "create_graph": graph, "materialize_grads": True}
    try:
        found = torch.autograd.grad(p, x, shaped, is_grads_batched=True, **kept)[0]
    except RuntimeError:
        found = torch.stack([torch.autograd.grad(p, x, v, **kept)[0] for v in shaped])
    return found.flatten(2)
