"""The table, and what has to be said under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tightbatch.compare.check import PaddingCheck
from tightbatch.compare.corpus import Corpus
from tightbatch.compare.dataset import Rows
from tightbatch.compare.model import Start
from tightbatch.compare.settings import Settings
from tightbatch.compare.strategies import Loading
from tightbatch.compare.train import Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tightbatch.amp import Precision

UNSTEADY = 1.5  # slowest over fastest epoch of a strategy
WIDTH = 120  # columns of the table


def console() -> Console:
    """Standard output: colours on a terminal, plain text in a pipe or file."""
    from rich.console import Console

    out = Console(highlight=False)
    # A narrow window folds the lines; rich would cut figures short instead.
    out.width = max(WIDTH, out.width) if out.is_terminal else WIDTH
    return out


def opening(
    settings: Settings, corpus: Corpus, rows: Rows, start: Start, loading: Loading, device: str
) -> list[str]:
    """What is about to be trained, and what was left out or cut to get there."""
    used = len(corpus.texts)
    left_out = [
        f"{number:,} {what}"
        for number, what in (
            (corpus.rows_empty, "empty"),
            (corpus.rows_repeated, "repeated"),
            (corpus.rows_found - corpus.rows_empty - corpus.rows_repeated - used, "not drawn"),
        )
        if number
    ]
    parameters = sum(p.numel() for p in start.model.parameters())
    shorter = "the model's limit" if start.limit <= rows.longest else "the longest training row"
    window, boundaries = settings.shuffle_window or "all", loading.boundaries()
    return [
        f"text      {corpus.source}: {used:,} of {corpus.rows_found:,} rows"
        + (f" ({', '.join(left_out)})" if left_out else ""),
        f"label     {corpus.label_meaning}: {len(corpus.label_names)} of them; "
        f"{len(corpus.training):,} rows to train on, {len(corpus.held_out):,} held out",
        f"model     {start.name}: {parameters:,} parameters, vocabulary "
        f"{len(start.tokenizer):,}, limit {start.limit} tokens; on {device}",
        f"cut       {rows.rows_cut:,} rows were longer and lost {rows.tokens_lost:,} of "
        f"{rows.tokens_before:,} tokens",
        f"fixed     padded to {loading.width} tokens: {shorter} (limit {start.limit}, longest "
        f"{rows.longest})",
        f"buckets   {len(boundaries)} widths with the least padding: "
        f"{', '.join(map(str, boundaries[:12]))}{', ...' if len(boundaries) > 12 else ''}",
        f"lines     packed: batches of {loading.packs} packs of {loading.pack_width} tokens; "
        f"padding-free: one line of up to {loading.batch_tokens:,} tokens",
        f"training  {settings.epochs} epochs, batches of {settings.batch_size}, AdamW at "
        f"{start.learning_rate:g}, seed {settings.seed}: the same start for all",
        f"order     new every epoch; uniform-length sorts {window} rows together and shuffles the "
        "batches (--shuffle-window)",
    ]


def result_table(results: list[Result], majority: float, names: dict[str, str]) -> Table:
    """One line per strategy, those of `names` that were not run among them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_footer=True)
    table.add_column("strategy", no_wrap=True, footer="the commonest label")
    for heading in (
        "real\ntokens",
        "padded\ntokens",
        "waste",
        "attn.\npairs",
        "shapes",
        "steps",
        "s per\nepoch",
        "of it\ndata",
        "tokens\nper s",
        "speed\n-up",
        "final\nloss",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("held-out\naccuracy", justify="right", no_wrap=True, footer=f"{majority:.1%}")
    by_key = {result.strategy.key: result for result in results}
    for key, name in names.items():
        if key not in by_key:
            table.add_row(name, *["-"] * (len(table.columns) - 1))
            continue
        result = by_key[key]
        table.add_row(
            result.strategy.name,
            f"{result.real_tokens:,}",
            f"{result.padded_tokens:,}",
            f"{result.waste:.1%}",
            f"{result.pairs / 1e6:.1f}M",
            f"{result.shapes:,}",
            f"{result.steps:,}",
            f"{result.seconds:.2f}",
            f"{result.data_seconds:.3f}",
            f"{result.tokens_per_second:,.0f}",
            f"{results[0].seconds / result.seconds:.2f}x",
            f"{result.final_loss:.3f}",
            f"{result.accuracy:.1%}",
        )
    return table


def gains(results: list[Result]) -> list[str]:
    """What planning gains and what this library gains, apart."""
    by_key = {result.strategy.key: result for result in results}
    dynamic, uniform = by_key["dynamic"], by_key["uniform"]
    same, theirs = by_key["uniform_transformers"], by_key["transformers"]
    return [
        f"Planning: dynamic padding takes {dynamic.seconds / uniform.seconds:.2f}x the time of "
        "uniform-length batching, both padded by this library.",
        f"This library: the same batches padded by transformers (HF) take "
        f"{same.seconds / uniform.seconds:.2f}x the time;",
        f"  its data work an epoch takes {same.data_seconds * 1e3:.1f} ms, ours "
        f"{uniform.data_seconds * 1e3:.1f} ms "
        f"({same.data_seconds / uniform.data_seconds:.1f}x).",
        f"Both: transformers' group_by_length sampler and collator take "
        f"{theirs.seconds / uniform.seconds:.2f}x the time of uniform-length batching.",
    ]


def layouts(results: list[Result], loading: Loading) -> list[str]:
    """What fewer shapes and no padding cost or gain beside uniform-length batching."""
    by_key = {result.strategy.key: result for result in results}
    uniform = by_key["uniform"]
    whys = {
        "buckets": f"{loading.buckets} widths at most, for compilers and graphs that want few "
        "shapes",
        "packed": f"a mask over all {loading.pack_width} tokens of a pack keeps its rows apart",
        "padding_free": "attention goes row by row, as kernels for variable lengths do",
    }
    lines = ["Beside uniform-length batching:"]
    for key, why in whys.items():
        if key in by_key:
            found = by_key[key]
            lines.append(
                f"  {found.strategy.name}: {found.seconds / uniform.seconds:.2f}x the time, "
                f"{found.waste:.1%} waste for {uniform.waste:.1%}, "
                f"{found.pairs / uniform.pairs:.2f}x the attention, shapes: {found.shapes} "
                f"for {uniform.shapes};"
            )
            lines.append(f"    {why}.")
    return lines


def precision_notes(results: list[Result], half: Precision) -> list[str]:
    """Which half type, why, and whether it paid."""
    by_key = {result.strategy.key: result for result in results}
    lines = [f"Mixed precision: {half.dtype}, as {half.reason}."]
    for key, name in (("fixed", "fixed padding"), ("uniform", "uniform-length batching")):
        gain = by_key[key].seconds / by_key[f"{key}_amp"].seconds
        verdict = f"{gain:.2f}x as fast as" if gain >= 1 else f"SLOWER ({gain:.2f}x) than"
        lines.append(f"  With {name} it is {verdict} float32.")
    skipped = sum(result.steps_skipped for result in results)
    if skipped:
        lines.append(f"  The loss scaler skipped {skipped} steps that overflowed.")
    return lines


def check_lines(check: PaddingCheck) -> list[str]:
    """Whether padding affects the model, with the figures that say so."""
    lines = [
        f"Padding does {'not affect' if check.holds else 'AFFECT'} the model: largest difference "
        f"of a logit from that of the row alone, over {check.rows} held-out rows,"
    ]
    for precision in dict.fromkeys(a.precision for a in check.agreements):
        these = [a for a in check.agreements if a.precision == precision]
        lines.append(
            f"  {precision}: {max(a.largest_difference for a in these):.1e} "
            f"(tolerance {these[0].tolerance:.1e}) in {len(these)} strategies"
        )
    lines += [
        f"  FAILED: {a.strategy} ({a.precision}): {a.largest_difference:.3e}, more than "
        f"{a.tolerance:.1e}"
        for a in check.agreements
        if not a.holds
    ]
    lines.append(
        "  control: padded without the attention mask they differ by "
        f"{check.control_difference:.1e}"
    )
    if check.packed_difference is not None:
        lines.append(
            "  control: packed without the mask that keeps rows apart they differ by "
            f"{check.packed_difference:.1e}"
        )
    if not check.sees:
        lines.append(
            "  which is within the tolerance: this model does not see its padding anyway (a causal "
            "one with padding on the right does not)."
        )
    return lines


def unsteady(results: list[Result]) -> list[str]:
    """A warning when the epochs of one strategy, which do the same work, took unlike times."""
    worst = max(results, key=lambda result: max(result.epoch_seconds) / result.seconds)
    ratio = max(worst.epoch_seconds) / worst.seconds
    if ratio < UNSTEADY:
        return []
    return [
        f"UNSTEADY: epochs of {worst.strategy.name!r} took {worst.seconds:.2f} to "
        f"{max(worst.epoch_seconds):.2f} s: other work on this machine blurs these times."
    ]


def legend(results: list[Result]) -> list[str]:
    """What the columns and the strategies mean."""
    return [
        "Tokens and steps are per epoch. Padded tokens include the real ones; waste is the rest of "
        "them. HF is transformers.",
        "Attention pairs are of a query and a key, in one head of one layer; shapes are all that "
        "the batches had.",
        f"Seconds are the fastest of {len(results[0].epoch_seconds)} epochs: planning, collating "
        "and training, not evaluation; tokens per s are real ones.",
    ]


def print_lines(out: Console, lines: list[str]) -> None:
    """Print lines as they are: a file name in square brackets is no markup."""
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
