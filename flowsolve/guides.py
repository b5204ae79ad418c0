"""Two predictions in one denoiser: what :func:`flowsolve.guided` makes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from . import conditioning as conditions
from . import network
from .about import About
from .around import Around
from .checked import read
from .denoiser import Denoiser
from .doubling import doubled
from .errors import shown
from .network import Times
from .operators import combine
from .processes import Level, Levels
from .readers import Must
from .typing import Float

Weight = Annotated[float, Must(lambda w: abs(w) <= 1e6, "a number from -1e6 to 1e6")]
#: ln p(y | x_t), (n,), of states x (n, *state) on a level.
Classifier = Callable[[Float[Tensor, "n *state"], Level], Float[Tensor, "n"]]


@dataclass(frozen=True, eq=False)
class Guided(Around):
    """A denoiser with guidance; :func:`guided` makes it."""

    _: KW_ONLY
    #: By what it knows in the conditioning what it is told itself.
    name: str
    scale: float | Callable[[Level], float]
    other: Denoiser | None
    classifier: Classifier | None
    interval: tuple[float, float] | None
    rescale: float
    project: tuple[float, float] | None

    @property
    def about(self) -> About:
        about = super().about
        return about if self.interval is None else about._replace(jumps=True)

    def in_run(self) -> Denoiser:
        if self.other is not None:
            network.warn_of_training(self.other.net)
        return super().in_run()

    def changed(
        self, inside: Denoiser, x: Float[Tensor, "n *state"], level: Level, times: Times
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        extra = self._extra(level, x)
        if extra is None:
            return inside.evaluate_both(x, level, times)
        if self.classifier is not None:
            out, learned = inside.evaluate_both(x, level, times)
            return self._towards(out, extra, x, level), learned
        (out, learned), off = self._two(inside, x, level, times)
        if self.project is not None:
            result = self._projected(out, off, extra, x, level)
        else:
            result = out + extra * (out - off)  # with w = 1 the conditional answer to the bit
        if self.rescale:
            result = _rescaled(result, out, self.rescale)
        return result, learned

    def _extra(self, level: Level, x: Tensor) -> Any:
        """w − 1, or w of a classifier, a number or of shape (n, 1, ...); None where it is 0."""
        none = 0.0 if self.classifier is not None else 1.0
        low, high = self.interval or (0.0, math.inf)
        on = [self.interval is None or low <= one.sigma <= high for one in level.each]
        scales = self.conditioning[self.name]["scale"]
        each = [
            0.0 if not here else 1.0 if scales is not None else self._weight(one) - none
            for one, here in zip(level.each, on, strict=True)
        ]
        if not any(each):
            return None
        if scales is None and len(each) == 1:
            return each[0]
        extra = torch.tensor(each, dtype=x.dtype, device=x.device)
        extra = extra if scales is None else extra * (scales.to(x) - none)
        return extra.view(-1, *[1] * (x.ndim - 1))

    def _weight(self, level: Level) -> float:
        return read("scale", self.scale(level), Weight) if callable(self.scale) else self.scale

    def _two(
        self, inside: Denoiser, x: Tensor, level: Level, times: Tensor
    ) -> tuple[tuple[Tensor, Tensor | None], Tensor]:
        """The answer and the learned variance of the condition, and the answer without it."""
        told = self.conditioning[self.name]
        if self.other is not None:
            other = _told(self.other, told["other"])
            return inside.evaluate_both(x, level, times), self._of_other(other, x, level)
        one, n = inside.conditioning, len(x)
        two = {**one, **told["instead"]}
        if conditions.divisible(self.net, self.inner.conditioning, self.per_sample, n):
            both = doubled(one, two, self.per_sample or (), n, x.device)
            if both is not None:
                levels = Levels([*level.each] * 2) if len(level.each) > 1 else level
                pair, t = torch.cat([x, x]), torch.cat([times, times])
                out, learned = _told(inside, both).evaluate_both(pair, levels, t)
                return (out[:n], None if learned is None else learned[:n]), out[n:]
        answer = inside.evaluate_both(x, level, times)
        return answer, _told(inside, two).evaluate(x, level, times)

    def _of_other(self, other: Denoiser, x: Tensor, level: Level) -> Tensor:
        out = other.evaluate(x, level)
        if other.answers == self.inner.answers:
            return out
        both = [combine(pair, (x, out)) for pair in other.linear(level)]
        return combine(self.inner.answers.target(self.process, level), both)

    def _projected(self, out: Tensor, off: Tensor, extra: Any, x: Tensor, level: Level) -> Tensor:
        """APG: the difference of the x̂0 shortened to r, and η of its part along x̂0."""
        assert self.project is not None
        (radius, along), (of_x, of_out) = self.project, self.inside.linear(level).x0
        towards = combine((of_x, of_out), (x, out)).flatten(1)
        gap = (of_out @ (out - off)).flatten(1)
        length = gap.norm(dim=1, keepdim=True)
        gap = gap * (radius / length.clamp(min=radius)) if math.isfinite(radius) else gap
        unit = torch.nn.functional.normalize(towards, dim=1)
        parallel = (gap * unit).sum(1, keepdim=True) * unit
        gap = (gap + (along - 1.0) * parallel).view(x.shape)
        return out + of_out.inverse() @ (extra * gap)

    def _towards(self, out: Tensor, extra: Any, x: Tensor, level: Level) -> Tensor:
        """x̂0 + w (R²/A) ∇ ln p(y|x) in terms of the answer; at pure noise, which says nothing of
        y, the answer as it is."""
        assert self.classifier is not None
        if level.pure_noise:
            return out
        graph = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            at = x if graph and x.requires_grad else x.detach().clone().requires_grad_()
            nats = self.classifier(at, level)
            good = isinstance(nats, Tensor) and nats.shape == (len(x),) and nats.requires_grad
            if not good:
                raise ValueError(
                    f"classifier: it gave {shown(nats)}; expected ln p(y|x), a tensor of shape "
                    f"({len(x)},) that autograd can differentiate"
                )
            gradient = torch.autograd.grad(nats.sum(), at, create_graph=graph)[0]
        shift = (level.R @ level.R @ level.A.inverse()) @ (extra * gradient.to(x.dtype))
        return out + self.inside.linear(level).x0[1].inverse() @ shift


def _told(model: Denoiser, conditioning: Mapping[str, Any]) -> Denoiser:
    """``model``, told something else."""
    model = copy.copy(model)
    object.__setattr__(model, "conditioning", conditioning)
    return model


def _rescaled(guided: Tensor, plain: Tensor, part: float) -> Tensor:
    """``guided``, of which a part has the deviation of ``plain``, sample by sample."""
    one, two = (each.flatten(1).std(1, keepdim=True) for each in (plain, guided))
    ratio = torch.where(two > 0.0, one / two, 1.0)
    factor = part * ratio + (1.0 - part)
    return guided * factor.view(-1, *[1] * (guided.ndim - 1))
