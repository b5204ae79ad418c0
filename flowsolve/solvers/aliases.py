"""The names other tools give to samplers, each a solver and a grid.

A label of the web interfaces, "DPM++ 2M Karras", is a sampler and a word for its noise schedule; a
class of diffusers is a sampler on the timesteps it takes by default; a function of k-diffusion or a
name in ComfyUI's programming interface is a sampler. What has no equal here is refused by its
reason, with the nearest.
"""

from __future__ import annotations

from ..coordinates import DATA, NOISE
from ..processes import LAMBDA
from .base import Solver
from .descent import ReverseSDE
from .multistep import Multistep
from .weights import Polynomial

_DEIS = Multistep(Polynomial(2, NOISE, LAMBDA))
_ETD2_SDE = ReverseSDE(Multistep(Polynomial(2, DATA, LAMBDA)))

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

#: Functions of k-diffusion (``sample_...``) and names in ComfyUI that are not names here already.
FUNCTIONS: dict[str, str | Solver] = {
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2_a",
    "dpmpp_2m": "dpmpp2m",
    "dpmpp_2m_sde": "dpmpp2m_sde",
    "dpmpp_2m_sde_gpu": "dpmpp2m_sde",
    "dpmpp_2m_sde_heun": _ETD2_SDE,
    "dpmpp_2m_sde_heun_gpu": _ETD2_SDE,
    "dpmpp_2s_ancestral": "dpmpp2s_a",
    "dpmpp_3m_sde": "dpmpp3m_sde",
    "dpmpp_3m_sde_gpu": "dpmpp3m_sde",
    "dpmpp_sde_gpu": "dpmpp_sde",
    "dpm_fast": "dpm3",
    "er_sde": "er_sde3",
    "euler_ancestral": "euler_a",
    "res_multistep": "etd2",
    "sa_solver": "sa",
    "seeds_2": "dpmpp_sde",
    "uni_pc": "unipc2",
    "uni_pc_bh2": "unipc2",
}

_GUIDED = "it renoises with the unconditional prediction, and a denoiser gives one prediction"
_HEUN = "the weights of its stages go by the σ of the run's first level, and it has no order"
#: Those that have no equal, why not, and what is nearest.
REFUSED: dict[str, tuple[str, str]] = {
    "dpmpp_2m_cfg_pp": (_GUIDED, "dpmpp_2m"),
    "dpmpp_2s_ancestral_cfg_pp": (_GUIDED, "dpmpp_2s_ancestral"),
    "euler_ancestral_cfg_pp": (_GUIDED, "euler_ancestral"),
    "euler_cfg_pp": (_GUIDED, "euler"),
    "exp_heun_2_x0": ("its second stage is at the end of the step", "res2s"),
    "exp_heun_2_x0_sde": ("its second stage is at the end of the step", "dpmpp_sde"),
    "gradient_estimation_cfg_pp": (_GUIDED, "gradient_estimation"),
    "heunpp2": (_HEUN, "heun"),
    "ipndm_v": ("its weights are those of Adams and Bashforth on equal steps alone", "ab4"),
    "res_multistep_ancestral": (
        "it measures from below the noise of the last step how far back the evaluation before lies",
        "dpmpp_2m_sde_heun",
    ),
    "res_multistep_ancestral_cfg_pp": (_GUIDED, "dpmpp_2m_sde_heun"),
    "res_multistep_cfg_pp": (_GUIDED, "res_multistep"),
    "sa_solver_pece": ("it evaluates twice a step", "sa_solver"),
    "seeds_3": ("it has three stages", "seeds_2"),
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
    **{
        name: (solver, "logsnr" if name == "dpm_fast" else None)
        for name, solver in FUNCTIONS.items()
    },
}


def known(name: str) -> tuple[str | Solver, str | None] | None:
    """The solver and the grid (None: the process's own) of a name from another tool, whatever its
    capitals and spaces; None if unknown.

    Raises:
        ValueError: for one that is known to have no equal here.
    """
    plain = _plain(name)
    if plain in REFUSED:
        reason, nearest = REFUSED[plain]
        raise ValueError(f"solver={name!r} has no equal here: {reason}; the nearest is {nearest!r}")
    return KNOWN.get(plain)


def names_of(solver: Solver, here: tuple[str, ...]) -> tuple[str, ...]:
    """What other tools call the solver that goes by the names ``here``."""
    classes = ((name, pair[0]) for name, pair in CLASSES.items())
    pairs = (*LABELS.items(), *FUNCTIONS.items(), *classes)
    return tuple(name for name, meant in pairs if meant == solver or meant in here)
