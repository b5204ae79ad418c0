"""Results are kept with as many digits as mean something."""

from __future__ import annotations

import json
from typing import Any


def rounded(content: Any, digits: int = 4) -> Any:
    """``content`` as JSON gives it back, its numbers with so many digits."""
    return json.loads(json.dumps(content), parse_float=lambda text: float(f"{float(text):.{digits}g}"))
