"""Names with options, "karras(rho=5)": what they are the names of, made with these options."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from .errors import unknown

T = TypeVar("T")

_WITH_OPTIONS = re.compile(r"\s*(\w+)\s*(?:\((.*)\))?\s*", re.DOTALL)


def named(argument: str, what: str, text: str, known: Mapping[str, type[T]]) -> T:
    """The ``what`` that ``text`` means as an argument called ``argument``: one of the dataclasses
    that are ``known``, with the options between parentheses.

    Raises:
        ValueError: for an unknown name, options that are not by name, and an option's value out of
            range.
        TypeError: for an option it does not have.
    """
    found = _WITH_OPTIONS.fullmatch(text)
    typed = found[1] if found else text
    name = next((each for each in known if each.lower() == typed.lower()), None)
    if found is None or name is None:
        raise ValueError(unknown(argument, typed, known))
    kind: Any = known[name]
    options = _options(argument, text, found[2] or "")
    of: Any = dataclasses.fields(kind) if hasattr(kind, "__dataclass_fields__") else ()
    fields = [field.name for field in of if field.init]
    for key in options:
        if key not in fields:
            raise TypeError(
                unknown("option", key, fields or ["(none)"])
                + f" (an option of the {what} {name!r})"
            )
    return kind(**options)


def _options(argument: str, text: str, inside: str) -> dict[str, Any]:
    """The options between the parentheses, as Python reads them."""
    try:
        call: Any = ast.parse(f"kind({inside})", mode="eval").body
        given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        plain = isinstance(call.func, ast.Name) and not call.args and None not in given
        if not plain or len(given) < len(call.keywords):
            raise ValueError
        return given
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        example = {"predicts": "F(sigma_data=1)"}.get(argument, "karras(rho=5)")
        raise ValueError(
            f"{argument}={text!r}: expected options by name between the parentheses, as in "
            f"{example!r}"
        ) from None
