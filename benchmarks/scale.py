"""What plans of very many rows cost: time and memory of each stage, in a process of its own.

python benchmarks/scale.py --rows 1000000 10000000 --json scale.json
python benchmarks/scale.py --rows 100000000 --json scale.json     # adds to the file
python benchmarks/scale.py --update-docs scale.json               # writes docs/scale.md

100 million rows take 3.5 GB of memory and 2 GB of disk. Memory is read from /proc, so this runs on
Linux. Times are the least of some rounds: of the processor and by the clock, because the first says
little of what else the machine did.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tightbatch as tb
from harness import write_between
from plans import draw_lengths

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
CAP, RANKS = 16_384, 8
BILLION = 10**9
# Of those, what one process needs to make a plan; a rank needs the last.
PLANS: dict[str, dict[str, Any]] = {
    "plan, batch_size=32": {"batch_size": 32},
    "plan, max_tokens=16384": {"max_tokens": CAP},
    "plan, max_tokens=16384, shuffle_window=None": {"max_tokens": CAP, "shuffle_window": None},
    "plan, max_tokens=16384, padding_free": {"max_tokens": CAP, "padding_free": True},
    "plan, the same, strategy='best_fit'": {
        "max_tokens": CAP,
        "padding_free": True,
        "strategy": "best_fit",
    },
}
STAGES = (
    "numpy.random permutation",
    "sampler made",
    *PLANS,
    "pack, capacity 4096",
    "pack, strategy='best_fit'",
    "save_plan",
    "load_plan",
    "a rank of 8",
)


def memory() -> dict[str, int]:
    """The process's memory in bytes: its peak, and what it has now, its own and of files."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "RssAnon", "RssFile"):
            found[name] = int(value.split()[0]) * 1024
    return found


def forget_peak() -> None:
    """Let the peak begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def timed(call: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Seconds of the processor and by the clock, the least of some rounds."""
    used, took = [], []
    for _ in range(rounds):
        begin, begin_used = time.perf_counter(), time.process_time()
        call()
        used.append(time.process_time() - begin_used)
        took.append(time.perf_counter() - begin)
    return min(used), min(took)


def stage(name: str, lengths_file: str, plan_file: str, rounds: int) -> dict[str, Any]:
    """Run one stage here; memory is that beyond an empty process, the lengths included."""
    forget_peak()
    before = memory()["VmHWM"]
    # A rank maps its lengths too; all others read them into memory of their own.
    lengths = np.load(lengths_file, mmap_mode="r" if name == "a rank of 8" else None)
    call, after = calls(name, lengths, plan_file)
    used, took = timed(call, rounds)
    found = {"cpu": used, "wall": took, "peak": memory()["VmHWM"] - before, **after()}
    return {"rows": len(lengths), "stage": name, **found}


def calls(
    name: str, lengths: Any, path: str
) -> tuple[Callable[[], Any], Callable[[], dict[str, Any]]]:
    """What to time, and what to tell afterwards."""

    def nothing() -> dict[str, Any]:
        return {}

    if name in PLANS:
        planner = tb.LengthBatchSampler(lengths, **PLANS[name])._planner
        epochs = iter(range(100))
        return lambda: planner._make(next(epochs), 1), nothing
    if name == "numpy.random permutation":
        rng = np.random.default_rng(0)
        return lambda: rng.permutation(len(lengths)), nothing
    if name == "sampler made":
        return lambda: tb.LengthBatchSampler(lengths, max_tokens=CAP), nothing
    if name.startswith("pack"):
        strategy: Any = "best_fit" if "best_fit" in name else "pool"
        return lambda: tb.pack(lengths, 4096, strategy=strategy), nothing
    if name == "a rank of 8":
        return as_rank(lengths, path)
    sampler = tb.LengthBatchSampler(lengths, max_tokens=CAP, num_replicas=RANKS, rank=0)
    if name == "save_plan":
        sampler.save_plan(path)  # makes the plan, which is not timed here
        return lambda: sampler.save_plan(path), lambda: {"file": os.path.getsize(path)}

    def load() -> None:
        sampler._planner.use({})  # what an earlier round has mapped
        sampler.load_plan(path)

    return load, nothing


def as_rank(lengths: Any, path: str) -> tuple[Callable[[], Any], Callable[[], dict[str, Any]]]:
    """What a rank does that maps a plan: up to its first batch; then its memory and its pace."""
    kept = []

    def start() -> None:
        kept.clear()
        sampler = tb.LengthBatchSampler(lengths, max_tokens=CAP, num_replicas=RANKS, rank=3)
        sampler.load_plan(path)
        batches = iter(sampler)
        next(batches)
        kept[:] = [sampler, batches]

    def tell() -> dict[str, Any]:
        batches, rows, count = kept[1], 0, 0
        begin = time.process_time()
        for batch in batches:
            rows, count = rows + len(batch), count + 1
            if count == 20_000:
                break
        return {
            "iteration_ns": (time.process_time() - begin) / max(rows, 1) * 1e9,
            "own": memory()["RssAnon"],
            "mapped": memory()["RssFile"],
        }

    return start, tell


def measure(rows: int, rounds: int, chosen: list[str], folder: str) -> list[dict[str, Any]]:
    """Run the stages, one process after another."""
    lengths_file, plan_file = os.path.join(folder, "lengths.npy"), os.path.join(folder, "plan.npy")
    np.save(lengths_file, draw_lengths(rows))
    found = []
    for name in chosen:
        child = [sys.executable, __file__, "--stage", name, "--rounds", str(rounds)]
        done = subprocess.run(
            [*child, "--files", lengths_file, plan_file], check=True, stdout=subprocess.PIPE
        )
        result = json.loads(done.stdout)
        found.append(result)
        print(
            f"{rows:>13,}  {name:45}{result['cpu'] / rows * 1e9:8.1f} ns a row of the processor"
            f"{result['wall'] / rows * 1e9:8.1f} by the clock{result['peak'] / rows:7.1f} bytes",
            flush=True,
        )
    return found


def about_machine() -> str:
    """Say where, with which versions, and how busy it was."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = named[0].partition(":")[2].strip() if named else model
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, one thread, Python {platform.python_version()}, NumPy "
        f"{np.__version__}; other programs ran on the same cores (load average {load:.1f} when it "
        "began)"
    )


def table(measured: dict[str, Any]) -> str:
    """The figures, and what they say of a billion rows, in Markdown."""
    by_rows: dict[int, dict[str, dict[str, Any]]] = {}
    for row in measured["stages"]:
        by_rows.setdefault(row["rows"], {})[row["stage"]] = row
    sizes = sorted(by_rows)
    lines = [f"Measured on {measured['machine']}.", ""]
    lines += [*_times(by_rows, sizes), "", *_memory(by_rows, sizes), "", *_rank(by_rows, sizes)]
    return "\n".join(lines)


def _number(rows: int) -> str:
    return f"{rows // 10**6:,} million" if rows < BILLION else "1 billion"


def _head(what: str, sizes: list[int]) -> list[str]:
    columns = [what, *(f"{_number(rows)} rows" for rows in sizes), "1 billion, expected"]
    return [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(sizes) + 1)]


def _times(by_rows: dict[int, dict[str, dict[str, Any]]], sizes: list[int]) -> list[str]:
    """Time a row, and the whole of a billion: the growth of the last tenfold step once more."""
    lines = _head("ns of the processor a row (by the clock)", sizes)
    for name in STAGES:
        found = [by_rows[rows].get(name) for rows in sizes]
        if not any(found):
            continue
        cells = [
            f"{row['cpu'] / row['rows'] * 1e9:.1f} ({row['wall'] / row['rows'] * 1e9:.1f})"
            if row
            else ""
            for row in found
        ]
        lines.append(f"| {name} | " + " | ".join([*cells, _expected(found)]) + " |")
    return lines


def _expected(found: list[dict[str, Any] | None]) -> str:
    known = [row for row in found if row]
    if len(known) < 2:
        return ""
    before, last = known[-2:]
    a_row = [row["cpu"] / row["rows"] * 1e9 for row in (before, last)]
    decades = np.log10(BILLION / last["rows"])
    more = max(a_row[1] - a_row[0], 0) / np.log10(last["rows"] / before["rows"]) * decades
    least, most = a_row[1], a_row[1] + more
    return f"{least:.0f} s" if f"{least:.0f}" == f"{most:.0f}" else f"{least:.0f} to {most:.0f} s"


def _memory(by_rows: dict[int, dict[str, dict[str, Any]]], sizes: list[int]) -> list[str]:
    lines = _head("peak memory, bytes a row, the lengths' 8 included", sizes)
    for name in STAGES:
        found = [by_rows[rows].get(name) for rows in sizes]
        known = [row for row in found if row]
        if not known or name == "a rank of 8":
            continue
        cells = [f"{row['peak'] / row['rows']:.1f}" if row else "" for row in found]
        expected = f"{known[-1]['peak'] / known[-1]['rows']:.1f} GB"
        lines.append(f"| {name} | " + " | ".join([*cells, expected]) + " |")
    return lines


def _rank(by_rows: dict[int, dict[str, dict[str, Any]]], sizes: list[int]) -> list[str]:
    lines = [
        "| a rank of 8 that maps lengths and plan | to its first batch, a row of the data | "
        "its rows, each | its own memory | mapped, shared by all of a node | file of the plan |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rows in sizes:
        rank, saved = by_rows[rows].get("a rank of 8"), by_rows[rows].get("save_plan")
        if rank and saved:
            lines.append(
                f"| {_number(rows)} rows | {rank['cpu'] / rows * 1e9:.1f} ns | "
                f"{rank['iteration_ns']:.0f} ns | {rank['own'] / 1e6:.0f} MB | "
                f"{rank['mapped'] / 1e6:,.0f} MB | {saved['file'] / 1e6:,.0f} MB |"
            )
    return lines


def update_docs(path: Path) -> None:
    """Write the tables into the page."""
    write_between(PAGE, "scale", table(json.loads(path.read_text())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--folder", help="for lengths and a plan; by default a temporary one")
    parser.add_argument("--json", type=Path, help="add what was measured to this file")
    parser.add_argument("--update-docs", type=Path, metavar="JSON")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.update_docs:
        update_docs(asked.update_docs)
        return
    if asked.stage:
        print(json.dumps(stage(asked.stage, *asked.files, asked.rounds)))
        return
    known: dict[str, Any] = {"machine": about_machine(), "stages": []}
    if asked.json and asked.json.exists():
        known["stages"] = json.loads(asked.json.read_text())["stages"]
    for rows in asked.rows:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            found = measure(rows, asked.rounds, asked.only, folder)
        new = {(row["rows"], row["stage"]) for row in found}
        kept = [row for row in known["stages"] if (row["rows"], row["stage"]) not in new]
        known["stages"] = kept + found
        if asked.json:
            asked.json.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
