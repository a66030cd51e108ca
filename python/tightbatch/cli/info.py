"""``tightbatch info``: what is installed here, for a bug report."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from .output import check_output, say, write_json

# What tightbatch works with, and what this command needs.
PACKAGES = (
    "numpy", "torch", "transformers", "trl", "datasets", "tokenizers", "accelerate", "pyarrow",
    "pandas", "polars", "safetensors", "ml_dtypes", "h5py", "jax", "lightning", "matplotlib",
    "rich", "typer",
)  # fmt: skip


def found() -> dict[str, Any]:
    """Everything the command shows."""
    from .. import __version__, _core

    level, levels = _core.cpu_levels()
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "tightbatch": __version__,
        "place": str(Path(__file__).parent.parent),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_level": level,
        "cpu_levels": list(levels),
        "packages": versions,
    }


def info(
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as JSON to FILE; - prints it.")
    ] = None,
) -> None:
    """Show versions, the processor's level of kernels, and the packages that are installed."""
    check_output(json, "--json")
    told = found()
    if json is not None:
        write_json(told, json)
        if str(json) == "-":
            return
    levels = ", ".join(told["cpu_levels"])
    say(f"tightbatch    {told['tightbatch']}, in {told['place']}")
    say(f"python        {told['python']} ({told['implementation']}), {told['executable']}")
    say(f"platform      {told['platform']}")
    say(f"kernels       {told['cpu_level']} (this processor has: {levels})")
    say("packages")
    for name, number in told["packages"].items():
        say(f"  {name:<13} {number or '-'}")
