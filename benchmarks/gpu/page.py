"""docs/benchmarks-gpu.md from the results of benchmarks/cuda.py."""

from __future__ import annotations

from typing import Any

MARKERS = ("<!-- gpu: begin -->", "<!-- gpu: end -->")


def page(text: str, results: dict[str, Any]) -> str:
    """The page with new figures between its markers."""
    begin, end = (text.index(marker) for marker in MARKERS)
    return f"{text[:begin]}{MARKERS[0]}\n{figures(results)}\n{text[end:]}"


def figures(results: dict[str, Any]) -> str:
    """All tables of all sections that gave something."""
    sections = results["sections"]
    parts = [_machine(sections.get("machine", {}))]
    for name, make in (
        ("training", _training),
        ("attention", _attention),
        ("compiling", _compiling),
        ("loading", _loading),
        ("precision", _precision),
        ("metering", _metering),
    ):
        found = sections.get(name)
        if found:
            parts.append(make(found) + _missing(found))
    return "\n\n".join(part.strip() for part in parts if part.strip())


def _is_told(part: Any) -> bool:
    """Whether a part gave something."""
    return isinstance(part, dict) and not ("failed" in part or "skipped" in part)


def _missing(found: dict[str, Any]) -> str:
    """What a section could not measure, so that the page does not hide it."""
    lines = []
    if isinstance(found.get("failed"), str):
        lines.append(f"- Not measured: the rest of the section ({found['failed']}).")
    if isinstance(found.get("skipped"), str):
        lines.append(f"- Not measured: the section ({found['skipped']}).")
    for name, part in found.items():
        if isinstance(part, dict):
            for kind in ("failed", "skipped"):
                if isinstance(part.get(kind), str):
                    first = part[kind].splitlines()[0]
                    lines.append(f"- Not measured: {name} ({first[:160]}).")
    return "\n\n" + "\n".join(lines) if lines else ""


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers on the right."""
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _machine(found: dict[str, Any]) -> str:
    about, most = found.get("machine", {}), found.get("ceilings", {})
    where = about.get("gpu", about.get("device", "an unknown device"))
    text = (
        f"Measured on one {where}, with torch {about.get('torch')}, CUDA {about.get('cuda')}, "
        f"Python {about.get('python')}, NumPy {about.get('numpy')}; processor: "
        f"{about.get('processor', '')}, {about.get('cores')} cores."
    )
    if most:
        text += (
            f" It copied {most['copy_gb_s']:,.0f} GB/s within its memory (read and written), and "
            f"multiplied large matrices at {most['float32_tflop_s']:.0f} TFLOP/s in float32 "
            f"{'with' if about.get('tf32') else 'without'} TF32, "
            f"{most['bfloat16_tflop_s']:.0f} in bfloat16 and {most['float16_tflop_s']:.0f} in "
            "float16."
        )
    return text


def _training(found: dict[str, Any]) -> str:
    rows, sizes, notes = [], {}, []
    for dtype in ("float32", "bfloat16", "float16"):
        part = found.get(dtype)
        if not _is_told(part):
            continue
        sizes = part["sizes"]
        fixed = part["ways"]["fixed padding"]["tokens_per_s"]
        for name, way in part["ways"].items():
            peak = f"{way['peak_bytes'] / 1e9:.2f} GB" if way["peak_bytes"] else ""
            rows.append(
                [f"{dtype}, {name}", f"{way['padding']:.1%}", f"{way['tokens_per_s']:,.0f}",
                 f"{way['tokens_per_s'] / fixed:.2f}", f"{way['epoch_s']:.1f} s",
                 f"{way['steps']}", peak, f"{way['loss']:.3f}"]
            )  # fmt: skip
        kinds = {way["attention"] for way in part["ways"].values()} - {"causal"}
        spread = _spread(part["ways"])
        notes.append(
            f"- {dtype}: attention over boundaries by {', '.join(sorted(kinds))}. Losses fell from "
            f"{part['loss_before']:.3f}; the ways differ by at most {spread[0]:.3f}, two orders of "
            f"the same way by {spread[1]:.3f}."
            + (
                ""
                if part["slices"] == part["of_slices"]
                else f" {part['slices']} of {part['of_slices']} parts of an epoch were run; the "
                "epoch's time is that of all, had they taken as long."
            )
        )
    if not rows:
        return ""
    heads = "type, way of batching|padding|real tokens/s|by fixed|epoch|steps|peak memory|loss"
    return "\n\n".join(
        [
            "## Training a small Transformer",
            f"{sizes['rows']:,} rows of 4 to {sizes['longest']} tokens (mean {sizes['mean']:.0f}), "
            f"about {sizes['tokens']:,} real tokens a step; {sizes['layers']} layers of width "
            f"{sizes['width']}, {sizes['heads']} heads, a vocabulary of {sizes['vocabulary']:,}.",
            table(heads.split("|"), rows),
            "\n".join(notes),
        ]
    )


def _spread(ways: dict[str, Any]) -> tuple[float, float]:
    """How far the final losses are apart, and those of one way in two orders."""
    again = "padding to the longest, another order"
    losses = [way["loss"] for name, way in ways.items() if name != again]
    gap = abs(ways[again]["loss"] - ways["padding to the longest"]["loss"])
    return max(losses) - min(losses), gap


def _attention(found: dict[str, Any]) -> str:
    rows = []
    for name, part in found.items():
        if _is_told(part) and "difference" in part:
            rows.append(
                [name, f"{part['difference']:.1e}", "yes" if part["equal"] else "NO",
                 f"{part['median'] * 1e3:.2f} ms", f"{part['least'] * 1e3:.2f} ms"]
            )  # fmt: skip
    shape, masks = found.get("shape"), found.get("making the masks")
    if not rows or not shape:
        return ""
    text = [
        "## Attention over rows without padding",
        f"{shape['rows']} rows in {shape['tokens']:,} positions (the tail of a constant shape "
        f"included), {shape['heads']} heads of {shape['size']}, causal; forward and backward. The "
        "difference is the largest of output and gradients from each row alone in float32, by the "
        "largest number there.",
        table(["type, attention", "difference", "equal", "median", "least"], rows),
    ]
    if _is_told(masks):
        ours, theirs = (masks[n]["median"] * 1e3 for n in _MASKS)
        text.append(
            f"The blocks for flex_attention: {ours:.2f} ms by tb.block_mask and a copy, "
            f"{theirs:.2f} ms by torch's create_block_mask on the GPU; they are equal."
        )
    return "\n\n".join(text)


_MASKS = ("tb.block_mask and the copy", "create_block_mask")


def _compiling(found: dict[str, Any]) -> str:
    rows = [
        [name.removeprefix("graphs, "), f"{part['batches']}", f"{part['shapes']}",
         f"{part['graphs']}"]
        for name, part in found.items()
        if _is_told(part) and name.startswith("graphs")
    ]  # fmt: skip
    if not rows:
        return ""
    text = [
        "## torch.compile and the widths of batches",
        f"Boundaries: {', '.join(map(str, found['boundaries']))}, by bucket_boundaries.",
        table(["batches", "in an epoch", "shapes", "graphs"], rows),
    ]
    epochs = [
        [name.removeprefix("epoch, "), f"{part['steps']} of {part['of']}", f"{part['graphs']}",
         f"{part['first_s']:.1f} s", f"{part['second_s']:.2f} s", f"{part['uncompiled_s']:.2f} s"]
        for name, part in found.items()
        if _is_told(part) and name.startswith("epoch")
    ]  # fmt: skip
    if epochs:
        heads = "static shapes|steps|graphs|first epoch|second|not compiled"
        text.append(table(heads.split("|"), epochs))
    return "\n\n".join(text)


def _loading(found: dict[str, Any]) -> str:
    rows, lines = [], []
    for kind in ("padded", "padding-free"):
        part, checks = found.get(f"{kind}: copies"), found.get(f"{kind}: pinned and equal")
        if _is_told(part):
            rows.append(
                [kind, f"{part['bytes'] / 1e6:.1f} MB", f"{part['pageable_gb_s']:.1f} GB/s",
                 f"{part['pinned_gb_s']:.1f} GB/s", f"{part['pinning_gb_s']:.1f} GB/s",
                 f"{part['call_us']:.0f} us"]
            )  # fmt: skip
        if _is_told(checks):
            told = "; ".join(
                f"{name}: {'yes' if is_so else 'NO'}" for name, is_so in checks.items()
            )
            lines.append(f"- {kind}: {told}.")
    gaps = found.get("gaps")
    text = ["## Pinned memory and asynchronous copies"]
    if rows:
        heads = "batch|size|copy, pageable|copy, pinned|pinning|call of an asynchronous copy"
        text.append(table(heads.split("|"), rows))
    if lines:
        text.append("\n".join(lines))
    if _is_told(gaps):
        text.append(
            "The part of the time between steps in which the GPU computed nothing (three epochs, "
            "by CUDA events): "
            + "; ".join(f"{n}: {g['median']:.1%} (least {g['least']:.1%})" for n, g in gaps.items())
            + "."
        )
    return "\n\n".join(text) if len(text) > 1 else ""


def _precision(found: dict[str, Any]) -> str:
    rows = []
    for name in ("bfloat16", "float16"):
        part = found.get(f"{name}: batches")
        if _is_told(part):
            rows.append(
                [name, f"{part['bytes'] / 1e6:.1f} MB", "yes" if part["equal"] else "NO",
                 f"{part['copy_us']['half']:.0f} us",
                 f"{part['copy_us']['float32, converted there']:.0f} us",
                 f"{part['collate_us']['half']:.0f} us", f"{part['collate_us']['float32']:.0f} us"]
            )  # fmt: skip
    if not rows:
        return ""
    heads = (
        "batches of floats|size|equal to the GPU's rounding|moved|float32 moved, converted there|"
        "collated|float32 collated"
    )
    text = ["## Half precision", table(heads.split("|"), rows)]
    scalers = found.get("scalers")
    if _is_told(scalers):
        same = "the same" if scalers["equal"] else "NOT the same"
        text.append(
            f"Under CUDA autocast to float16, with overflows in every sixth step, tightbatch's and "
            f"torch's GradScaler gave {same} scales, skipped steps and weights, bit for bit."
        )
    for name in ("bfloat16", "float16"):
        part = found.get(f"{name}: Amp")
        if _is_told(part):
            ends = part["losses"]
            text.append(
                f"Amp, {name} batches: the loss fell from {ends[name][0]:.4f} to "
                f"{ends[name][1]:.4f}; in float32 to {ends['float32'][1]:.4f}."
            )
    return "\n\n".join(text)


def _metering(found: dict[str, Any]) -> str:
    lines = []
    for kind in ("padded", "padding-free"):
        exact, loop = found.get(f"{kind}: exact"), found.get(f"{kind}: loop")
        if _is_told(exact):
            same = "exact" if exact["equal"] else "NOT exact"
            lines.append(
                f"- {kind} batches on the GPU were counted without a synchronization, and the "
                f"waste was {same} ({exact['waste']:.2%})."
            )
        if _is_told(loop):
            lines.append(
                f"- {kind}: a loop of {loop['without'] * 1e3:.1f} ms took "
                f"{loop['overhead']:+.1%} with the meter."
            )
    waits = found.get("waiting time")
    if _is_told(waits):
        lines.append(
            f"- Of a loader that takes 2.0 ms and a loop that takes 4 ms it told "
            f"{waits['wait_p50_ms']:.2f} ms, {waits['wait_share']:.0%} of the time."
        )
    return "\n\n".join(["## WasteMeter", "\n".join(lines)]) if lines else ""
