"""The command line: fine-tune what is missing, merge by every method, write the result.

    python -m benchmarks.quality --data PATH/text8 --folder WORK
    python -m benchmarks.quality --data PATH/text8 --folder WORK --methods ties,linear --tasks sst2,trec
    python -m benchmarks.quality --data PATH/text8 --folder WORK --quick     minutes: does it run?

WORK keeps fine-tunes, tokenised texts and every measurement; the same command goes on where it was ended. A method
whose files have changed is merged again, and scored again where that makes other weights. A complete run ends with a
file in benchmarks/results, any other with WORK/result.json.
"""

from __future__ import annotations

import argparse
import json
import os
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure import QUIET, circumstances
from benchmarks.streaming import save

QUICK = {"validation": 50, "test": 200, "steps": 30, "budget_seconds": 60.0, "rounds": 1}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune, merge and score; the whole result."""
    import torch

    from benchmarks.quality.bench import Bench, Effort
    from benchmarks.quality.encoder import NAME, packaged
    from benchmarks.quality.finetune import Training
    from benchmarks.quality.grids import read_table
    from benchmarks.quality.texts import Texts

    torch.set_num_threads(options.threads)
    base = options.base or packaged()
    texts = Texts(options.data, base, options.folder / "tokens", only=options.tasks)
    effort = Effort(options.validation, options.test, options.budget_seconds, options.rounds, options.bfloat16)
    training = Training(steps=options.steps)
    bench = Bench(texts, options.folder, training, effort, read_table())
    if options.only_fine_tune:
        return {}
    references = bench.references()
    rows = [row_of(bench, method) for method in _methods(options.methods)]
    encoder = options.base.name if options.base else NAME
    facts = {**circumstances(), "transformers": version("transformers"), "encoder": encoder, **bench.facts()}
    return {"benchmark": "quality", **facts, "references": references, "rows": rows}


def _methods(names: Sequence[str]) -> list[Any]:
    import merging
    from benchmarks.quality.grids import read_table, unknown_entries

    known = merging.all_methods()
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no method is called {unknown[0]!r}; there are {', '.join(known)}")
    for entry in unknown_entries(read_table()):
        print(f"grids.yaml speaks of {entry}, which there is not")
    return [method for name, method in known.items() if name in names or not names]


def row_of(bench: Any, method: Any) -> dict[str, Any]:
    """A method's row. One that breaks does not take the others along; it is tried again next time."""
    try:
        row: dict[str, Any] = bench.measure(method)
    except Exception as error:
        traceback.print_exc()
        row = {"method": method.name, "paper": method.paper, "failed": f"{type(error).__name__}: {error}"}
    print(f"{method.name:24} {_told(row)}", flush=True)
    return row


def _told(row: Mapping[str, Any]) -> str:
    from benchmarks.quality.judge import mean

    if "best" not in row:
        return str(row.get("reason") or row["failed"])
    return f"test {100 * mean(row['best']['test']):.2f} at {row['best']['settings']}, {row['tried']} tried"


def _names(text: str) -> list[str]:
    return text.split(",")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with tasks.json and TASK/{train,val,test}.tsv")
    parser.add_argument("--folder", type=Path, help="where fine-tunes and measurements are kept")
    parser.add_argument("--base", type=Path, help="folder of another encoder than the packaged one")
    parser.add_argument("--tasks", type=_names, default=[], metavar="A,B", help="these tasks only")
    parser.add_argument("--methods", type=_names, default=[], metavar="X,Y", help="these methods only")
    parser.add_argument("--validation", type=int, default=250, help="validation examples of each task, for the search")
    parser.add_argument("--test", type=int, help="test examples of each task; all by default")
    parser.add_argument("--steps", type=int, help="end every fine-tuning after so many steps")
    parser.add_argument("--budget-seconds", type=float, default=600.0, help="of merging in one method's search")
    parser.add_argument("--rounds", type=int, default=2, help="how often the search goes over all parameters")
    parser.add_argument(
        "--bfloat16", action="store_true", help="score with products in bfloat16: faster where the processor has them"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only-fine-tune", action="store_true", help="merge nothing")
    parser.add_argument("--quick", action="store_true", help="few steps, few examples, in WORK/quick")
    parser.add_argument("--table", action="store_true", help="only write docs/quality.md, from the newest result")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = _arguments()
    options = parser.parse_args(arguments)
    if options.table:
        from benchmarks.quality.table import write_tables

        write_tables()
        return
    if not options.data or not options.folder:
        parser.error("--data and --folder are needed")
    os.environ.update(QUIET)
    if options.quick:
        options.folder /= "quick"
        vars(options).update(QUICK)
    result = run(options)
    if options.only_fine_tune:
        return
    usual = all(getattr(options, name) == parser.get_default(name) for name in (*QUICK, "tasks", "methods", "base"))
    if usual:
        save(result, "quality")
    else:
        (options.folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        print(options.folder / "result.json")


if __name__ == "__main__":
    main()
