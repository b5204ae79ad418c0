"""What a comparison measured: its numbers, what is to be said of them, and the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..output import columns
from ..typing import Float, Int


@dataclass(frozen=True, eq=False)
class Measured:
    """Numbers and samples of S solvers at K budgets, n samples each; prints as a table.

    Attributes:
        solvers: the labels of the rows, S of them.
        nfe: the budgets, K of them.
        errors: (S, K, n), the error of every sample; NaN where a run is missing, inf where it is
            not finite.
        spent: (S, K), evaluations spent; 0 where a run has not been made.
        seconds: (S, K), how long a run took. For information: one measurement, coefficients and
            network already warm.
        samples: {(label, nfe): (n, *shape)}.
        reference: (n, *shape), the ends of the ODE from the same starts.
        method: what the reference was made with.
        stochastic: labels of solvers that draw noise. They sample the same distribution by another
            path, so that their distance to the ODE's end is not an error and need not vanish.
        seed: of starts and noise.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> found = flowsolve.compare(model, solvers=("ddim", "ddpm"), nfe=5, n=4)
        >>> found.errors.shape, sorted(found.stochastic), found.samples["ddim", 5].shape
        (torch.Size([2, 1, 4]), ['ddpm'], torch.Size([4, 2]))
    """

    solvers: tuple[str, ...]
    nfe: tuple[int, ...]
    errors: Float[Tensor, "S K n"]
    spent: Int[Tensor, "S K"]
    seconds: Float[Tensor, "S K"]
    samples: Mapping[tuple[str, int], Float[Tensor, "n *shape"]]
    reference: Float[Tensor, "n *shape"]
    method: str
    stochastic: frozenset[str]
    seed: int

    @property
    def rmse(self) -> Float[Tensor, "S K"]:
        """(S, K): the root mean square over samples."""
        return self.errors.square().mean(-1).sqrt()

    @property
    def median(self) -> Float[Tensor, "S K"]:
        """(S, K): the median over samples."""
        ordered, n = self.errors.sort(-1).values, self.errors.shape[-1]
        return 0.5 * (ordered[..., (n - 1) // 2] + ordered[..., n // 2])

    @property
    def finished(self) -> int:
        """How many of the S·K runs have been made."""
        return int((self.spent > 0).sum())

    def cell(self, i: int, k: int) -> str:
        """What is to be said of solver i at budget k: "RMSE (median)", or why there is no
        number."""
        if self.spent[i, k] == 0:
            return "-"
        if (self.solvers[i], self.nfe[k]) not in self.samples:
            return "over budget"
        if not self.errors[i, k].isfinite().all():
            return "not finite"
        return f"{_number(self.rmse[i, k].item())} ({_number(self.median[i, k].item())})"

    def title(self, i: int) -> str:
        """The label of row i, with an asterisk if the solver draws noise."""
        return self.solvers[i] + " *" * (self.solvers[i] in self.stochastic)

    @property
    def setting(self) -> str:
        """What was compared with what."""
        samples = f"{len(self.reference)} samples" if len(self.reference) > 1 else "1 sample"
        return f"{samples}, seed {self.seed}; reference: {self.method}"

    def notes(self) -> list[str]:
        """What a reader of the numbers has to know, a line each."""
        noise = ["* draws noise: its distance to the end of the ODE is not an error"]
        return [
            f"RMSE (median) of the distance to the reference; {self.setting}",
            *noise * bool(self.stochastic),
        ]

    def __str__(self) -> str:
        rows = [["solver", *(f"nfe={nfe}" for nfe in self.nfe), "spent", "seconds"]]
        for i in range(len(self.solvers)):
            made = self.spent[i] > 0
            spent = ", ".join(map(str, self.spent[i][made].tolist()))
            cells = [self.cell(i, k) for k in range(len(self.nfe))]
            rows.append(
                [self.title(i), *cells, spent or "-", f"{self.seconds[i].sum().item():.2f}"]
            )
        return "\n".join([columns(rows), *self.notes()])

    def __repr__(self) -> str:
        return str(self)


def _number(value: float) -> str:
    return f"{value:#.2g}".rstrip(".")
