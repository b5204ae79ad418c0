r"""Guidance: a function of the model, not of the solver.

Two predictions are combined,

.. math:: \hat\varepsilon = \hat\varepsilon_u + w\,(\hat\varepsilon_c - \hat\varepsilon_u),

w = 1 being the one of the condition and w = 0 the other one. (Some papers, and some libraries,
write w − 1 for w.) The weights add up to one, so it is the same in whatever the network returns:
ε̂, x̂0, v. The other prediction is the same network's without the condition (classifier-free
guidance, arXiv 2207.12598), or that of a worse network (autoguidance, arXiv 2406.02507). With a
classifier (arXiv 2105.05233, algorithm 2)

.. math:: \hat\varepsilon = \hat\varepsilon_c - wR\,\nabla_x\ln p(y\mid x_t).

An evaluation with both predictions is one evaluation, on a doubled batch where the two conditions
can be put into one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from torch import Tensor

from . import conditioning as conditions
from .checked import Fraction, checked, read
from .denoiser import Denoiser
from .errors import Unsuited, refused
from .guides import Classifier, Guided, Weight
from .processes import Level, Number
from .readers import Later, Must
from .typing import Float

#: w, one for all samples, one for each, or as a function of the level.
Scale = Annotated[
    Float[Tensor, "n"] | float | Callable[[Level], float],
    Later("_scale_of"),
]
Radius = Annotated[float, Must(lambda r: r > 0.0, "a positive number, or inf", infinite=True)]
#: How the names of what a guidance is told begin.
NAME = "guidance "


@checked
def guided(
    model: Denoiser,
    unconditional: Mapping[str, Any] | None = None,
    *,
    scale: Scale,
    other: Denoiser | None = None,
    classifier: Classifier | None = None,
    interval: tuple[Number, Number] | None = None,
    rescale: Fraction = 0.0,
    project: tuple[Radius, Number] | None = None,
) -> Denoiser:
    """``model`` with guidance, a denoiser for every solver. One of ``unconditional``, ``other`` and
    ``classifier`` says away from what, or towards what.

    Args:
        model: the conditional model, ``model.given(label=3)``.
        unconditional: what the network is told instead, ``{"label": None}``; the rest stays.
        scale: w; 1 is no guidance, and the other prediction is then not asked for. A number, a
            tensor (n,) with one for each sample, or a function of the
            :class:`~flowsolve.Level`. With a classifier the weight of its gradient, 0 being none.
        other: a worse model on the same process, with a conditioning of its own.
        classifier: a function (x, level) to ln p(y | x), (n,), that autograd can differentiate.
        interval: (low, high), the noise levels σ̄ = R/A between which to guide (arXiv 2404.07724);
            elsewhere the conditional model alone is asked. The answers jump at both, and "auto"
            then takes rules of order two (docs/tuning.md).
        rescale: φ, how far to bring the deviation of what is returned back to that of the
            conditional prediction, sample by sample (arXiv 2305.08891, eq. 15 and 16). In the units
            of the network's own output, on which the result depends.
        project: (r, η) of APG (arXiv 2410.02416) on x̂0: the difference between the predictions no
            longer than r, and η of its part along the conditional x̂0. Without momentum, which is a
            memory from one evaluation to the next.

    Guided x̂0 and ε̂ are those of the product :math:`p_c^w p_u^{1-w}` *of the noisy laws*, which are
    the laws of noisy data from the product of the clean ones for Gaussians of one covariance only.

    Returns:
        A denoiser of ``model``'s shape, on its process.

    Raises:
        TypeError, ValueError: for arguments that do not fit together.
        Unsuited: for ``rescale``, ``project``, ``interval`` and ``classifier`` where A and R are
            matrices.

    Examples:
        >>> model = flowsolve.digits(label=3)
        >>> guided = flowsolve.guided(model, {"label": None}, scale=2.0, interval=(0.1, 10.0))
        >>> flowsolve.sample(guided, nfe=4, n=2, seed=0).shape
        torch.Size([2, 1, 8, 8])
    """
    ways = {"unconditional": unconditional, "other": other, "classifier": classifier}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        said = ", ".join(given) or "none"
        raise ValueError(f"{said}: expected one of unconditional=, other= and classifier=")
    for name, value in {"rescale": rescale, "project": project, "interval": interval}.items():
        if value and not model.process.scalar:
            raise Unsuited(f"{name}={value!r} is defined for processes whose A and R are numbers")
        if value and classifier is not None and name != "interval":
            raise ValueError(f"{name}={value!r}: there are no two predictions with classifier=")
    if classifier is not None and not model.process.scalar:
        raise Unsuited("classifier=... is defined for processes whose A and R are numbers")
    if interval is not None and not 0.0 <= interval[0] < interval[1]:
        raise ValueError(refused("interval", interval, "(low, high) with 0 <= low < high"))
    told = dict(unconditional or {})
    for name in told:
        if name not in model.conditioning:
            known = ", ".join(model.conditioning) or "nothing"
            raise ValueError(
                f"unconditional: the model is not given {name!r}, but {known}; expected "
                f"model.given({name}=...), and here what to put in its place"
            )
    if other is not None and (other.process != model.process or other.shape != model.shape):
        raise ValueError(
            f"other: a model of {other.process!r} and shape {other.shape}; expected those of the "
            f"model, {model.process!r} and {model.shape}"
        )
    number = sum(key.startswith(NAME) for key in model.conditioning)  # of guidances inside
    name = f"{NAME}{number}"
    weight, each = _scale_of(scale)
    own = {"scale": each, "instead": told, "other": other.conditioning if other else {}}
    rows = ["scale"] if each is not None else []
    rows += [f"instead.{key}" for key in told if _by_sample(model, key, told[key])]
    rows += [f"other.{key}" for key in (other and other.per_sample) or ()]
    return Guided.of(
        model,
        {name: own},
        [f"{name}.{each}" for each in rows],
        name=name,
        scale=weight,
        other=other,
        classifier=classifier,
        interval=interval,
        rescale=rescale,
        project=project,
    )


def _scale_of(scale: Any) -> tuple[Any, Tensor | None]:
    """The scale for all samples, and one for each. Raises TypeError or ValueError for others."""
    if callable(scale):
        return scale, None
    if isinstance(scale, Tensor) and scale.ndim == 1:
        good = scale.is_floating_point() and not scale.is_meta and len(scale) > 0
        if not good or not bool(scale.isfinite().all()):
            raise ValueError(refused("scale", scale, "finite floating-point numbers, (n,)"))
        return 1.0, scale
    try:
        return read("scale", scale, Weight), None
    except TypeError:
        expected = "a number, a tensor (n,), or a function of the level"
        raise TypeError(refused("scale", scale, expected)) from None


def _by_sample(model: Denoiser, key: str, value: Any) -> bool:
    """Whether what is told instead has a row for each sample, as what it stands for has."""
    rows = conditions.rows_of(value)
    declared = conditions.declared(key, model.per_sample or ())
    return (
        declared and rows not in (None, 1) and rows == conditions.rows_of(model.conditioning[key])
    )
