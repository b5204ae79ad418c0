"""Other tools' networks here, and the solvers there: one client a module, imported when it is first
named.

==================== ===========================================================================
``diffusers``        pipelines, schedulers, bare networks (``flowsolve[diffusers]``)
``kdiffusion``       the sampler of k-diffusion, ComfyUI, A1111 and Forge
``odeint``           torchdiffeq's ``odeint`` for flow matching: F5-TTS, flow_matching, torchcfm
``conventions``      networks of other code bases: guided-diffusion, score_sde, EDM, lucidrains',
                     flow matching
==================== ===========================================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import conventions as conventions
    from .clients import kdiffusion as kdiffusion
    from .flows import odeint as odeint

__all__ = ["conventions", "kdiffusion", "odeint"]
_HOMES = {"kdiffusion": "clients", "odeint": "flows"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name in ("conventions", "diffusers"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
