"""Run every benchmark and write the table of docs/benchmarks.md, between its two markers.

README.md has some of its lines, between the same markers; they are taken from the table. With
names of benchmarks (``bench_masks``) only those are run, and all other lines stay.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness import Row, as_table, write_between

HERE = Path(__file__).parent
TABLE = HERE.parent / "docs" / "benchmarks.md"
README = HERE.parent / "README.md"


def machine() -> str:
    """Name the processor and the versions that took part."""
    from importlib.metadata import version

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        model = found[1] if found else model
    peers = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "transformers"))
    return f"{model}, one thread, Python {platform.python_version()}, {peers}"


def measure(scripts: list[Path]) -> list[Row]:
    """Run them one after the other."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for script in scripts:
            print(script.name, flush=True)
            result = Path(folder, script.stem + ".json")
            subprocess.run([sys.executable, str(script), "--json", str(result)], check=True)
            rows += json.loads(result.read_text())
    return rows


def key(line: str) -> tuple[str, ...]:
    """The work and the peer of a line of the table."""
    return tuple(line.split("|")[n] for n in (1, 3)) if "|" in line else ()


def replaced(table: str, lines: list[str]) -> str:
    """Put new lines where the table has those of the same work and peer, or behind all."""
    new = {key(line): line for line in lines}
    kept = [new.pop(key(line), line) for line in table.splitlines()]
    return "\n".join([*kept, *new.values()]) + "\n"


def shortened(table: str, some: str) -> str:
    """Give the lines of `some` as the table has them now, without their goals."""
    known = {key(line): line.rsplit("|", 2)[0] + "|" for line in table.splitlines() if key(line)}
    lines = [known.get(key(line), line) for line in some.splitlines()]
    return "\n".join(lines) + "\n"


def main() -> None:
    chosen = sys.argv[1:]
    rows = measure([HERE / f"{name}.py" for name in chosen] or sorted(HERE.glob("bench_*.py")))
    whole = f"{machine()}.\n\n{as_table(rows)}"
    lines = as_table(rows).splitlines()[2:]
    write_between(TABLE, "benchmarks", partial(replaced, lines=lines) if chosen else whole)
    table = TABLE.read_text(encoding="utf-8")
    write_between(README, "benchmarks", partial(shortened, table))


if __name__ == "__main__":
    main()
