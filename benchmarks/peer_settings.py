"""The settings of the peers: every sampler of diffusers and azula that takes an ODE's steps, with
its options, on its grids."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from peer_runs import Setting
from peer_samplers import (
    azula,
    azula_grids,
    by_index,
    edm,
    flow_match,
    in_sigma_frame,
    in_vp_frame,
    ipndm,
)

#: diffusers' grids as options; "DDPM" times where the process has none of its own.
SPACINGS = {g: {"timestep_spacing": g} for g in ("linspace", "leading", "trailing")}
SIGMAS = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "lu": {"use_lu_lambdas": True},
    "flow": {"use_flow_sigmas": True},
    "flow, shift 3": {"use_flow_sigmas": True, "flow_shift": 3.0},
}


#: By grid, the settings that are the best of the 276 on some problem, or among the best six on all,
#: at some budget and by some measure, and those that people use most.
CONTENDERS = {
    "exponential": (
        "DEIS 3",
        "DPM 2M",
        "DPM 3M",
        "DPM++ 3M",
        "EDM DPM++ 3M",
        "LMS",
        "UniPC 3",
        "UniPC 3 noise",
        "iPNDM 2",
        "iPNDM 3",
        "iPNDM 4",
    ),
    "karras": (
        *(
            "DEIS 3",
            "DPM 2M",
            "DPM 3M",
            "UniPC 3",
            "UniPC 3 noise",
            "iPNDM 2",
            "iPNDM 3",
            "iPNDM 4",
        ),
        *("Euler", "EDM Euler", "Heun", "KDPM2", "DPM++ 2M", "DPM++ 2S"),
    ),
    "lu": ("DPM 3M", "DPM++ 3M"),
    "linspace": ("iPNDM 3", "UniPC 3", "DEIS 3"),
    "trailing": ("iPNDM 3", "DDIM", "DPM++ 2M", "UniPC 2"),
    "leading": ("PLMS",),
    "flow": ("DPM++ 2M", "DPM++ 2M heun", "DPM++ 3S", "UniPC 2", "UniPC 3"),
    "shift 1": ("FlowMatchEuler", "FlowMatchHeun"),
    "VESchedule": ("azula vAB-3", "azula vAB-4", "azula xEAB-4", "azula zEAB-3", "azula zEAB-4"),
    "Karras": ("azula zEAB-3", "azula zEAB-4", "azula Heun"),
    "RectifiedSchedule": (
        "azula REAB-2",
        "azula vAB-2",
        "azula vAB-3",
        "azula vAB-4",
        "azula zEAB-2",
    ),
    "VPSchedule": ("azula vAB-2", "azula DDIM"),
}


def settings(everything: bool = False) -> list[Setting]:
    """The contenders, or all 276. Those that cannot run on a process give None there."""
    return [s for s in _settings() if everything or s.name in CONTENDERS.get(s.grid, ())]


def _settings() -> list[Setting]:
    import diffusers as d
    from azula import sample

    def half(nfe: int) -> int:
        return (nfe + 1) // 2

    rows: list[Setting] = []
    grids = {**SPACINGS, **SIGMAS}
    multistep: dict[str, tuple[Any, dict[str, Any]]] = {
        "DPM++ 2M": (d.DPMSolverMultistepScheduler, {}),
        "DPM++ 2M heun": (d.DPMSolverMultistepScheduler, {"solver_type": "heun"}),
        "DPM++ 3M": (d.DPMSolverMultistepScheduler, {"solver_order": 3}),
        "DPM 2M": (
            d.DPMSolverMultistepScheduler,
            {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        ),
        "DPM 3M": (
            d.DPMSolverMultistepScheduler,
            {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": 3},
        ),
        "DPM++ 2S": (d.DPMSolverSinglestepScheduler, {"lower_order_final": True}),
        "DPM++ 3S": (
            d.DPMSolverSinglestepScheduler,
            {"lower_order_final": True, "solver_order": 3},
        ),
        "DEIS 2": (d.DEISMultistepScheduler, {}),
        "DEIS 3": (d.DEISMultistepScheduler, {"solver_order": 3}),
        "UniPC 2": (d.UniPCMultistepScheduler, {}),
        "UniPC 2 bh1": (
            d.UniPCMultistepScheduler,
            {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        ),
        "UniPC 3": (d.UniPCMultistepScheduler, {"solver_order": 3}),
        "UniPC 3 bh1": (
            d.UniPCMultistepScheduler,
            {"solver_order": 3, "solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        ),
        "UniPC 3 noise": (
            d.UniPCMultistepScheduler,
            {"solver_order": 3, "predict_x0": False, "final_sigmas_type": "sigma_min"},
        ),
        "UniPC 3 to sigma_min": (
            d.UniPCMultistepScheduler,
            {"solver_order": 3, "final_sigmas_type": "sigma_min"},
        ),
    }
    for name, (cls, options) in multistep.items():
        known = inspect.signature(cls.__init__).parameters
        rows += [
            Setting(name, g, in_vp_frame(cls, **options, **o))
            for g, o in grids.items()
            if set(o) <= set(known)
        ]
    sigma_frame: dict[str, tuple[Any, dict[str, Any], Callable[[int], int]]] = {
        "Euler": (d.EulerDiscreteScheduler, {}, lambda nfe: nfe),
        "LMS": (d.LMSDiscreteScheduler, {}, lambda nfe: nfe),
        "Heun": (d.HeunDiscreteScheduler, {}, half),
        "KDPM2": (d.KDPM2DiscreteScheduler, {}, half),
    }
    for name, (cls, options, steps) in sigma_frame.items():
        known = inspect.signature(cls.__init__).parameters
        rows += [
            Setting(name, g, in_sigma_frame(cls, **options, **o), steps)
            for g, o in grids.items()
            if set(o) <= set(known)
        ]
    for g, o in SPACINGS.items():
        rows.append(Setting("DDIM", g, by_index(d.DDIMScheduler, **o, clip_sample=False)))
        rows.append(Setting("PLMS", g, by_index(d.PNDMScheduler, **o, skip_prk_steps=True)))
        rows.append(Setting("PNDM", g, by_index(d.PNDMScheduler, **o)))
    for g in ("karras", "exponential"):
        rows.append(Setting("EDM Euler", g, edm(d.EDMEulerScheduler, sigma_schedule=g)))
        rows += [
            Setting(
                f"EDM DPM++ {k}M",
                g,
                edm(d.EDMDPMSolverMultistepScheduler, sigma_schedule=g, solver_order=k),
            )
            for k in (2, 3)
        ]
    for shift in (1.0, 3.0):
        rows.append(
            Setting(
                "FlowMatchEuler",
                f"shift {shift:g}",
                flow_match(d.FlowMatchEulerDiscreteScheduler, shift=shift),
            )
        )
        rows.append(
            Setting(
                "FlowMatchHeun",
                f"shift {shift:g}",
                flow_match(d.FlowMatchHeunDiscreteScheduler, shift=shift),
                half,
            )
        )
    for g in ("karras", "exponential", "linspace", "trailing"):
        rows += [Setting(f"iPNDM {k}", g, ipndm(k, g)) for k in (2, 3, 4)]
    for g, schedule in azula_grids():
        rows.append(Setting("azula DDIM", g, azula(sample.DDIMSampler, schedule)))
        rows.append(
            Setting("azula Heun", g, azula(sample.HeunSampler, schedule), lambda nfe: nfe // 2)
        )
        for short in ("zAB", "vAB", "zEAB", "xEAB", "REAB"):
            rows += [
                Setting(
                    f"azula {short}-{k}",
                    g,
                    azula(getattr(sample, f"{short}Sampler"), schedule, order=k),
                )
                for k in (2, 3, 4)
            ]
    return rows
