"""A node of ComfyUI: any solver of flowsolve as a SAMPLER, for SamplerCustom and its like."""

from __future__ import annotations

import functools
from typing import Any


def is_flow(model: Any) -> bool:
    """Whether states are (1 − σ) x0 + σ ε: ComfyUI's CONST. ``model`` is what a sampler is given.

    Raises ValueError if it does not say.
    """
    # The guider's model, the wrapped one: which of them knows depends on the version.
    inner: Any = model
    for _ in range(4):
        sampling = getattr(inner, "model_sampling", None)
        if sampling is not None:
            names = {cls.__name__ for cls in type(sampling).__mro__}
            if "CONST" in names:
                return True
            if names & {"EPS", "V_PREDICTION", "EDM", "X0"}:
                return False
            break
        inner = getattr(inner, "inner_model", None)
    raise ValueError(
        "flowsolve cannot tell whether this model is a flow (CONST) or not (EPS, V_PREDICTION, "
        "EDM, X0): it has no model_sampling of a kind it knows, and in the wrong one results would "
        "be off without a word; expected one of these models"
    )


def sample(model: Any, x: Any, sigmas: Any, *, solver: str, **arguments: Any) -> Any:
    """What KSAMPLER calls."""
    import flowsolve

    sampler = flowsolve.integrations.kdiffusion(solver, flow=is_flow(model))
    return sampler(model, x, sigmas, **arguments)


class FlowsolveSampler:
    """The node."""

    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "sampler"
    CATEGORY = "sampling/custom_sampling/samplers"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        import flowsolve

        names = [row.name for row in flowsolve.solver_table() if row.solver.fixed]
        return {"required": {"solver": (["auto", *names],)}}

    def sampler(self, solver: str) -> tuple[Any]:
        import comfy.samplers  # type: ignore[import-not-found]

        return (comfy.samplers.KSAMPLER(functools.partial(sample, solver=solver)),)


NODE_CLASS_MAPPINGS = {"FlowsolveSampler": FlowsolveSampler}
NODE_DISPLAY_NAME_MAPPINGS = {"FlowsolveSampler": "flowsolve sampler"}
