"""By what a model is known again: its weights, and what it answers."""

from __future__ import annotations

import gc
import hashlib
import math
import types
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_layout
from ..denoiser import Denoiser
from ..sampling import started

#: How many numbers of an answer are kept, and how far they may be from another device's: so much of
#: the largest.
KEPT, NEAR = 8, 0.05


def weights(model: Denoiser) -> str | None:
    """A checksum of all parameters and buffers that a model can be seen to hold, whatever wraps its
    networks; None if there is none."""
    found = hashlib.sha256()
    digests = sorted(_digest(net) for net in modules(model))
    for digest in digests:
        found.update(digest)
    return f"sha256:{found.hexdigest()}" if digests else None


def modules(holder: Any) -> list[nn.Module]:
    """The modules that an object refers to, through fields, closures and containers; of modules
    within modules the outer ones."""
    found, seen, left = [], set(), [holder]
    while left:
        value = left.pop()
        if id(value) in seen or isinstance(value, (type, types.ModuleType, Tensor)):
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found.append(value)
        elif isinstance(value, types.FunctionType):  # its globals are not its own
            left += [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
            left += value.__defaults__ or ()
        else:
            left += gc.get_referents(value)
    return found


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # of a name that nothing was bound to
        return False


def _digest(net: nn.Module) -> bytes:
    """The names that torch.compile changes are left out; their order is the same."""
    found = hashlib.sha256()
    for tensor in net.state_dict().values():
        if isinstance(tensor, Tensor):
            found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            found.update(_bytes(tensor.detach()))
    return found.digest()


def _bytes(tensor: Tensor) -> Any:
    flat = tensor.cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy() if len(flat) else b""


def answer(model: Denoiser, first: int, seed: int) -> list[float]:
    """A few numbers of x̂0 at a state that depends on (seed, first) alone, on the level in the
    middle of ddim's two steps."""
    level = check_layout(model.process, "ddim", 2, None, (None, None), {}).levels[1]
    model = model.in_run().rows(slice(first, first + 1))
    with torch.no_grad():
        said = model(started(model, level, 1, seed, first, None), level).x0
    flat = model.process.data(said).flatten().double()
    return flat[torch.linspace(0, len(flat) - 1, min(KEPT, len(flat))).long()].tolist()


def near(a: list[float], b: list[float]) -> bool:
    """Whether two answers are one, but for rounding. Where one is not a number, so is the other."""
    size = max((abs(x) for x in (*a, *b) if math.isfinite(x)), default=0.0)
    return len(a) == len(b) and all(
        abs(x - y) <= NEAR * size or repr(x) == repr(y) for x, y in zip(a, b, strict=True)
    )
