"""How good a digits model is, measured: ``python -m flowsolve.models.quality [--process cld]``.

Three figures for 2,000 samples, 200 of each class: the Fréchet distance between Gaussians fitted to
the pixels of samples and of data, how many a classifier trained on real digits takes for what was
asked, and how near the samples are to their nearest training image (nearer than held-out digits are
would mean copying). Real held-out digits are the yardstick.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checked import Count, OneSeed, checked
from ..denoiser import Denoiser
from ..errors import refused, require
from ..grids import Uniform
from ..output import columns
from ..sampling import DEFAULT_NFE, DEFAULT_SOLVER, sample
from ..training import bound
from .data import BINS, CLASSES, data
from .digits import RECIPES, digits


class Quality(NamedTuple):
    """One row of the report; ``accuracy`` is None for samples of no class."""

    name: str
    frechet: float
    accuracy: float | None
    nearest: float


def _pixels(**images: Tensor) -> list[Tensor]:
    """The images as rows of pixels, (n, pixels) in float64. Raises ValueError, naming it, for what
    are no images, or not of the others' size."""
    size = 0
    for name, x in images.items():
        if x.ndim < 2 or not x.numel() or x.is_complex() or x.is_meta or not x.isfinite().all():
            raise ValueError(refused(name, x, "images (n, ...), finite, n >= 1"))
        size = size or x[0].numel()
        if x[0].numel() != size:
            raise ValueError(refused(name, x, f"images of {size} pixels, as the others are"))
    return [x.double().flatten(1) for x in images.values()]


@checked
def frechet(x: Tensor, y: Tensor) -> float:
    """‖μ − ν‖² + tr(C + D − 2(CD)^½) of the means and covariances of two sets of images (n, …),
    over their pixels. Raises ValueError for what are none, and for one alone.

    Examples:
        >>> from flowsolve.models import quality
        >>> x = torch.randn(100, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> round(quality.frechet(x, x + 0.5), 4)  # the means differ by ½ in four pixels
        1.0
    """
    x, y = _pixels(x=x, y=y)
    for name, rows in (("x", x), ("y", y)):
        if len(rows) < 2:
            raise ValueError(refused(name, rows, "two images or more, which have a covariance"))
    c, d = x.T.cov(), y.T.cov()
    values, vectors = torch.linalg.eigh(c)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # tr (CD)^½, of a symmetric matrix.
    cross = torch.linalg.eigvalsh(root @ d @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + c.trace() + d.trace() - 2 * cross)


@checked
def nearest(x: Tensor, among: Tensor) -> float:
    """The median over ``x`` of the Euclidean distance to the nearest image of ``among``.

    Examples:
        >>> from flowsolve.models import quality
        >>> quality.nearest(torch.zeros(3, 1, 2, 2), torch.ones(5, 1, 2, 2))
        2.0
    """
    x, among = _pixels(x=x, among=among)
    return float(torch.cdist(x, among).min(1).values.median())


@lru_cache
def classifier() -> Any:
    """A support vector machine (radial kernel) trained on the training digits.

    Examples:
        >>> from flowsolve.models import data, quality
        >>> quality.classifier().predict(data.data().held_out[:3].flatten(1)).shape
        (3,)
    """
    split = data()
    machine = require("sklearn.svm", "train", "a shipped model").SVC(C=10.0)
    return machine.fit(split.train.flatten(1).numpy(), split.train_labels.numpy())


@checked
def accuracy(x: Tensor, labels: Tensor) -> float:
    """The share of the images (n, 1, 8, 8) that the classifier takes for their labels, (n,). Raises
    ValueError for labels of another number.

    Examples:
        >>> from flowsolve.models import data, quality
        >>> split = data.data()
        >>> quality.accuracy(split.held_out, split.held_out_labels) > 0.97
        True
    """
    (pixels,) = _pixels(x=x)
    if labels.shape != (len(x),):
        raise ValueError(refused("labels", labels, f"a digit for each image, ({len(x)},)"))
    found = classifier().predict(pixels.to(x.dtype).numpy())
    return float((found == labels.numpy()).mean())


@checked
def measure(name: str, x: Tensor, labels: Tensor | None, real: Tensor | None = None) -> Quality:
    """The three figures for images ``x`` (n, 1, 8, 8), their Fréchet distance being to ``real``,
    by default all 1,797 digits.

    Examples:
        >>> from flowsolve.models import data, quality
        >>> split = data.data()
        >>> found = quality.measure("real", split.held_out, split.held_out_labels)
        >>> found.name, found.accuracy > 0.97
        ('real', True)
    """
    split = data()
    return Quality(
        name,
        frechet(x, torch.cat([split.train, split.held_out]) if real is None else real),
        None if labels is None else accuracy(x, labels),
        nearest(x, split.train),
    )


def held_out() -> Quality:
    """The yardstick: the same figures for the held-out digits, their Fréchet distance being to the
    training digits."""
    split = data()
    return measure("held-out digits", split.held_out, split.held_out_labels, split.train)


@checked
def report(
    model: Denoiser | None = None,
    *,
    solvers: Sequence[str] = (DEFAULT_SOLVER, "ddim"),
    nfe: Count = DEFAULT_NFE,
    n: Count = 2000,
    seed: OneSeed = 0,
) -> list[Quality]:
    """The table's rows: held-out digits, the model with each solver, and without a class with the
    first.

    Args:
        model: the shipped one by default.
        solvers: names of solvers.
        nfe: evaluations for each sample.
        n: samples in each row.
        seed: of the samples.

    Returns:
        A row for the held-out digits, one for each solver, one for samples of no class.

    Examples:
        >>> from flowsolve.models import quality
        >>> [row.name for row in quality.report(solvers=("ddim",), nfe=2, n=20)]
        ['held-out digits', 'ddim, nfe=2, by class', 'ddim, nfe=2, no class']
    """
    model = model or digits()
    labels = torch.arange(n, device="cpu") % CLASSES
    rows = [held_out()]
    for solver in solvers:
        x = sample(
            model.given(label=labels), solver=solver, nfe=nfe, n=n, seed=seed, batch_size=500
        )
        rows.append(measure(f"{solver}, nfe={nfe}, by class", x, labels))
    x = sample(model.given(label=None), solver=solvers[0], nfe=nfe, n=n, seed=seed, batch_size=500)
    return [*rows, measure(f"{solvers[0]}, nfe={nfe}, no class", x, None)]


def table(rows: Sequence[Quality]) -> str:
    """The rows of a report, for people."""
    cells = [(" " * 34, " Fréchet", "accuracy", "  nearest")]
    for row in rows:
        share = "—" if row.accuracy is None else f"{row.accuracy:.4f}"
        cells.append((row.name, f"{row.frechet:.3f}", share, f"{row.nearest:.3f}"))
    return columns(cells, "<>>>", gap=1)


@checked
def bits_per_dimension(
    model: Denoiser | None = None, *, steps: Count = 100, seed: OneSeed = 0
) -> float:
    """The variational bound on the held-out digits given their class, in bits a pixel (at most log₂
    17 = 4.09 for a useful one).

    Examples:
        >>> from flowsolve.models import quality
        >>> 0.0 < quality.bits_per_dimension(steps=4) < 10.0
        True
    """
    model, split = model or digits(), data()
    levels = Uniform().levels(model.process, steps)
    told = model.given(label=split.held_out_labels)
    return bound(told, split.held_out, levels, bins=BINS, seed=seed).total.mean().item()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m flowsolve.models.quality", description="Measure a digits model."
    )
    parser.add_argument(
        "--process", choices=RECIPES, default="cosine", help="which model (default: cosine)"
    )
    parser.add_argument("--weights", help="a file of weights (default: the shipped one)")
    parser.add_argument(
        "--solvers",
        type=lambda names: [name.strip() for name in names.split(",")],
        default=(DEFAULT_SOLVER, "ddim"),
        help="names with commas (default: auto,ddim)",
    )
    parser.add_argument("--nfe", type=int, default=DEFAULT_NFE)
    parser.add_argument("-n", type=int, default=2000, help="samples in each row (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    model = digits(process=given.process, weights=given.weights)
    print(table(report(model, solvers=given.solvers, nfe=given.nfe, n=given.n, seed=given.seed)))
    if model.process.scalar:
        bits = bits_per_dimension(model)
        print(f"variational bound on held-out digits: {bits:.3f} bits per dimension")


if __name__ == "__main__":
    main()
