"""Run the programs of examples/ on the ranks that torchrun starts, and write what they trained on.

torchrun --nproc-per-node 2 tests/run_recipes.py FOLDER
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import torch
from torch import distributed as dist

from recipes import load, recorded

warnings.simplefilter("ignore")
torch.set_num_threads(1)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def ids_of(record):
    """The tokens of the rows, by step."""
    return [[row.ids for batch in step for row in batch if row.is_real()] for step in record.steps]


def run(main, folder, runs, **options):
    """A whole run, one that stops, and one that goes on from it."""
    found = {}
    for name, (place, more) in runs.items():
        with recorded(check_every=4 if name == "whole" else 99, **options) as record:
            main(folder / place, **more)
        found[name] = ids_of(record)
        if name == "whole":
            found["error"] = record.error
            found["micro"] = [len(step) for step in record.steps]
        dist.barrier()
    return found


def main(folder):
    answers = {}
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    runs = {
        "whole": ("a", {}),
        "stopped": ("b", {"stop_after": 3}),
        "resumed": ("b", {"resume": True}),
    }
    answers["accelerate"] = run(load("train_accelerate").main, folder / "accelerate", runs)
    runs = {"whole": ("a", {})}
    answers["trl"] = run(load("train_trl").main, folder / "trl", runs, clip=1.0)
    runs = {
        "whole": ("a", {"steps": 8}),
        "stopped": ("b", {"steps": 5}),
        "resumed": ("b", {"steps": 8, "resume": True}),
    }
    answers["titan"] = run(load("train_titan").main, folder / "titan", runs)
    lightning = load("train_lightning").main
    runs = {
        "whole": ("a", {"save_every": 99}),
        "stopped": ("b", {"save_every": 4, "stop_after": 4}),
        "resumed": ("b", {"resume": True}),
    }
    answers["lightning"] = run(
        lambda folder, **more: lightning(folder, devices=2, **more), folder / "lightning", runs
    )
    (folder / f"rank-{rank}.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
