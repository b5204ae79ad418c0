"""flowsolve: sampling from diffusion and flow models, for every solver and every trained network.

    >>> net = lambda x, t: 0.1 * x  # a trained network, ε̂ at a state and a time
    >>> model = flowsolve.Denoiser(net, flowsolve.VP(), predicts="eps", shape=(3, 32, 32))
    >>> flowsolve.sample(model, solver="ddim", nfe=20, n=4, seed=0).shape
    torch.Size([4, 3, 32, 32])

Names and modules are imported when they are first used, so that ``import flowsolve`` and
``flowsolve --help`` do not wait for torch. The names stand once, in ``__init__.pyi``.
"""

import ast
import importlib
import importlib.util
import pkgutil
from typing import Any

__version__ = "0.1.0"

#: Where each public name lives.
_HOMES = {
    alias.name: node.module
    for node in ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"").body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        if name[:1] != "_" and importlib.util.find_spec(f"{__name__}.{name}") is not None:
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if home is None:
        return importlib.import_module(f".{name}", __name__)
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
