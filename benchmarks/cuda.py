"""What a GPU gains, and whether what we hand it is right there: measured on one NVIDIA GPU.

python benchmarks/cuda.py --seconds 420 --json results.json
python benchmarks/cuda.py --update-docs results.json         # writes docs/benchmarks-gpu.md
python benchmarks/cuda.py --tiny                             # tries the script, also without a GPU

Each section runs in a process of its own, because an error on a GPU can end a process's use of it.
It has a part of the seconds, and writes what it has found after each of its parts.
benchmarks/cuda.sh packs all that this needs for a machine without a network.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks-gpu.md"
# Section -> its weight in the time that is left. What matters most comes first.
SECTIONS = {
    "machine": 30,
    "training": 160,
    "attention": 70,
    "compiling": 70,
    "loading": 40,
    "precision": 30,
    "metering": 20,
}
LATE = 20.0  # seconds that a section may take beyond its time before it is ended
LEAST = 5.0  # seconds that a process needs to import torch and begin


def share_of(name: str, left: float) -> float:
    """Seconds for a section, of those that are left for it and all after it."""
    names = list(SECTIONS)
    return left * SECTIONS[name] / sum(SECTIONS[later] for later in names[names.index(name) :])


def run_section(
    name: str, seconds: float, is_tiny: bool, report: Callable[[dict[str, Any]], None], device: str
) -> dict[str, Any]:
    """Run one section in this process."""
    from gpu.bench import about_machine, open_bench

    bench = open_bench(is_tiny, seconds, report, device)
    if name == "machine":
        return about_machine(bench)
    found: dict[str, Any] = importlib.import_module(f"gpu.{name}").section(bench)
    return found


def run_apart(
    name: str, seconds: float, is_tiny: bool, report: Callable[[dict[str, Any]], None], device: str
) -> dict[str, Any]:
    """Run one section in a process of its own; what it has written before it failed counts."""
    with tempfile.TemporaryDirectory() as folder:
        return _run_apart(name, seconds, is_tiny, report, device, Path(folder, "part.json"))


def _run_apart(
    name: str,
    seconds: float,
    is_tiny: bool,
    report: Callable[[dict[str, Any]], None],
    device: str,
    part: Path,
) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "cuda.py"), "--section", name, "--json", str(part)]
    command += ["--seconds", str(seconds), "--began", str(time.time())]
    command += ["--tiny"] if is_tiny else []
    child = subprocess.Popen(
        [*command, *(["--device", device] if device else [])], start_new_session=True
    )
    end = time.monotonic() + seconds + LATE
    try:
        while child.poll() is None and time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(2.0)
            report(_read(part))
    finally:
        failed = f"ended after {seconds + LATE:.0f} s" if child.poll() is None else None
        # With the processes that compile for it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
    found = _read(part)
    if failed or code != 0:
        found["failed"] = failed or f"the process ended with {code}"
    return found


def _read(part: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(part.read_text()) if part.exists() else {}
    return found


def write(path: Path, value: Any) -> None:
    """Write a JSON file in one step."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)


def run_all(asked: argparse.Namespace) -> dict[str, Any]:
    """Run the sections one after another; results are written after each."""
    end = time.monotonic() + asked.seconds
    results: dict[str, Any] = {"device": asked.device, "tiny": asked.tiny, "sections": {}}
    for name in SECTIONS:
        if name not in asked.only:
            continue

        def report(part: dict[str, Any], name: str = name) -> None:
            results["sections"][name] = part
            write(asked.json, results)

        seconds = share_of(name, end - time.monotonic())
        begin = time.monotonic()
        if seconds < LEAST and not asked.one_process:
            found: dict[str, Any] = {"skipped": "no time was left"}
        elif asked.one_process:
            found = run_section(name, seconds, asked.tiny, report, asked.device)
        else:
            found = run_apart(name, seconds, asked.tiny, report, asked.device)
        found["seconds"] = round(time.monotonic() - begin, 1)
        results["sections"][name] = found
        if name == "machine":
            results["device"] = found.get("machine", {}).get("device", "")
        write(asked.json, results)
        print(f"{name}: {found['seconds']} s{_troubles(found)}", flush=True)
    return results


def _troubles(found: Any, where: str = "") -> str:
    """What failed, was left out or was not equal, a line each."""
    lines = ""
    if isinstance(found, dict):
        for kind in ("failed", "skipped"):
            if isinstance(found.get(kind), str):
                lines += f"\n  {where}{kind}: {found[kind]}"
        if found.get("equal") is False:
            lines += f"\n  {where}NOT EQUAL"
        for name, part in found.items():
            lines += _troubles(part, f"{where}{name}: ")
    return lines


def update_docs(path: Path) -> None:
    """Write the page."""
    from gpu.page import page

    results = json.loads(path.read_text())
    if results["device"] != "cuda" or results["tiny"]:
        raise SystemExit(
            f"{path} has figures of {results['device']}{', tiny sizes' * results['tiny']}; "
            "expected those of a GPU, measured without --tiny"
        )
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=420.0, help="for all sections")
    parser.add_argument("--json", type=Path, default=Path("cuda.json"), help="for the results")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU does in seconds")
    parser.add_argument("--one-process", action="store_true", help="no process for each section")
    parser.add_argument("--device", default="", help="cuda or cpu; by default cuda if there is one")
    parser.add_argument("--update-docs", type=Path, metavar="JSON")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.update_docs:
        update_docs(asked.update_docs)
        return {}
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    if asked.section:
        import torch  # noqa: F401 - the time that takes counts

        left = asked.seconds - (time.time() - asked.began if asked.began else 0.0)
        found = run_section(
            asked.section, left, asked.tiny, lambda f: write(asked.json, f), asked.device
        )
        write(asked.json, found)
        return found
    return run_all(asked)


if __name__ == "__main__":
    main()
