"""Timing both sides in one process, interleaved, and keeping the best of many rounds."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def one_thread() -> None:
    """Keep BLAS, OpenMP and torch to one thread; call before anything imports torch."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    import torch

    torch.set_num_threads(1)


def best_times(sides: dict[str, Callable[[], Any]], seconds: float = 1.5) -> dict[str, float]:
    """Give the shortest time of a call of each side, in microseconds.

    Every round calls each side in turn, so that a machine whose speed drifts slows both. A side
    is repeated within a round until it takes about half a millisecond.
    """
    repeats = {}
    for name, call in sides.items():
        call()
        begin = time.perf_counter()
        call()
        repeats[name] = max(1, int(5e-4 / max(time.perf_counter() - begin, 1e-7)))
    best = dict.fromkeys(sides, float("inf"))
    end, rounds = time.perf_counter() + seconds * len(sides), 0
    while rounds < 7 or time.perf_counter() < end:
        rounds += 1
        for name, call in sides.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            best[name] = min(best[name], (time.perf_counter() - begin) / repeats[name])
    return {name: seconds * 1e6 for name, seconds in best.items()}


def compare(
    name: str,
    ours: Callable[[], Any],
    peers: dict[str, tuple[Callable[[], Any], float | None]],
    note: str = "",
) -> list[Row]:
    """Time ours against each peer: ``{peer: (call, goal of the ratio)}`` -> a row each."""
    times = best_times({"ours": ours, **{peer: call for peer, (call, _) in peers.items()}})
    return [
        {
            "name": name,
            "ours_us": times["ours"],
            "peer": peer,
            "peer_us": times[peer],
            "ratio": times[peer] / times["ours"],
            "goal": goal,
            "note": note,
        }
        for peer, (_, goal) in peers.items()
    ]


def as_table(rows: list[Row]) -> str:
    """Lay rows out as a Markdown table."""
    lines = [
        "| work | tightbatch | peer | its time | ratio | goal |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        goal = "" if row["goal"] is None else f"{row['goal']:g}"
        lines.append(
            f"| {row['name']} | {_time(row['ours_us'])} | {row['peer']} | "
            f"{_time(row['peer_us'])} | {_ratio(row['ratio'])} | {goal} |"
        )
    return "\n".join(lines)


def write_between(page: Path, name: str, make: str | Callable[[str], str]) -> None:
    """Put a text between a page's two markers of this name, or what `make` makes of the old one."""
    first, last = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(first)
    old, closed, after = rest.partition(last)
    if not (found and closed):
        raise ValueError(f"{page} has no markers of {name}; expected {first.strip()} and {last}")
    new = make if isinstance(make, str) else make(old)
    page.write_text(before + first + new.rstrip("\n") + "\n" + last + after, encoding="utf-8")


def _time(us: float) -> str:
    if us < 1000:
        return f"{us:.3g} us"
    return f"{us / 1000:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def run(benchmarks: list[Callable[[], list[Row]]], doc: str | None) -> None:
    """Run a file's benchmarks from the command line."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    rows = [row for benchmark in benchmarks for row in benchmark()]
    print(as_table(rows))
    for row in rows:
        if row["note"]:
            print(f"- {row['name']}: {row['note']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
