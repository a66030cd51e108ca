"""Does half precision hurt? Train, evaluate and deploy in every floating type, and measure.

The claim: "float16 halves memory and speeds up training, loses precision, suits inference and
classification, and hurts regression." Here a classifier (handwritten digits) and a regressor
(diabetes) are trained wholly in float64, float32, float16 and bfloat16 and in mixed precision,
from the same weights on the same batches; then a real Transformer classifies paragraphs of
Python's documentation in each type. Every sentence of the result is drawn from the figures.

    python examples/precision.py [--quick] [--plot precision.png] [--json precision.json]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from precision_training import ARITHMETIC, CASES, HALVES, Case, Run, train_all
from precision_transformer import FULL, QUICK, Inference, infer, model_path, paragraphs
from sklearn.datasets import load_diabetes, load_digits

import tightbatch as tb
from tightbatch.compare import CompareError
from tightbatch.compare.report import check_output

# As float32 is: within one point of accuracy, or two hundredths of the error.
CLOSE = {"digits": 0.01, "diabetes": 0.02}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: the first flush left, the others flush right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def pick(runs: Sequence[Run], case: Case, arithmetic: str) -> list[Run]:
    """A case's runs in one type, by seed."""
    return [run for run in runs if run.case == case.name and run.arithmetic == arithmetic]


def errors(runs: Sequence[Run]) -> np.ndarray:
    """The held-out error of each run."""
    return np.array([run.error for run in runs])


def score(case: Case, error: float) -> str:
    """An error as it is usually written: accuracy of digits, RMSE of diabetes."""
    if math.isnan(error):
        return "not finite"
    return f"{1 - error:.1%}" if case.data == "digits" else f"{error:.2f}"


def verdict(case: Case, found: np.ndarray, reference: np.ndarray) -> str:
    """How errors compare with float32's: "as float32", "worse", "better" or "not finite"."""
    if np.isnan(found).any():
        return "not finite"
    change = found.mean() - reference.mean()
    if case.data == "diabetes":
        change /= reference.mean()
    if abs(change) <= CLOSE[case.data]:
        return "as float32"
    return "worse" if change > 0 else "better"


def verdicts(runs: Sequence[Run], arithmetic: str) -> dict[str, str]:
    """The verdict on each case in one type."""
    return {
        case.name: verdict(
            case, errors(pick(runs, case, arithmetic)), errors(pick(runs, case, "float32"))
        )
        for case in CASES
    }


def training_table(runs: Sequence[Run]) -> str:
    """Every case in every type, the mean of its seeds."""
    header = ("case and type", "score", "verdict", "updates lost", "loss inf", "KiB", "ms/step")
    rows: list[Sequence[str]] = []
    for case in CASES:
        baseline = float(np.mean([run.baseline for run in pick(runs, case, "float32")]))
        rows.append((f"{case.name} (baseline {score(case, baseline)})", *[""] * 6))
        for arithmetic in ARITHMETIC:
            found = pick(runs, case, arithmetic.name)
            rows.append(
                (
                    f"    {arithmetic.name}",
                    score(case, float(errors(found).mean())),
                    verdicts(runs, arithmetic.name)[case.name],
                    f"{share(found, 'lost', 'updates'):.1%}" if found[0].updates else "",
                    f"{share(found, 'infinite_losses', 'steps'):.1%}",
                    f"{found[0].bytes / 1024:.1f}",
                    f"{step_time(runs, case, arithmetic.name) * 1e3:.2f}",
                )
            )
    return table(header, rows)


def share(runs: Sequence[Run], part: str, whole: str) -> float:
    """The sum of one count over the sum of another."""
    return sum(getattr(run, part) for run in runs) / max(
        1, sum(getattr(run, whole) for run in runs)
    )


def step_time(runs: Sequence[Run], case: Case, arithmetic: str) -> float:
    """Seconds a step, of the quickest run."""
    return min(run.seconds / run.steps for run in pick(runs, case, arithmetic))


def used_in_half_table(runs: Sequence[Run]) -> str:
    """Models trained in float32, as they are and converted."""
    rows = []
    for case in CASES:
        trained = pick(runs, case, "float32")
        row = [case.name, score(case, float(errors(trained).mean()))]
        for name in HALVES:
            moved = [run.answers_moved[name] for run in trained]
            row += [
                score(case, float(np.mean([run.used_in_half[name] for run in trained]))),
                f"{np.mean(moved):.2%}" if case.data == "digits" else f"by {max(moved):.2f}",
            ]
        rows.append(row)
    header = ("trained in float32, used in", "float32", "float16", "moved", "bfloat16", "moved")
    return table(header, rows)


def inference_table(results: Sequence[Inference]) -> str:
    """The Transformer in each type."""
    rows = [
        (
            one.name,
            f"{one.weight_bytes / 2**20:.1f}",
            f"{one.seconds * 1e3:.0f}",
            f"{one.accuracy:.1%}",
            f"{one.logit_change:.2g}",
            f"{one.changed} of {one.rows}",
        )
        for one in results
    ]
    header = (
        "all-MiniLM-L6-v2",
        "weights, MiB",
        "ms",
        "accuracy",
        "logits change",
        "answers change",
    )
    return table(header, rows)


def reasons(runs: Sequence[Run]) -> list[str]:
    """Why a type does worse where it does, by what was counted on the way."""
    lines = []
    target = torch.from_numpy(load_diabetes().target)
    for name in HALVES:
        dtype = getattr(torch, name)
        info = torch.finfo(dtype)
        mine = [run for run in runs if run.arithmetic == name]
        lost = {case.name: share(pick(mine, case, name), "lost", "updates") for case in CASES}
        most = max(lost, key=lambda case: lost[case])
        lines.append(
            f"{name}: {share(mine, 'lost', 'updates'):.0%} of the updates ({lost[most]:.0%} in "
            f'"{most}") left the weight as it was; the next number is up to {info.eps:.1e} of '
            f"a weight away."
        )
        top = target.max().to(dtype)
        step = (top - torch.nextafter(top, torch.zeros_like(top))).item()
        moved = (target.to(dtype).double() - target).abs().max().item()
        lines.append(
            f"{name}: numbers are {step:g} apart at the largest target, {target.max():.0f}: raw "
            f"targets {f'move by up to {moved:g}' if moved else 'are whole numbers and stay'}, "
            f"predictions move by up to {step / 2:g}."
        )
        infinite = share([run for run in mine if "raw" in run.case], "infinite_losses", "steps")
        if infinite:
            lines.append(
                f"{name}: the mean squared error of raw targets exceeds {info.max:.0f} on the way "
                f"in {infinite:.1%} of the steps and is infinite there."
            )
        for eps in sorted({case.eps for case in CASES if case.optimizer == "AdamW"}):
            cases = [case for case in CASES if case.optimizer == "AdamW" and case.eps == eps]
            adam = [run for case in cases for run in pick(runs, case, name)]
            flushed = np.mean([run.squares_flushed for run in adam])
            ends = sum(math.isnan(run.error) for run in adam)
            if flushed or ends:
                lines.append(
                    f"{name}, AdamW: {flushed:.0%} of the first squared gradients become 0, and "
                    f"eps={eps:g}, added to their roots before dividing, becomes "
                    f"{torch.tensor(eps).to(dtype).item():.1g}: {ends} of {len(adam)} runs end in "
                    "weights that are not finite."
                )
    return lines


def conclusions(runs: Sequence[Run], results: Sequence[Inference]) -> list[str]:
    """The claim, part by part, against the figures."""
    single = {run.case: run.bytes for run in runs if run.arithmetic == "float32"}
    by_name = {one.name: one for one in results}
    whole = by_name["float32"]
    lines = []
    for name in HALVES:
        used = [run.bytes / single[run.case] for run in runs if run.arithmetic == name]
        half = by_name[name]
        lines.append(
            f"Memory, {name}: {min(used):.2f} to {max(used):.2f} of float32's in training, "
            f"{half.weight_bytes / whole.weight_bytes:.2f} for the Transformer's weights."
        )
        rate = whole.seconds / half.seconds
        finished = [case for case in CASES if not np.isnan(errors(pick(runs, case, name))).any()]
        steps = [
            step_time(runs, case, name) / step_time(runs, case, "float32") for case in finished
        ]
        lines.append(
            f"Speed, {name}: the Transformer runs at {rate:.2f} of its speed in float32 on this "
            f"processor; a step of the small networks takes {min(steps):.1f} to {max(steps):.1f} "
            "times as long."
        )
        lines.append(
            f"Inference, {name}: {half.changed} of {half.rows} answers of the Transformer change "
            f"(logits by up to {half.logit_change:.2g}), accuracy {whole.accuracy:.1%} becomes "
            f"{half.accuracy:.1%}."
        )
    for arithmetic in ARITHMETIC[2:]:
        found = verdicts(runs, arithmetic.name)
        for data, task in (("digits", "Classification"), ("diabetes", "Regression")):
            cases = {name: said for name, said in found.items() if name.startswith(data)}
            hurt = {name: said for name, said in cases.items() if said in ("worse", "not finite")}
            better = [name for name, said in cases.items() if said == "better"]
            line = f"{task} trained in {arithmetic.name}: "
            line += f"hurt in {len(hurt)} of {len(cases)} cases" if hurt else "not hurt"
            line += "".join(f"; {said}: {name}" for name, said in hurt.items())
            lines.append(line + "".join(f"; better: {name}" for name in better) + ".")
    return lines


def plot(runs: Sequence[Run], results: Sequence[Inference], path: Path) -> None:
    """Draw scores, lost updates and the Transformer's figures into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(13, 9), layout="constrained")
    panels = (
        ("digits", "wrong digits, points above float32"),
        ("diabetes", "RMSE, % above float32"),
    )
    for axis, (data, label) in zip(axes[0], panels, strict=True):
        draw_scores(axis, runs, [case for case in CASES if case.data == data], label)
    axis = axes[1, 0]
    for i, name in enumerate(("float32", *HALVES)):
        lost = [share(pick(runs, case, name), "lost", "updates") * 100 for case in CASES]
        axis.barh(np.arange(len(CASES)) + 0.25 * i, lost, 0.25, label=name)
    axis.set_yticks(np.arange(len(CASES)) + 0.25, [case.name for case in CASES])
    axis.set_xlabel("updates that changed nothing, %")
    axis.invert_yaxis()
    axis.legend()
    axis = axes[1, 1]
    slowest = max(one.seconds for one in results)
    for one in results:
        x, kept = one.seconds * 1e3, one.weight_bytes / 2**20
        axis.scatter(x, one.logit_change, s=kept * 4, alpha=0.6)
        label = f"{one.name}\n{kept:.0f} MiB, {one.changed} of {one.rows} answers change"
        side = "right" if one.seconds > slowest / 2 else "left"
        above = one is not results[-1]  # kept in float16 is as far off as computed in it
        place = {"ha": side, "va": "bottom" if above else "top", "textcoords": "offset points"}
        axis.annotate(label, (x, one.logit_change), (0, 6 if above else -6), fontsize=8, **place)
    axis.set_yscale("symlog", linthresh=1e-4)
    axis.set_xlim(0, slowest * 1.1e3)
    axis.margins(y=0.25)
    axis.set_xlabel("time, ms")
    axis.set_ylabel("largest change of a logit")
    axis.set_title("all-MiniLM-L6-v2")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_scores(axis: Any, runs: Sequence[Run], cases: Sequence[Case], label: str) -> None:
    """One dot a run, against float32 from the same seed; a cross where it was not finite."""
    for i, arithmetic in enumerate(ARITHMETIC):
        x, y = [], []
        for j, case in enumerate(cases):
            single = errors(pick(runs, case, "float32"))
            change = errors(pick(runs, case, arithmetic.name)) - single
            y += list(change * 100 / (1 if case.data == "digits" else single))
            x += [j + (i - 2.5) * 0.12] * len(change)
        dots = axis.scatter(x, y, s=18, label=arithmetic.name)
        gone = sorted({place for place, change in zip(x, y, strict=True) if math.isnan(change)})
        top = axis.get_xaxis_transform()
        axis.scatter(
            gone, [0.97] * len(gone), marker="x", color=dots.get_facecolor(), transform=top
        )
    axis.set_yscale("symlog", linthresh=2)
    axis.axhline(0, color="grey", linewidth=0.5)
    axis.set_xticks(range(len(cases)), [case.name.replace(", ", "\n") for case in cases])
    axis.set_ylabel(label)
    axis.legend(fontsize=8, title="x: not finite")


def without_nan(value: Any) -> Any:
    """The value with null for NaN, which JSON has not."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def data_report() -> tb.HalfReport:
    """What the data would lose in each half type, before anything is trained."""
    diabetes = load_diabetes()
    return tb.half_report(
        {
            "digits": load_digits().data,
            "diabetes": diabetes.data,
            "diabetes, raw target": diabetes.target,
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all; 0, or 2 with one line on stderr where something is missing or unwritable."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer seeds and less text")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw into this PNG")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    options = parser.parse_args(arguments)
    try:
        check_output(options.json, "--json")
        check_output(options.plot, "--plot")
        model_path()
    except CompareError as error:
        print(f"precision.py: {error}", file=sys.stderr)
        return 2
    sizes = QUICK if options.quick else FULL
    print("What the data would lose:", data_report(), sep="\n\n", end="\n\n")
    runs = train_all(seeds=1 if options.quick else 4)
    print(training_table(runs), "\n\n", used_in_half_table(runs), sep="", end="\n\n")
    model, batches, labels = paragraphs(sizes)
    report = tb.half_report(model)
    print("What the model would lose:", report, sep="\n\n", end="\n\n")
    results = infer(model, batches, labels, sizes)
    print(inference_table(results), end="\n\n")
    print("Why", *reasons(runs), sep="\n- ", end="\n\n")
    print("What holds of the claim", *conclusions(runs, results), sep="\n- ")
    if options.plot:
        plot(runs, results, options.plot)
    if options.json:
        figures = {"runs": [asdict(run) for run in runs], "inference": [asdict(r) for r in results]}
        figures |= {"weights": report.to_dict()}
        figures |= {"reasons": reasons(runs), "conclusions": conclusions(runs, results)}
        text = json.dumps(without_nan(figures), indent=1, allow_nan=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
