"""Run every benchmark and write its table into README.md, between its two markers."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MARKERS = ("<!-- benchmarks: begin -->", "<!-- benchmarks: end -->")


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


def main() -> None:
    from harness import as_table

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for script in sorted(HERE.glob("bench_*.py")):
            print(script.name, flush=True)
            result = Path(folder, script.stem + ".json")
            subprocess.run([sys.executable, str(script), "--json", str(result)], check=True)
            rows += json.loads(result.read_text())
    text = README.read_text()
    begin, end = (text.index(marker) for marker in MARKERS)
    table = f"{MARKERS[0]}\n{machine()}.\n\n{as_table(rows)}\n"
    README.write_text(text[:begin] + table + text[end:])


if __name__ == "__main__":
    main()
