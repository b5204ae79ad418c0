"""What was measured as files: the samples in rows and columns, and the work-precision plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import pictures
from ..output import write
from .result import Measured

if TYPE_CHECKING:
    from PIL.Image import Image

#: A picture is about this wide, in pixels: cells show as many samples, up to MOST, as fit.
WIDTH = 1600
MOST = 4
MARGIN = 14

#: Okabe and Ito's colours, which colour-blind readers can tell apart, and markers for those who
#: print in grey.
STYLES = (
    ("#000000", "o"),
    ("#E69F00", "s"),
    ("#0072B2", "v"),
    ("#009E73", "P"),
    ("#D55E00", "X"),
    ("#CC79A7", "D"),
    ("#56B4E9", "^"),
    ("#8a8a8a", "h"),
)


def picture(measured: Measured) -> Image:
    """A row for each solver, a column for each budget, the reference at the right; below each cell
    its error.

    Raises:
        ValueError: if the samples are not pictures, (1 or 3, height, width).
    """
    from PIL import Image, ImageDraw

    text, heading = _font(13), _font(16)
    titles = [measured.title(i) for i in range(len(measured.solvers))]
    captions = [[measured.cell(i, k) for k in range(len(measured.nfe))] for i in range(len(titles))]
    left = MARGIN + round(max(heading.getlength(title) for title in titles)) + MARGIN
    single = pictures.sheet(measured.reference[:1]).width
    room = (WIDTH - left) // (len(measured.nfe) + 1) - MARGIN
    shown = max(1, min(MOST, len(measured.reference), room // single))
    reference = pictures.sheet(measured.reference[:shown], columns=shown)
    blank = Image.new("L", reference.size, 235)
    widest = max(text.getlength(caption) for row in captions for caption in row)
    across, down = MARGIN + max(reference.width, round(widest)), reference.height + 30
    top, lines = MARGIN + 30, measured.notes()
    width = max(
        left + across * (len(measured.nfe) + 1),
        *(2 * MARGIN + round(text.getlength(line)) for line in lines),
    )
    page = Image.new("RGB", (width, top + down * len(titles) + 22 * len(lines) + MARGIN), "white")
    draw = ImageDraw.Draw(page)
    for k, label in enumerate((*(f"{nfe} evaluations" for nfe in measured.nfe), "reference")):
        label = (
            label
            if heading.getlength(label) <= across - MARGIN
            else label.removesuffix(" evaluations")
        )
        draw.text((left + k * across, MARGIN), label, "black", heading)
    for i, title in enumerate(titles):
        y = top + i * down
        draw.text((MARGIN, y + reference.height // 2), title, "black", heading, anchor="lm")
        for k, nfe in enumerate(measured.nfe):
            x = measured.samples.get((measured.solvers[i], nfe))
            cell = blank if x is None else pictures.sheet(x[:shown].nan_to_num(), columns=shown)
            page.paste(cell, (left + k * across, y))
            draw.text((left + k * across, y + reference.height + 4), captions[i][k], "black", text)
        page.paste(reference, (left + len(measured.nfe) * across, y))
    for number, line in enumerate(lines):
        draw.text((MARGIN, top + down * len(titles) + 22 * number), line, "#444444", text)
    return page


def _font(size: int) -> Any:
    """Matplotlib's font, which has Greek letters; without it Pillow's own."""
    from PIL import ImageFont

    try:
        from matplotlib import get_data_path
    except ImportError:
        return ImageFont.load_default(size)
    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def save_picture(path: Path, measured: Measured) -> None:
    """Write :func:`picture` to ``path``. Raises ValueError if that is no place for it or the
    samples are not pictures."""
    pictures.check_picture(path)
    page, kind = picture(measured), pictures.picture_formats()[path.suffix.lower()]
    write(path, lambda file: page.save(file, kind))


def plot_formats() -> tuple[str, ...]:
    """Suffixes of the plots matplotlib can write. Raises ImportError, saying what to install,
    without it."""
    return tuple(f".{kind}" for kind in _matplotlib().FigureCanvasBase.get_supported_filetypes())


def _matplotlib() -> Any:
    try:
        from matplotlib import backend_bases
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'flowsolve[run]'") from error
    return backend_bases


def save_plot(path: Path, measured: Measured) -> None:
    """Errors over evaluations spent, both logarithmic: a panel for each summary. Solvers that draw
    noise are dotted."""
    pictures.check(path, plot_formats())
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, (name, values) in zip(
        panels, (("RMSE", measured.rmse), ("median over samples", measured.median)), strict=True
    ):
        for i, label in enumerate(measured.solvers):
            colour, _ = STYLES[i % len(STYLES)]
            _, marker = STYLES[
                (i + i // len(STYLES)) % len(STYLES)
            ]  # the ninth has the first's colour, and another marker
            noisy, there = label in measured.stochastic, values[i].isfinite() & (values[i] > 0)
            if not there.any():
                continue
            axis.plot(
                measured.spent[i][there].tolist(),
                values[i][there].tolist(),
                color=colour,
                marker=marker,
                linestyle=":" if noisy else "-" if i < len(STYLES) else "--",
                label=f"{label} (draws noise)" if noisy else label,
                markersize=6,
                linewidth=1.6,
            )
        axis.set(xscale="log", yscale="log", xlabel="network evaluations", title=name)
        axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axis.xaxis.set_major_locator(FixedLocator(_ticks(measured.nfe)))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("distance to the end of the ODE")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.supxlabel(measured.setting, fontsize=9, color="#444444")
    write(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=120))


def _ticks(numbers: Sequence[int]) -> list[int]:
    """Those of ``numbers`` that are far enough apart on a logarithmic axis for their labels."""
    ticks, width = [min(numbers)], math.log(max(numbers) / min(numbers))
    for number in sorted(numbers):
        if math.log(number / ticks[-1]) > 0.06 * width:
            ticks.append(number)
    return ticks
