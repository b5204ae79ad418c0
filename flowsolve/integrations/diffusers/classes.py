"""diffusers' scheduler classes: their names, and what their configurations mean to them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from ...errors import unknown


def configuration(scheduler: Any) -> dict[str, Any]:
    """The configuration of a scheduler as its class knows it: what another class left in it means
    nothing there."""
    config = getattr(scheduler, "config", None)
    if not isinstance(config, Mapping) or not hasattr(scheduler, "set_timesteps"):
        raise TypeError(
            f"scheduler is a {type(scheduler).__name__}; expected a scheduler of diffusers, such "
            "as pipe.scheduler"
        )
    known = parameters(type(scheduler))
    return {key: value for key, value in config.items() if key in known}


def parameters(cls: type) -> list[str]:
    """What the constructor of a scheduler takes."""
    return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]


def class_of(name: str) -> type:
    """The scheduler of that name in diffusers. Raises ValueError if there is none."""
    found = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if not (inspect.isclass(found) and issubclass(found, SchedulerMixin)):
        names = [each for each in dir(diffusers) if each.endswith("Scheduler")]
        raise ValueError(unknown("base_class", name, names))
    return found


def name_of_class(cls: type) -> str:
    """The name in diffusers of a scheduler's class, or of the nearest it descends from."""
    for each in cls.__mro__:
        if getattr(diffusers, each.__name__, None) is each:
            return each.__name__
    raise ValueError(
        f"scheduler: {cls.__name__} is no scheduler of diffusers, nor made from one; expected one "
        "such as pipe.scheduler"
    )
