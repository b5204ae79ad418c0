"""Gradients through a run with less memory: its states alone, or none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .around import Around
from .denoiser import Denoiser
from .finite import finite, non_finite
from .leapfrog import Track, reversible, times_of
from .network import Times
from .processes import Level
from .run import Solution
from .typing import Float


def check_memory(memory: str | None, differentiable: bool, given: Mapping[str, Any]) -> None:
    """Raise ValueError unless ``memory`` suits what else is ``given`` to a run."""
    if memory is None:
        return
    if not differentiable:
        raise ValueError(f"memory={memory!r}: expected differentiable=True as well")
    for name, value in given.items() if memory == "constant" else ():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} cannot be given with memory='constant', which has a method and "
                "levels of its own; expected nfe alone, or memory='checkpoint'"
            )


@dataclass(frozen=True, eq=False)
class Checkpointed(Around):
    """A denoiser of which only the states it was asked at are kept for a backward pass."""

    def changed(
        self, inside: Denoiser, x: Float[Tensor, "n *state"], level: Level, times: Times
    ) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"] | None]:
        how: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        return checkpoint(inside.evaluate_both, x, level, times, **how)  # type: ignore[return-value]


def constant(model: Denoiser, x: Tensor, nfe: int, seed: int | tuple[int, ...] | None) -> Solution:
    """The run from ``x`` by the reversible leapfrog, of which nothing is kept."""
    if nfe < 2:
        raise ValueError(f"nfe={nfe}: memory='constant' takes 2 evaluations or more")
    levels = tuple(map(model.process.level, times_of(model.process, nfe - 1)))
    with torch.enable_grad():
        end = reversible(Track(model, levels, lattice=False), x)
    if not finite(end):
        raise non_finite(end, [])
    return Solution(end, nfe, levels, seed)
