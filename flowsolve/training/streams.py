"""What is random in a step of training: a generator of its own, and torch's global one for what a
network draws itself.

Dropout knows no other generator than torch's global one. It is seeded for each step, lent to the
network for the run, and put back as it was when the last of the runs that borrow it has ended: two
trainings at a time, in threads, keep their weights apart only if their networks draw nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..denoiser import Denoiser
from ..processes import Level


def batch(
    model: Denoiser,
    data: Tensor,
    labels: tuple[Tensor, int, float] | None,
    size: int,
    step: tuple[int, int],
    lent: Sequence[torch.Generator],
) -> tuple[Denoiser, Tensor, Tensor, list[Level]]:
    """What a loss is called with at a (seed, step).

    Args:
        model: what is trained.
        data: (N, *shape).
        labels: of the data, the null class, and the probability of it.
        size: of the batch.
        step: seed and number of the step.
        lent: torch's global generators, the CPU's first; they begin with the step too.
    """
    number = int(np.random.SeedSequence(step).generate_state(1, np.uint64)[0]) >> 1
    random, process = torch.Generator().manual_seed(number), model.process
    drawn: Any = {"generator": random, "device": "cpu"}
    pick = torch.randint(len(data), (size,), **drawn)
    offset = torch.rand((), dtype=torch.float64, **drawn)
    u = (torch.arange(size, device="cpu") + offset) / size
    eps = torch.randn(size, *model.state_shape, dtype=torch.float32, **drawn).to(data)
    if labels is not None:
        of_data, null, drop = labels
        dropped = torch.rand(size, dtype=torch.float32, **drawn) < drop
        model = model.given(label=of_data[pick].masked_fill(dropped.to(of_data.device), null))
    for each in lent:
        each.manual_seed(number)
    lent[0].set_state(random.get_state())  # the network's own draws follow
    return model, data[pick], eps, [process.level(t) for t in process.training_times(u).tolist()]


class drawing(TorchFunctionMode):
    """A block in which a new network draws its weights, in float32, from a generator of its own:
    those that torch's global one would give after ``torch.manual_seed(seed)``."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        # All of torch.nn.init can be given a generator, and modules ask for dtype=None.
        for name, ours in (("generator", self.random), ("dtype", torch.float32)):
            if named.get(name, self) is None:
                named[name] = ours
        return func(*args, **named)


_LOCK = threading.Lock()
#: How many runs have each of torch's generators, and how it was before.
_BORROWED: dict[torch.device, tuple[int, Tensor]] = {}


@contextlib.contextmanager
def borrowed(device: torch.device) -> Iterator[Sequence[torch.Generator]]:
    """torch's global generators, of the CPU and of ``device``, to be seeded at will."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    elif device.type == "mps":
        generators.append(torch.mps._get_default_mps_generator())
    with _LOCK:
        for each in generators:
            users, before = _BORROWED.get(each.device, (0, None))
            kept = each.get_state() if before is None else before
            _BORROWED[each.device] = (users + 1, kept)
    try:
        yield generators
    finally:
        with _LOCK:
            for each in generators:
                users, before = _BORROWED.pop(each.device)
                if users == 1:
                    each.set_state(before)
                else:
                    _BORROWED[each.device] = (users - 1, before)
