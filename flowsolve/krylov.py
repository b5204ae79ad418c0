r"""Linear equations of each sample by itself, (σ² + M) u = b, M known by its products alone.

M = HVHᵀ is symmetric and positive where V is a covariance. That of a network, which is no exact
mean, is so only nearly, and conjugate gradients, which rely on it, give answers of any size. So the
products are kept: in the basis Q of the Krylov space (Arnoldi's) M is a small matrix, and how far
it is from symmetric and positive is seen in it,

.. math::
   \delta = \lVert\tfrac12(Q^TMQ - Q^TM^TQ)\rVert_F/\sqrt2 + \max(0, -\lambda_{\min}).

M is known no better than that, which acts as noise of variance δ on b: (σ² + δ + M) u = b is what
is solved in that space. Where M is what it should be, δ = 0 and this is the method of conjugate
gradients, whose iterates are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .typing import Float

#: At which relative residual a sample has arrived, and after how many products it stops anyway.
RESIDUAL, MOST = 1e-4, 32


def solved(
    product: Callable[[Tensor], tuple[Tensor, Tensor]], b: Float[Tensor, "n m"], variance: float
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n *state"]]:
    """(u, B u) for b (n, m) in float64, where ``product(w)`` is (M w, B w), B of any shape.

    A sample that has arrived stands still while others go on, so that none depends on its
    neighbours.
    """
    size = torch.linalg.vector_norm(b, dim=1)
    running = size > 0.0
    basis, moved, columns = [_unit(b, size)], [], []
    found = b.new_zeros(len(b), 0)
    for k in range(min(b.shape[1], MOST)):
        w, shift = product(basis[k])
        moved.append(shift)
        column = torch.zeros_like(b[:, :1]).expand(-1, k + 1)
        for _ in range(2):  # once more, for what rounding left
            parts = torch.stack([(w * q).sum(1) for q in basis], 1)
            column = column + parts
            for part, q in zip(parts.unbind(1), basis, strict=True):
                w = w - part[:, None] * q
        rest = torch.linalg.vector_norm(w, dim=1)
        columns.append(torch.cat([column, rest[:, None]], 1))
        small = torch.stack([_to(c, k + 1) for c in columns], 2)
        running = running & torch.isfinite(small).flatten(1).all(1)
        # Who has arrived may have nothing left to go on with.
        small = torch.where(running[:, None, None], small, torch.zeros_like(small))
        answer = torch.linalg.solve(
            small + _diagonal(variance + doubt(small), k + 1),
            _to(size[:, None], k + 1),
        )
        found = torch.where(running[:, None], answer, _to(found, k + 1))
        basis.append(_unit(w, rest))
        running = running & (rest * answer[:, -1].abs() > RESIDUAL * size)
        if not bool(running.any()):
            break
    u, total = torch.zeros_like(b), torch.zeros_like(moved[0])
    # One after another: more of them, with zeros, change nothing.
    for c, q, shift in zip(found.unbind(1), basis, moved, strict=False):
        u, total = u + c[:, None] * q, total + c.view(-1, *[1] * (shift.ndim - 1)) * shift
    return u, total


def doubt(small: Float[Tensor, "n k k"]) -> Float[Tensor, "n"]:
    """δ, how far matrices are from symmetric and positive, (n,)."""
    skew = torch.linalg.vector_norm((small - small.mT).flatten(1), dim=1) / 8.0**0.5
    least = torch.linalg.eigvalsh(0.5 * (small + small.mT))[:, 0]
    return skew + (-least).clamp(min=0.0)


def _unit(w: Tensor, size: Tensor) -> Tensor:
    return w / torch.where(size > 0.0, size, 1.0)[:, None]


def _diagonal(values: Tensor, k: int) -> Tensor:
    return values[:, None, None] * torch.eye(k, dtype=values.dtype, device=values.device)


def _to(rows: Tensor, k: int) -> Tensor:
    """Rows (n, *) cut or filled up with zeros to (n, k)."""
    rows = rows[:, :k]
    return torch.nn.functional.pad(rows, (0, k - rows.shape[1]))
