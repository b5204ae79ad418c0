r"""A network that predicts x0 by what it adds to the best linear estimate, for processes whose A
and R are matrices.

If clean states had the covariance :math:`\sigma^2`, noisy ones would have
:math:`S = \sigma^2 AA^T + RR^T`, and given a noisy one the clean one the mean Kx and the covariance
C,

.. math:: K = \sigma^2 A^T S^{-1},\qquad C = \sigma^2(1 - KA),\qquad
   \hat x_0 = Kx + C^{1/2} F\bigl(S^{-1/2}x, t\bigr)

so that what the network F is asked for is of one size at every level: EDM's preconditioning (arXiv
2206.00364, section 5), which a network needs that is to be exact where little noise is left and
bounded where little data are.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..checked import Positive, checked
from ..operators import Operator
from ..processes import Process


@checked
class Preconditioned(nn.Module):
    """Called as the ``net`` in it, with times that are the process's t; takes states and returns
    data.

    The coefficients are made on the host from the times it is called with, which on a GPU it waits
    for.

    Args:
        net: takes (batch, *state_shape) and returns (batch, *shape), both of them of unit size.
        process: any whose A and R are operators.
        sigma_data: the root mean square of the data.

    Examples:
        >>> from flowsolve.models import preconditioned, unet
        >>> process = flowsolve.CLD()  # states have velocities, a second channel
        >>> net = preconditioned.Preconditioned(unet.UNet(2, base=8, outputs=1), process, 0.5)
        >>> net(torch.zeros(2, 2, 8, 8), torch.ones(2)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, net: nn.Module, process: Process, sigma_data: Positive) -> None:
        super().__init__()
        self.net, self.process, self.sigma_data = net, process, sigma_data

    def coefficients(self, t: float) -> tuple[Operator, Operator, Operator]:
        """(S^(−1/2), K, C^(1/2)) at time t."""
        # t is the network's: rounded, up perhaps.
        level = self.process.level(min(t, self.process.t_max))
        A: Any = level.A
        R: Any = level.R
        variance = self.sigma_data**2
        root = (A @ A.T * variance + R @ R.T).root()
        white = root.inverse()
        K = A.T @ white.T @ white * variance
        return white, K, ((A.eye() - K @ A) * variance).root()

    def forward(self, x: Tensor, time: Tensor, **conditioning: Any) -> Tensor:
        times = time.tolist()
        known = {t: self.coefficients(t) for t in set(times)}
        white, K, C = zip(*(known[t] for t in times), strict=True)
        out = self.net(white[0].each(white, x), time, **conditioning)
        return self.process.data(K[0].each(K, x) + C[0].each(C, self.process.state(out)))
