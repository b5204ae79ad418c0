"""The file a training run goes on from: which run it is of, what was reached, and the lock that
keeps others away from it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import signal
import threading
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import shown
from ..output import alone, unwritable, write


class Reached(NamedTuple):
    """How far a run has come: steps, seconds, and the loss of each step."""

    step: int = 0
    seconds: float = 0.0
    losses: Sequence[Any] = ()


class Checkpoint:
    """The file of one run.

    Args:
        file: where it is; None for a run that keeps nothing.
        run: what tells this run from others, by the names of train's arguments.
        parts: what has a ``state_dict`` that goes on.
    """

    def __init__(self, file: Path | None, run: Mapping[str, Any], parts: Sequence[Any]) -> None:
        self.file, self.run, self.parts = file, dict(run), parts

    def save(self, reached: Reached) -> None:
        """Put the file in the place of the last one."""
        if self.file is not None:
            state = {
                "run": self.run,
                "states": [part.state_dict() for part in self.parts],
                **reached._asdict(),
                "losses": [float(v) for v in reached.losses],
            }
            write(self.file, lambda out: torch.save(state, out))

    def load(self, device: torch.device) -> Reached:
        """What the file says was reached, if there is one, its states taken by the parts.

        Raises:
            ValueError: if it is damaged, something else, or of another run.
        """
        if self.file is None or not self.file.exists():
            return Reached()
        saved = self._read(device)
        for name in {**self.run, **saved["run"]}:
            value, was = self.run.get(name), saved["run"].get(name)
            if was != value:
                raise ValueError(
                    f"{name}={shown(value)}, but the checkpoint {self.file} is of a run with "
                    f"{shown(was)}; expected that, or resume=False"
                )
        with self._suspicion():
            for part, state in zip(self.parts, saved["states"], strict=True):
                part.load_state_dict(state)
        return Reached(saved["step"], saved["seconds"], saved["losses"])

    def _read(self, device: torch.device) -> dict[str, Any]:
        assert self.file is not None
        with self._suspicion():
            with zipfile.ZipFile(self.file) as archive:  # which torch.save writes, with checksums
                if archive.testzip() is not None:
                    raise ValueError
            saved = torch.load(self.file, map_location=device, weights_only=True)
            expected = {"run": dict, "states": list, "step": int, "seconds": float, "losses": list}
            if not all(isinstance(saved[name], kind) for name, kind in expected.items()):
                raise ValueError
            return saved

    @contextlib.contextmanager
    def _suspicion(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # what torch, pickle and zipfile say of what they cannot read
            if isinstance(error, OSError) and error.filename is not None:
                raise  # the system's word on the file, not zipfile's on what is in it
            raise ValueError(
                f"checkpoint={str(self.file)!r} is damaged, or nothing that train wrote; "
                "expected a checkpoint of this run, no file, or resume=False"
            ) from error


def claimed(checkpoint: Path, stack: contextlib.ExitStack) -> Path:
    """The file, this run's alone until the stack is unwound.

    Raises:
        ValueError: if it cannot be written, or another run is at it.
    """
    reason = unwritable(checkpoint)
    try:
        if reason is None:
            stack.enter_context(alone(checkpoint))
    except BlockingIOError as error:
        raise ValueError(
            f"checkpoint={str(checkpoint)!r} is another run's: {error.strerror}; "
            "expected a file for each run"
        ) from None
    except OSError as error:
        reason = error.strerror
    if reason is not None:
        raise ValueError(
            f"checkpoint={str(checkpoint)!r} cannot be written: {reason}; "
            "expected a file in a folder that is there"
        )
    return checkpoint


def fingerprint(x: Tensor) -> str:
    """What tells the tensor from others: its dtype, shape, and a hash of its values."""
    digest, flat = hashlib.sha256(), x.detach().reshape(-1)
    for part in flat.split(1 << 24):
        digest.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
    return f"{x.dtype} of shape {tuple(x.shape)}, {digest.hexdigest()[:16]}"


def described(value: Any) -> str:
    """A text that is the same for the same value in another process: tensors by their
    fingerprints, functions by their names, without one by what they do."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return (
            f"{value.dtype} of shape {value.shape}, {hashlib.sha256(value.tobytes()).hexdigest()}"
        )
    if isinstance(value, Tensor):
        return fingerprint(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {described(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(described, value)) + "]"
    if isinstance(value, functools.partial):
        return f"{described(value.func)}({described(value.args)}, {described(value.keywords)})"
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    if isinstance(value, types.FunctionType) and "<" in name:
        return f"{name} {hashlib.sha256(_does(value).encode()).hexdigest()[:16]}"
    return _anonymous(value) if name.endswith(".") else name


def _does(function: types.FunctionType) -> str:
    """What a function without a name of its own does, as far as that can be written down."""
    code = function.__code__
    plain = (bool, int, float, str)
    consts = [each for each in code.co_consts if isinstance(each, plain)]
    around = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    closed = [each for each in around if isinstance(each, plain)]
    return repr((code.co_code, code.co_names, consts, closed)) + _anonymous(function.__defaults__)


def _anonymous(value: Any) -> str:
    """Its repr without addresses."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def architecture(net: torch.nn.Module) -> str:
    """What tells the network from others, whatever its weights are: its modules and tensors."""
    modules = [(name, type(module).__name__) for name, module in net.named_modules()]
    tensors = [(name, str(x.dtype), tuple(x.shape)) for name, x in net.state_dict().items()]
    digest = hashlib.sha256(repr((modules, tensors)).encode()).hexdigest()
    return (
        f"{type(net).__name__}, {sum(p.numel() for p in net.parameters())} weights, {digest[:16]}"
    )


#: What ends a process; the last two where the system has them.
ENDINGS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """A signal that would raise in the block, as Ctrl-C does, raises at its end. Outside the main
    thread, which alone gets signals, nothing is to be done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[Callable[..., Any], int, Any]] = []
    handlers: dict[int, Any] = {}
    for number in (getattr(signal, name) for name in ENDINGS if hasattr(signal, name)):
        handler = signal.getsignal(number)
        if callable(handler):
            handlers[number] = handler
            signal.signal(number, lambda n, frame, h=handler: caught.append((h, n, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for handler, number, frame in caught[:1]:
        handler(number, frame)
