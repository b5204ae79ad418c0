r"""Exact inversion: data to noise and back with no error at all.

A :class:`Latent` is the pair (x̃, v) that the reversible leapfrog carries
(:mod:`flowsolve.leapfrog`), at either end of its way, on the lattice. Going from one end to the
other and back gives the same pair to the bit, if the network gives the same numbers to the bit: in
one place, one dtype, and a batch of the same size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from .checked import Positive, checked
from .checks import check_rows
from .denoiser import Denoiser
from .errors import shown
from .finite import check_finite, finite, non_finite
from .leapfrog import LARGEST, Track, times_of
from .network import Floating
from .output import file_at, write
from .processes import numbers
from .readers import Must
from .starts import check_state
from .typing import Float

#: Two evaluations make a step.
Evaluations = Annotated[int, Must(lambda n: 2 <= n <= 10_000, "an integer from 2 to 10000")]
FORMAT, VERSION = "flowsolve latent", 1


@checked
@dataclass(frozen=True, eq=False)
class Latent:
    """Data, or the noise they are encoded to, as the reversible leapfrog has them.

    Make one with ``flowsolve.encode(model, x0, exact=True)`` or, from noise, with :meth:`of`.
    :meth:`decode` and :meth:`encode` go to the other end.

    Attributes:
        position, velocity: x̃ and v, (n, *shape), float64, on the lattice.
        end: "data" or "noise", where they are.
        nfe: evaluations of the way, the first v among them.
        process: the process, as it is written.
        scale: A + R at the noisy end, where x_T is that times x̃.
        rest_of_data, rest_of_noise: what the data, and x_T, are beside the lattice, (n, *shape);
            None where they were computed and not given.
        dtype: of what was given.

    Examples:
        >>> model = flowsolve.exact.Gaussian(flowsolve.VP(), [0.0, 1.0], 0.25)
        >>> x0 = model.draw(4, seed=0)
        >>> latent = flowsolve.encode(model, x0, nfe=10, exact=True)
        >>> latent.end, torch.equal(latent.decode(model).x, x0)
        ('noise', True)
    """

    position: Float[Tensor, "n *shape"]
    velocity: Float[Tensor, "n *shape"]
    end: Literal["data", "noise"]
    nfe: Evaluations
    process: str
    scale: Positive
    rest_of_data: Float[Tensor, "n *shape"] | None = None
    rest_of_noise: Float[Tensor, "n *shape"] | None = None
    dtype: Floating = torch.float64

    def __post_init__(self) -> None:
        rests = (self.rest_of_data, self.rest_of_noise)
        for x in (self.position, self.velocity, *(rest for rest in rests if rest is not None)):
            if x.shape != self.position.shape or x.dtype != torch.float64 or x.is_meta:
                raise ValueError(
                    f"position, velocity and rests: {shown(x)}; expected float64 of one shape, "
                    f"{tuple(self.position.shape)}"
                )

    @classmethod
    @checked
    def of(
        cls,
        model: Denoiser,
        x: Float[Tensor, "n *shape"],
        nfe: Evaluations = 20,
        end: Literal["data", "noise"] = "noise",
    ) -> Latent:
        """That of states without a v of their own, (n, *shape): of x_T the first v is what the
        network says there, of data what it says at the quietest level. One evaluation.

        Raises:
            TypeError, ValueError, NonFiniteError: as :func:`flowsolve.encode`; from pure noise also
                for a network that predicts ε or the score, which say nothing of x0 there.
        """
        x = check_state(model, "x", x, model.shape)
        check_finite("x", x)
        track = _track(model, nfe, len(x))
        level = track.levels[-1 if end == "data" else 0]
        scale = float(numbers(track.levels[0])[0] + numbers(track.levels[0])[1])
        own = scale if end == "noise" else 1.0
        with torch.no_grad():
            position = track.rounded(x.double() / own)
            rest = x.double() - own * position
            velocity = track.first(position, level)
        _check_lattice(position, velocity)
        rests: dict[str, Any] = {f"rest_of_{end}": rest}
        process = repr(model.process)
        return cls(position, velocity, end, nfe, process, scale, dtype=x.dtype, **rests)

    @property
    def x(self) -> Float[Tensor, "n *shape"]:
        """The data, or x_T, in the dtype of what was given: what was given itself, if this is the
        end that it was given at."""
        at_data = self.end == "data"
        rest = self.rest_of_data if at_data else self.rest_of_noise
        x = self.position if at_data else self.scale * self.position
        return (x if rest is None else x + rest).to(self.dtype)

    @checked
    def decode(self, model: Denoiser) -> Latent:
        """The same at the data, nfe − 1 evaluations away; itself if it is there.

        Raises:
            ValueError: for a model of another process or shape.
            NonFiniteError: the network returned NaN or Inf.
        """
        return self._moved(model, "data")

    @checked
    def encode(self, model: Denoiser) -> Latent:
        """The same at the noise, nfe − 1 evaluations away; itself if it is there. Raises as
        :meth:`decode`."""
        return self._moved(model, "noise")

    def _moved(self, model: Denoiser, end: Literal["data", "noise"]) -> Latent:
        if repr(model.process) != self.process:
            raise ValueError(
                f"model: its process is {model.process!r}; the latent is of {self.process}"
            )
        check_state(model, "latent", self.position, model.shape)
        if self.end == end:
            return self
        track = _track(model, self.nfe, len(self.position))
        with torch.no_grad():
            ends = track.along(self.position, self.velocity, upward=end == "noise")
        _check_lattice(*ends)
        return replace(self, position=ends[0], velocity=ends[1], end=end)

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, complete or not at all: torch's format, tensors and words alone."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content = {**fields, "format": FORMAT, "version": VERSION}
        write(file_at(path), lambda file: torch.save(content, file))

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Latent:
        """The latent in a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a latent's, of another version, or damaged.
        """
        try:
            content = torch.load(file_at(path), map_location="cpu", weights_only=True)
            if content.pop("format") != FORMAT or content.pop("version") != VERSION:
                raise ValueError("another format")
            return cls(**content)
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever unpickling makes of a damaged file
            said = str(error).partition("\n")[0]
            expected = f"a {FORMAT} of version {VERSION}, as Latent.save writes it"
            raise ValueError(f"path={os.fspath(path)!r}: {said}; expected {expected}") from None


def _track(model: Denoiser, nfe: int, n: int) -> Track:
    times = times_of(model.process, nfe - 1)
    model = check_rows(model.in_run(), 0, n)
    return Track(model, tuple(map(model.process.level, times)), lattice=True)


def _check_lattice(position: Tensor, velocity: Tensor) -> None:
    for x in (position, velocity):
        if not finite(x):
            raise non_finite(position, [])
        if float(x.abs().max()) >= LARGEST:
            raise ValueError(
                f"x, or what the network makes of it, reaches {float(x.abs().max()):.3g}, beyond "
                f"the {LARGEST:.0f} to which sums on the lattice are exact; expected smaller data"
            )
