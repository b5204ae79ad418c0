"""The names other tools give to samplers, each a solver and a grid.

A label of the web interfaces, "DPM++ 2M Karras", is a sampler and a word for its noise schedule; a
class of diffusers is a sampler on the timesteps it takes by default.
"""

from __future__ import annotations

from ..coordinates import NOISE
from ..processes import LAMBDA
from .base import Solver
from .multistep import Multistep
from .weights import Polynomial

_DEIS = Multistep(Polynomial(2, NOISE, LAMBDA))

#: Labels of k-diffusion's and the web interfaces' samplers: the name here, or a solver.
LABELS: dict[str, str | Solver] = {
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "DEIS": _DEIS,
    "DPM adaptive": "adaptive",
    "DPM fast": "dpm3",
    "DPM2": "dpm2",
    "DPM2 a": "dpm2_a",
    "DPM++ 2M": "dpmpp2m",
    "DPM++ 2M SDE": "dpmpp2m_sde",
    "DPM++ 2S": "dpmpp2s",
    "DPM++ 2S a": "dpmpp2s_a",
    "DPM++ 3M": "dpmpp3m",
    "DPM++ 3M SDE": "dpmpp3m_sde",
    "DPM++ SDE": "dpmpp_sde",
    "ER-SDE": "er_sde3",
    "Euler": "euler",
    "Euler a": "euler_a",
    "Gradient Estimation": "gradient_estimation",
    "Heun": "heun",
    "IPNDM": "ipndm4",
    "LMS": "lms",
    "PLMS": "plms",
    "PNDM": "pndm",
    "Restart": "restart",
    "SA-Solver": "sa",
    "UniPC": "unipc2",
}

#: The word after a label, and the grid it stands for.
SCHEDULES = {
    "Karras": "karras",
    "Exponential": "logsnr",
    "SGM Uniform": "trailing",
    "Uniform": "linspace",
    "Beta": "beta",
}

#: diffusers' classes with their default timesteps.
CLASSES: dict[str, tuple[str | Solver, str]] = {
    "DDIMScheduler": ("ddim", "leading"),
    "DDPMScheduler": ("ddpm", "leading"),
    "DEISMultistepScheduler": (_DEIS, "dpm_linspace"),
    "DPMSolverMultistepScheduler": ("dpmpp2m", "dpm_linspace"),
    "DPMSolverSDEScheduler": ("dpmpp_sde", "linspace"),
    "DPMSolverSinglestepScheduler": ("dpmpp2s", "dpm_linspace"),
    "EDMDPMSolverMultistepScheduler": ("dpmpp2m", "karras"),
    "EDMEulerScheduler": ("ddim", "karras"),
    "EulerAncestralDiscreteScheduler": ("ddpm", "linspace"),
    "EulerDiscreteScheduler": ("ddim", "linspace"),
    "FlowMatchEulerDiscreteScheduler": ("flow_euler", "linspace"),
    "FlowMatchHeunDiscreteScheduler": ("flow_heun", "linspace"),
    "HeunDiscreteScheduler": ("heun", "linspace"),
    "IPNDMScheduler": ("ipndm4", "linspace"),
    "KDPM2AncestralDiscreteScheduler": ("dpm2_a", "linspace"),
    "KDPM2DiscreteScheduler": ("dpm2", "linspace"),
    "LMSDiscreteScheduler": ("ab4", "linspace"),
    "PNDMScheduler": ("pndm", "leading"),
    "SASolverScheduler": ("sa", "dpm_linspace"),
    "UniPCMultistepScheduler": ("unipc2", "dpm_linspace"),
}


def _plain(name: str) -> str:
    return "".join(name.lower().split())


#: Every such name in small letters without spaces, with its solver and its grid.
KNOWN: dict[str, tuple[str | Solver, str | None]] = {
    **{
        _plain(label): (solver, "logsnr" if label == "DPM fast" else None)
        for label, solver in LABELS.items()
    },
    **{
        _plain(label + word): (solver, grid)
        for label, solver in LABELS.items()
        if solver != "adaptive"
        for word, grid in SCHEDULES.items()
    },
    **{_plain(name): pair for name, pair in CLASSES.items()},
}


def known(name: str) -> tuple[str | Solver, str | None] | None:
    """The solver and the grid (None: the process's own) of a name from another tool, whatever its
    capitals and spaces; None if unknown."""
    return KNOWN.get(_plain(name))


def names_of(solver: Solver, here: tuple[str, ...]) -> tuple[str, ...]:
    """What other tools call the solver that goes by the names ``here``."""
    pairs = (*LABELS.items(), *((name, pair[0]) for name, pair in CLASSES.items()))
    return tuple(name for name, meant in pairs if meant == solver or meant in here)
