"""Tensors with their shapes, in annotations: ``Float[Tensor, "n *shape"]``.

A type checker reads ``Tensor``, and so does Python where jaxtyping is not installed: the library
does not need it. With jaxtyping the shapes mean something, and the tests check them at every call.

The axes have the same names everywhere: ``n`` samples, data ``n *shape``, states ``n *state``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Annotated as Bool
    from typing import Annotated as Float
    from typing import Annotated as Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ImportError:

        class Float:
            """``Float[Tensor, "n"]`` is ``Tensor``."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Int = Float

__all__ = ["Bool", "Float", "Int"]
