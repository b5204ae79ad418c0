"""What the measurements of peers' samplers share: tests/peers.py, and names and options of
diffusers."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
peers: Any = importlib.import_module("peers")

GRIDS = ("time", "karras")
TO_QUIETEST, DPMPP = peers.TO_QUIETEST, peers.DPMPP
SINGLE, UNIPC = (
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
)
