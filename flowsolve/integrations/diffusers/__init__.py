"""diffusers: any solver in its pipelines, and its networks here::

    from flowsolve.integrations.diffusers import FlowsolveScheduler, denoiser

    pipe.scheduler = FlowsolveScheduler.of(pipe.scheduler)    # num_inference_steps: evaluations
    with denoiser(pipe, prompt="a red fox") as model:         # the pipeline as a Denoiser
        print(flowsolve.compare(model, nfe=(5, 8, 12)))

It needs the extra ``diffusers``.
"""

try:
    # Pipelines that are loaded look for a scheduler's base class beside it.
    from diffusers.schedulers.scheduling_utils import SchedulerMixin
except ImportError as error:
    raise ImportError(
        "flowsolve.integrations.diffusers needs diffusers: pip install 'flowsolve[diffusers]'"
    ) from error

from .levels import Levels
from .networks import wrap
from .pipeline import denoiser
from .read import Convention, read
from .scheduler import FlowsolveScheduler

# Saved pipelines name the place where their scheduler is found: it is to stay the same.
FlowsolveScheduler.__module__ = __name__

__all__ = [
    "Convention",
    "FlowsolveScheduler",
    "Levels",
    "SchedulerMixin",
    "denoiser",
    "read",
    "wrap",
]
