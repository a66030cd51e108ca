"""A report as text of any width, in rich's colours, and as HTML."""

from __future__ import annotations

import html
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._html import Cell, table

if TYPE_CHECKING:
    from .report import PaddingReport, Strategy, Window

MOST_WIDTH = 140
GAP = "  "


@dataclass(frozen=True)
class Table:
    """A table of text; the first column names the rows."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int = -1  # the row that is recommended


def _scaled(number: float) -> str:
    """Write a large number in four characters or so, a huge one with a power of ten."""
    if number >= 1e18 * 0.9995:
        return f"{number:.2e}".replace("e+", "e")
    for unit, name in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit * 0.9995:
            scaled = number / unit
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{name}"
    return f"{number:.0f}"


def _whole(number: float) -> str:
    """Write a number in full up to seven digits."""
    return f"{number:g}" if number < 1e7 else _scaled(number)


def _mean(number: float) -> str:
    return f"{number:,.1f}" if number < 1e7 else _scaled(number)


def _bytes(number: int) -> str:
    units = ((2**60, "EiB"), (2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"))
    for unit, name in (*units, (2**20, "MiB"), (2**10, "KiB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"


def percent(part: float) -> str:
    """Write a part of 1 with two digits at least, so that little is not nothing."""
    if 0 < part < 5e-5:
        return "<0.01%"
    return f"{part:.1%}" if part >= 0.00995 or part == 0 else f"{part:.2%}"


def strategy_table(report: PaddingReport) -> Table:
    """Lay out the strategies."""
    ranks = report.settings["num_replicas"]
    head = ["strategy", "tokens", "waste", "speed-up", "attention", "its speed-up"]
    head += ["batches", "widths", "shapes", "largest batch", "bytes"]
    head += ["balance"] if ranks > 1 else []

    def line(one: Strategy) -> tuple[str, ...]:
        cells = [one.name, _scaled(one.padded_tokens), percent(one.waste), f"{one.speed_up:.2f}x"]
        cells += [_scaled(one.attention), f"{one.attention_speed_up:.2f}x", f"{one.batches:,}"]
        cells += [f"{one.widths:,}", f"{one.shapes:,}"]
        cells += [
            f"{_whole(one.largest_rows)}x{_whole(one.largest_width)}",
            _bytes(one.largest_bytes),
        ]
        cells += [percent(one.balance)] if ranks > 1 else []
        return tuple(cells)

    names = [one.name for one in report.strategies]
    lines = [line(one) for one in report.strategies]
    if all(one.real_tokens == report.tokens for one in report.strategies):
        limit = ["(the limit)", _scaled(report.tokens), "0.0%", f"{report.limit:.2f}x"]
        least = report["padding-free"].attention
        limit += [_scaled(least), f"{report.attention_limit:.2f}x"]
        lines.append(tuple(limit + [""] * (len(head) - len(limit))))
    return Table(tuple(head), tuple(lines), names.index(report.recommended))


def window_table(report: PaddingReport) -> Table:
    """Lay out the windows."""

    def line(one: Window) -> tuple[str, ...]:
        rows = f"{one.rows:,}" + (" (all)" if one.rows == one.data_rows else "")
        if one is report.estimate:
            rows = f"{one.rows:,} of {one.data_rows:,}"
        return (
            rows,
            percent(one.waste),
            f"{one.speed_up:.2f}x",
            _mean(one.forced),
            percent(one.mixing),
        )

    head = ("shuffle_window", "waste", "speed-up", "spread forced", "mixing")
    chosen = [one.is_chosen for one in report.windows]
    more = () if report.estimate is None else (report.estimate,)
    return Table(head, tuple(map(line, (*report.windows, *more))), chosen.index(True))


def opening(report: PaddingReport) -> str:
    """Say what was measured."""
    text = f"{report.rows:,} rows, {report.tokens:,} tokens: mean {_mean(report.mean_length)}, "
    median = _mean(report.median_length).removesuffix(".0")
    text += f"median {median}, longest {report.longest:,}."
    if report.rows_cut:
        text += f" {report.rows_cut:,} rows were cut and lost {report.tokens_cut:,} tokens."
    if report.rows_dropped:
        text += f" {report.rows_dropped:,} rows were left out."
    return text


def notes(report: PaddingReport) -> list[str]:
    """Say what the columns are and what they rest on."""
    settings = report.settings
    first = (
        f"Exact plans of one epoch, seed {settings['seed']}: not estimates; another seed or epoch "
        "differs a little. Tokens include padding; waste is the part that is padding. Speed-up is "
        "that of tokens against fixed padding: of work that grows with tokens. Attention is rows "
        "times the square of the width, of row lengths where rows are kept apart (packed, "
        f"padding-free). Packs hold {report.capacity:,} tokens; bytes are those of one column of "
        "int64."
    )
    second = (
        "A larger shuffle_window pads less, and batches are less random: spread forced is how much "
        "wider their mean lengths spread than those of random batches, in tokens; mixing is the "
        "part of the variance of lengths inside batches, 100% in random ones."
    )
    if report.estimate is not None:
        second += (
            f" The last line is an estimate, of the default window on {report.estimate.data_rows:,}"
            " rows like these, each of them several times."
        )
    ranks = settings["num_replicas"]
    third = f" Balance is the part of the time that {ranks} ranks work, if time grows with tokens."
    return [first + (third if ranks > 1 else ""), second]


def parts(report: PaddingReport) -> list[str | Table]:
    """Give what every form of the report shows, in order."""
    first, second = notes(report)
    found: list[str | Table] = [opening(report), strategy_table(report), first]
    found += [window_table(report), second, report.verdict]
    return found


def blocks(table: Table, width: int, gap: int = len(GAP)) -> Iterator[Table]:
    """Divide a table into ones that fit: each has the first column, and as many as fit beside."""
    sizes = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    begin = 1
    while begin < len(sizes):
        end, used = begin + 1, sizes[0] + gap + sizes[begin] + 2
        while end < len(sizes) and used + gap + sizes[end] <= width:
            used += gap + sizes[end]
            end += 1
        rows = tuple((row[0], *row[begin:end]) for row in table.rows)
        yield Table((table.head[0], *table.head[begin:end]), rows, table.marked)
        begin = end


def _lines(table: Table, width: int) -> Iterator[str]:
    sizes = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    for number, row in enumerate((table.head, *table.rows), -1):
        cells = [
            cell.ljust(size) if i == 0 else cell.rjust(size)
            for i, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ]
        line = ("> " if number == table.marked else "  ") + GAP.join(cells).rstrip()
        yield from textwrap.wrap(line, width, subsequent_indent="    ", drop_whitespace=False)


def as_text(report: PaddingReport, width: int | None = None) -> str:
    """Write the report in lines of at most `width` characters: the terminal's."""
    if width is None:
        width = min(shutil.get_terminal_size((100, 24)).columns, MOST_WIDTH)
    width = max(width, 8)
    shown: list[str] = []
    for part in parts(report):
        if isinstance(part, str):
            shown += [*textwrap.wrap(part, width, break_on_hyphens=False), ""]
        else:
            for block in blocks(part, width):
                shown += [*_lines(block, width), ""]
    return "\n".join([*shown, *report.code.splitlines()])


def as_rich(report: PaddingReport, width: int) -> Iterator[Any]:
    """Give what rich prints, in colours."""
    from rich import box, text
    from rich.table import Table as RichTable

    for part in parts(report):
        if isinstance(part, str):
            yield text.Text(part, style="bold" if part is report.verdict else "")
            yield text.Text()
            continue
        for block in blocks(part, width, gap=3):
            shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
            for i, name in enumerate(block.head):
                shown.add_column(name, justify="left" if i == 0 else "right", no_wrap=i > 0)
            for number, row in enumerate(block.rows):
                shown.add_row(*row, style="bold green" if number == block.marked else "")
            yield shown
    yield text.Text(report.code, style="cyan")


def as_html(report: PaddingReport) -> str:
    """Write the report as HTML."""
    shown = []
    for part in parts(report):
        if isinstance(part, str):
            tag = "b" if part is report.verdict else "span"
            shown.append(f"<p><{tag}>{html.escape(part)}</{tag}></p>")
            continue
        rows = (
            _cells(row, ";font-weight:bold" if number == part.marked else "")
            for number, row in enumerate(part.rows)
        )
        shown.append(table(_cells(part.head, ""), rows))
    from .report_plot import as_images

    style = "font-family:monospace;text-align:left;overflow-x:auto;margin:1em 0"
    code = f'<pre style="{style}">{html.escape(report.code)}</pre>'
    return "<div>" + "".join(shown) + code + as_images(report) + "</div>"


def _cells(cells: tuple[str, ...], style: str) -> list[Cell]:
    sides = ["left", *["right"] * (len(cells) - 1)]
    return [
        Cell(text, f"text-align:{side}{style}") for side, text in zip(sides, cells, strict=True)
    ]
