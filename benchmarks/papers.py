"""Tables and figures of papers, on the shipped digits models.

    python -m benchmarks.papers table2         # arXiv 2010.02502, table 2: reconstruction error
    python -m benchmarks.papers figure5        # the same x_T with more and more steps
    python -m benchmarks.papers table1         # quality by steps and η
    python -m benchmarks.papers sigma_hat      # why σ̂ is the best of table1 in one place
    python -m benchmarks.papers figure3        # pictures of few steps
    python -m benchmarks.papers figure4        # time by steps
    python -m benchmarks.papers gamma          # theorem 1: L_γ beside L_simple
    python -m benchmarks.papers table_cld      # arXiv 2206.05564: the root R beside Cholesky's L
    python -m benchmarks.papers table_lambda   # noise on the way, and by which rule
    python -m benchmarks.papers table_process  # three processes, four methods

Each writes benchmarks/results/<name>.json, from which the documentation has its numbers. But for
figure4's ratios nothing here is a time. table1 and the tables of gDDIM are filled cell by cell,
and what is there stays there if the same versions made it: they can be made in parts, by
``--seeds`` and ``--most``. ``--few`` takes few of everything, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .papers_ddim import TABLE1, figure3, figure4, figure5, gammas, sigma_hat, table2
from .papers_gddim import CLD, LAMBDA, PROCESS
from .papers_judge import RESULTS, SEEDS, Table, fill, known, made, written

#: Found at once.
WHOLE: dict[str, Callable[[bool], dict[str, Any]]] = {
    "table2": table2,
    "figure5": figure5,
    "sigma_hat": sigma_hat,
    "figure3": figure3,
    "figure4": figure4,
    "gamma": gammas,
}
#: Filled cell by cell.
TABLES: dict[str, Table] = {
    "table1": TABLE1,
    "table_cld": CLD,
    "table_lambda": LAMBDA,
    "table_process": PROCESS,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=[*WHOLE, *TABLES])
    parser.add_argument("--few", action="store_true", help="small, and nothing is written")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of a table's cells")
    parser.add_argument("--most", type=int, default=10**6, help="the largest budget of a table")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    name, few = asked.name, asked.few
    if name in TABLES:
        start: dict[str, Any] = {} if few else known(name)
        write: Callable[[dict[str, Any]], None] = partial(written, name)
        if few:
            write = lambda found: None  # noqa: E731
        how = {"few": few, "seeds": asked.seeds, "most": asked.most}
        found = fill(TABLES[name], start, write, **how)
    else:
        found = WHOLE[name](few)
        if not few and name in ("table2", "figure5"):
            found = {"made": made(name), **found}
            (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        elif not few:
            written(name, {"made": made(name), **found})
    print(json.dumps(found, indent=1) if few else f"{name}: written")


if __name__ == "__main__":
    main()
