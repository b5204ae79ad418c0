r"""Exact denoisers of known data distributions: the library's measuring instruments.

If the data are a mixture :math:`\sum_k w_k N(m_k, C_k)`, a noisy state at a level (A, R) has the
law :math:`\sum_k w_k N(Am_k, S_k)` with :math:`S_k = A C_k A^T + RR^T`. With the responsibilities
:math:`r_k \propto w_k N(x; Am_k, S_k)` and :math:`d_k = x - Am_k`,

.. math::
   \nabla\log p = -\sum_k r_k S_k^{-1}d_k,\qquad
   \hat\varepsilon = R^T\sum_k r_k S_k^{-1}d_k,\qquad
   \hat x_0 = \sum_k r_k\,(m_k + C_kA^TS_k^{-1}d_k).

Each of the two estimates is computed by itself, never as the difference of x and the other. An
exact denoiser is a :class:`~flowsolve.Denoiser` like any other, whose network is the law: of
processes with numbers for A and R it predicts ε̂ − x̂0, from which both are recovered
without cancellation at either end; of others ε̂. The states of the others are reduced to numbers
first (:mod:`flowsolve.exact.reduction`).
"""

from .base import Exact
from .mixtures import Dirac, Empirical, Gaussian, Mixture

__all__ = ["Dirac", "Empirical", "Exact", "Gaussian", "Mixture"]
