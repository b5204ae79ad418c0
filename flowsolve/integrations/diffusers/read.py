r"""What a diffusers scheduler says of its network: process, prediction, time.

The tables are computed in float64 from the configuration. diffusers' own are float32, in which σ̄ is
off by 8.3e-5 at the first entry of the linear table, 2.6e-4 on the cosine one.

============================================= ====================== ============ =================
scheduler                                     process                predicts     told
============================================= ====================== ============ =================
``beta_schedule``, ``trained_betas``          a table of β           eps, v, x0   the index
``FlowMatch...``, ``use_flow_sigmas``         RectifiedFlow, σ = t   velocity     T t
the same with ``invert_sigmas``               RectifiedFlow          −velocity    T (1 − t)
``EDM...``                                    EDM                    F, or −F     ¼ ln σ
``CosineDPMSolverMultistepScheduler``         EDM                    F, or −F     (2/π) atan σ
============================================= ====================== ============ =================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ...checked import checked
from ...corrections import clip, dynamic_threshold
from ...denoiser import Correction, Denoiser
from ...parametrizations import F, Parametrization, find_parametrization
from ...processes import EDM, VP, Level, Process, RectifiedFlow, tables
from .classes import configuration
from .clocks import Angle, Clock, Index, QuarterLog, Thousandths

PREDICTS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
#: Without a process, or with one that flowsolve does not know.
WITHOUT = {
    "AmusedScheduler": "tokens",
    "BlockRefinementScheduler": "tokens",
    "CMStochasticIterativeScheduler": "consistency models",
    "DDPMWuerstchenScheduler": "Würstchen's own process",
    "DiscreteDDIMScheduler": "tokens",
    "EntropyBoundScheduler": "tokens",
    "FlowMatchLCMScheduler": "few-step models",
    "IPNDMScheduler": "a table of its own",
    "LCMScheduler": "latent consistency models",
    "RePaintScheduler": "inpainting by repetition",
    "SCMScheduler": "consistency models",
    "TCDScheduler": "trajectory consistency models",
    "UnCLIPScheduler": "unCLIP's priors",
    "VQDiffusionScheduler": "tokens",
}


@dataclass(frozen=True, eq=False)
class Convention:
    """What a scheduler says of its network: called with a state (times EDM's input scale, if
    ``predicts`` has one) and ``clock.told(level)``, it returns ``sign`` times what ``predicts``
    names.

    Attributes:
        process: the forward process.
        predicts: what the network returns, but for the sign.
        clock: what it is told of a level, and the level of that.
        sign: 1, or −1.
        correct_x0: the scheduler's clipping or thresholding.
        variance: "learned_range" where twice the channels come back.

    Examples:
        >>> from diffusers import FlowMatchEulerDiscreteScheduler
        >>> convention = flowsolve.integrations.diffusers.read(FlowMatchEulerDiscreteScheduler())
        >>> convention.flow, convention.clock.told(convention.process.level(0.5))
        (True, 500.0)
    """

    process: Process
    predicts: Parametrization
    clock: Clock
    sign: float = 1.0
    correct_x0: Correction | None = None
    variance: Any = None

    @property
    def flow(self) -> bool:
        """Whether levels are times of a rectified flow."""
        return isinstance(self.process, RectifiedFlow)

    def scale(self, level: Level) -> float:
        """What a state on ``level`` is multiplied with before the network sees it."""
        scale: Any = self.predicts.input_scale(self.process, level)
        return 1.0 if scale is None else scale.value

    def said(self, out: Tensor, channels: int) -> Tensor:
        """What :attr:`predicts` names, of what a network returned for states of so many channels:
        without the half of a learned variance, and with the sign."""
        if out.shape[1] == 2 * channels:
            out = out[:, :channels]
        return -out if self.sign < 0 else out

    def process_of(self, config: Mapping[str, Any], mu: float | None) -> Process:
        """The process of a call with ``mu``: of a flow, shifted as that says."""
        return RectifiedFlow(shift_of(config, mu)) if self.flow else self.process

    def denoiser(self, net: Callable[..., Any], **given: Any) -> Denoiser:
        """A denoiser around a network that returns what :attr:`predicts` names."""
        return Denoiser(
            net,
            self.process,
            self.predicts,
            time=self.clock.told,
            correct_x0=self.correct_x0,
            **given,
        )


@checked
def read(scheduler: Any) -> Convention:
    """The process, prediction and time of a diffusers scheduler.

    Returns:
        What it says of its network.

    Raises:
        TypeError: for what is no scheduler.
        ValueError: for one that has no process flowsolve knows, or an unknown prediction.

    Examples:
        >>> from diffusers import DDIMScheduler
        >>> scheduler = DDIMScheduler(prediction_type="v_prediction")
        >>> convention = flowsolve.integrations.diffusers.read(scheduler)
        >>> convention.predicts.name, convention.process.entries
        ('v', 1000)
    """
    known = getattr(scheduler, "convention", None)
    if isinstance(known, Convention):  # a FlowsolveScheduler
        return known
    config, name = configuration(scheduler), type(scheduler).__name__
    for kind in type(scheduler).__mro__:
        if kind.__name__ in WITHOUT:
            raise ValueError(
                f"scheduler: {name} is for {WITHOUT[kind.__name__]} and states no process; expected"
                " one with a table of betas, a flow or EDM's sigmas. Wrap the network yourself: "
                "flowsolve.Denoiser(net, process=..., predicts=...)"
            )
    continuous = config.get("timestep_type") == "continuous"
    if "sigma_data" in config or (continuous and config["prediction_type"] == "v_prediction"):
        return _edm(name, config)
    T = float(config.get("num_train_timesteps", 1000))
    kind = config.get("prediction_type", "epsilon")
    flow = name.startswith("FlowMatch") or config.get("use_flow_sigmas")
    if flow or kind == "flow_prediction":
        return _flow(T, bool(config.get("invert_sigmas")), shift_of(config, None))
    if "beta_schedule" not in config and config.get("trained_betas") is None:
        raise ValueError(
            f"scheduler: {name} has no betas, flow or sigma_data in its configuration; expected a "
            "scheduler that states its process. Wrap the network yourself: "
            "flowsolve.Denoiser(net, process=..., predicts=...)"
        )
    if kind not in PREDICTS:
        raise ValueError(
            f"scheduler: {name} has prediction_type={kind!r}; expected one of "
            f"{', '.join(map(repr, [*PREDICTS, 'flow_prediction']))}"
        )
    process = VP.discrete(_betas(scheduler, config))
    learned = config.get("variance_type") == "learned_range"
    return Convention(
        process,
        find_parametrization(PREDICTS[kind]),
        Index(process),
        correct_x0=_correction(config),
        variance="learned_range" if learned else None,
    )


def shift_of(config: Mapping[str, Any], mu: float | None) -> float:
    """s of σ̄ → s σ̄, by which a flow's levels are shifted, perhaps by a call's ``mu``."""
    if config.get("use_dynamic_shifting"):
        if mu is None:
            return 1.0
        return mu if config.get("time_shift_type") == "linear" else math.exp(mu)
    return float(config.get("shift") or config.get("flow_shift") or 1.0)


def _flow(T: float, turned: bool, shift: float) -> Convention:
    process = RectifiedFlow(shift)
    clock = Thousandths(process, T, turned)
    return Convention(
        process, find_parametrization("velocity"), clock, sign=-1.0 if turned else 1.0
    )


def _edm(name: str, config: Mapping[str, Any]) -> Convention:
    kind = config.get("prediction_type")
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"scheduler: {name} has prediction_type={kind!r}; expected 'epsilon' or 'v_prediction'"
        )
    process = EDM(config["sigma_min"], config["sigma_max"])
    clock = Angle(process) if name.startswith("Cosine") else QuarterLog(process)
    return Convention(
        # Euler's "continuous" v of x0 + σε, Stable Video Diffusion's, is −F for σ_data = 1.
        process,
        F(config.get("sigma_data", 1.0)),
        clock,
        sign=1.0 if kind == "epsilon" else -1.0,
    )


def _betas(scheduler: Any, config: Mapping[str, Any]) -> list[float]:
    """The table in float64, from the configuration."""
    T, schedule = config["num_train_timesteps"], config.get("beta_schedule")
    ends = [float(config.get(key) or 0.5) for key in ("beta_start", "beta_end")]
    if config.get("trained_betas") is not None:
        table = np.asarray(config["trained_betas"], dtype=np.float64).tolist()
    elif schedule in ("linear", "scaled_linear", "sigmoid"):
        table = getattr(tables, schedule)(T, *ends)
    elif schedule == "squaredcos_cap_v2":
        table = tables.cosine(T)
    else:
        return scheduler.betas.double().tolist()
    shift = config.get("snr_shift_scale")  # CogVideoX
    if shift is not None:
        bar = np.cumprod(1.0 - np.asarray(table))
        bar = np.concatenate([[1.0], bar / (shift + (1.0 - shift) * bar)])
        table = (1.0 - bar[1:] / bar[:-1]).tolist()
    if config.get("rescale_betas_zero_snr"):
        table = tables.zero_terminal_snr(table)
    theirs = getattr(scheduler, "alphas_cumprod", None)
    if theirs is not None:
        ours = np.cumprod(1.0 - np.asarray(table))
        off = np.abs(ours - theirs.double().cpu().numpy()).max()
        if off > 1e-4:
            raise ValueError(
                f"scheduler: the alphas_cumprod of {type(scheduler).__name__} are up to {off:.2g} "
                "from those its configuration gives; expected one made from its configuration. "
                "Wrap the network yourself: flowsolve.Denoiser(net, flowsolve.VP.discrete(betas))"
            )
    return table


def _correction(config: Mapping[str, Any]) -> Correction | None:
    """The scheduler's correction of x̂0; ε̂ is derived again, as use_clipped_model_output says."""
    if config.get("thresholding"):
        most = float(config.get("sample_max_value", 1.0))
        return dynamic_threshold(config.get("dynamic_thresholding_ratio", 0.995), 1.0, most)
    if config.get("clip_sample"):
        most = float(config.get("clip_sample_range", 1.0))
        return clip(-most, most)
    return None
