r"""Networks of other code bases as denoisers: what each of them is told, and what it returns.

No file is read here: build the network with its own code and load its weights, from safetensors
where there are; EDM's ``.pkl`` files hold source code that loading runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from ..checked import Positive, checked
from ..corrections import clip
from ..denoiser import Denoiser
from ..network import Net, Shape, answer
from ..processes import EDM, VE, VP, Level, RectifiedFlow, SubVP, tables

__all__ = ["edm", "flow_matching", "guided_diffusion", "lucidrains", "score_sde"]


class Called(nn.Module):
    """A network called in another way: ``call(net, x, t, **conditioning)``."""

    def __init__(self, net: Net, call: Callable[..., Any]) -> None:
        super().__init__()
        self.net, self.call = net, call
        if isinstance(net, nn.Module):
            self.train(net.training)

    def forward(self, x: Tensor, t: Tensor, **conditioning: Any) -> Any:
        return self.call(self.net, x, t, **conditioning)


def _around(net: Net, call: Callable[..., Any]) -> Net:
    """The network called so; a module where it is one, which knows where its parameters are."""
    if isinstance(net, nn.Module):
        return Called(net, call)
    return lambda x, t, **conditioning: call(net, x, t, **conditioning)


@checked
def guided_diffusion(
    net: Net,
    *,
    shape: Shape | None = None,
    steps: tables.Entries = 1000,
    schedule: Literal["linear", "cosine"] = "linear",
    learn_sigma: bool = True,
    predict_xstart: bool = False,
    rescale_timesteps: bool = False,
    clip_denoised: bool = True,
) -> Denoiser:
    """A network of openai/guided-diffusion or improved-diffusion, with the flags of its scripts.

    It is told the index in the table of ``steps``, as an integer, times 1000/steps if
    ``rescale_timesteps``; with ``learn_sigma`` it returns twice the channels, and ddpm and ddim
    with eta use its variance. Its "ddim25" is the grid "leading" with 25 evaluations, its "25"
    "linspace". Those with classes are told by ``model.given(y=labels)``.

    Returns:
        The denoiser, on a table of β's.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Examples:
        >>> net = lambda x, index: torch.cat((x, torch.zeros_like(x)), 1)  # ε̂ and a variance
        >>> model = flowsolve.integrations.conventions.guided_diffusion(net, shape=(3, 8, 8))
        >>> flowsolve.sample(model, solver="ddpm", nfe=4, n=2, seed=0).shape
        torch.Size([2, 3, 8, 8])
    """
    scale = 1000.0 / steps
    if schedule == "cosine":
        betas = tables.cosine(steps)
    else:
        betas = tables.linear(steps, scale * 1e-4, min(scale * 0.02, 0.999))

    def told(level: Level) -> float:
        return level.t * scale if rescale_timesteps else round(level.t)

    return Denoiser(
        net,
        VP.discrete(betas),
        "x0" if predict_xstart else "eps",
        shape,
        time=told,
        variance="learned_range" if learn_sigma else None,
        correct_x0=clip() if clip_denoised else None,
    )


@checked
def score_sde(
    net: Net,
    *,
    shape: Shape | None = None,
    sde: Literal["vp", "subvp", "ve"] = "vp",
    beta_min: Positive = 0.1,
    beta_max: Positive = 20.0,
    sigma_min: Positive = 0.01,
    sigma_max: Positive = 50.0,
) -> Denoiser:
    """A network of yang-song/score_sde_pytorch, trained in continuous time.

    That of "vp" and "subvp" is told 999 t, and its score is −out/std, so that what it returns is ε̂;
    that of "ve" is told σ and returns the score.

    Returns:
        The denoiser, on VP, sub-VP or VE.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Examples:
        >>> net = lambda x, told: torch.zeros_like(x)
        >>> flowsolve.integrations.conventions.score_sde(net, shape=(3, 8, 8), sde="ve").process
        VE(sigma_min=0.01, sigma_max=50.0, t_max=1.0, t_min=0.0, t_clean=-inf)
    """
    if sde == "ve":
        process: Any = VE(sigma_min, sigma_max)
        return Denoiser(net, process, "score", shape, time="sigma")
    process = (VP if sde == "vp" else SubVP)(beta_min, beta_max)
    return Denoiser(net, process, "eps", shape, time=lambda level: 999.0 * level.t)


@checked
def edm(net: Net, *, shape: Shape | None = None) -> Denoiser:
    """A preconditioned network of NVlabs/edm, ``net(x, sigma, class_labels)``, which returns x0.
    Its ``sigma_min``, ``sigma_max``, ``img_channels`` and ``img_resolution`` are read, if it has
    them.

    Returns:
        The denoiser, on EDM's process.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Examples:
        >>> net = lambda x, sigma, class_labels=None: 0.5 * x
        >>> flowsolve.integrations.conventions.edm(net, shape=(3, 8, 8)).predicts
        'x0'
    """
    low, high = (float(getattr(net, f"sigma_{which}", 0.0)) for which in ("min", "max"))
    process = EDM(max(low, 0.002), min(high or 80.0, 80.0))
    size = getattr(net, "img_resolution", None)
    if shape is None and size is not None:
        shape = (int(net.img_channels), int(size), int(size))  # type: ignore[attr-defined]
    return Denoiser(net, process, "x0", shape, time="sigma")


@checked
def lucidrains(diffusion: Any) -> Denoiser:
    """A ``GaussianDiffusion`` of lucidrains/denoising-diffusion-pytorch: its network, its table and
    its objective, x0 clipped to [−1, 1] and the noise derived again. Samples are in [−1, 1]; its
    own ``sample`` maps them to [0, 1].

    Returns:
        The denoiser, on the diffusion's own table of β's.

    Raises:
        TypeError: for what is none.
        ValueError: for one with self-conditioning, whose network is told its last answer.

    Examples:
        >>> from types import SimpleNamespace
        >>> diffusion = SimpleNamespace(  # what is read of a GaussianDiffusion
        ...     model=lambda x, t: x, objective="pred_v", betas=torch.linspace(1e-4, 0.02, 1000),
        ...     image_size=8, channels=3,
        ... )
        >>> flowsolve.integrations.conventions.lucidrains(diffusion).shape
        (3, 8, 8)
    """
    predicts = {"pred_noise": "eps", "pred_x0": "x0", "pred_v": "v"}
    kind = getattr(diffusion, "objective", None)
    if kind not in predicts or not hasattr(diffusion, "model"):
        raise TypeError(
            f"diffusion is a {type(diffusion).__name__} with objective={kind!r}; expected a "
            f"GaussianDiffusion, with one of {', '.join(predicts)}"
        )
    if getattr(diffusion, "self_condition", False):
        raise ValueError(
            "self_condition=True: what the network returns depends on the evaluation before; "
            "expected one trained without"
        )
    size = diffusion.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    return Denoiser(
        diffusion.model,
        VP.discrete(diffusion.betas.double().tolist()),
        predicts[kind],
        (int(diffusion.channels), *size),
        time=lambda level: round(level.t),
        correct_x0=clip(),
    )


@checked
def flow_matching(
    net: Net,
    *,
    shape: Shape | None = None,
    time_first: bool = False,
    toward_data: bool = True,
) -> Denoiser:
    """A velocity on straight paths, as facebookresearch/flow_matching, torchcfm and F5-TTS train
    it.

    Args:
        net: ``net(x, t)``, t (n,).
        shape: of one sample.
        time_first: whether it is ``net(t, x)``, as torchcfm's are.
        toward_data: whether time goes from noise at t = 0 to data at 1, and the velocity is
            data − noise; else data are at 0, and it is noise − data (lerobot's pi0, SD3, Flux),
            which is ``RectifiedFlow`` itself.

    Where noise and data were coupled in training, as in OT-CFM or reflow, solvers of the ODE are
    right and stochastic ones are not: they need noise that is independent of the data.

    Returns:
        The denoiser, on a rectified flow.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Examples:
        >>> net = lambda x, t: torch.zeros_like(x)
        >>> flowsolve.integrations.conventions.flow_matching(net, shape=(3, 8, 8)).process
        RectifiedFlow(shift=1.0, t_max=1.0, t_min=0.001)
    """

    def call(net: Net, x: Tensor, u: Tensor, **given: Any) -> Any:
        t = 1.0 - u if toward_data else u
        out = net(t, x, **given) if time_first else net(x, t, **given)
        return -answer(out, x) if toward_data else out

    plain = not toward_data and not time_first
    return Denoiser(
        net if plain else _around(net, call),
        RectifiedFlow(),
        "velocity",
        shape,
    )
