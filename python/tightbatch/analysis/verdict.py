"""Which way to take, in a sentence or two, and the code to paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .plans import Caps
from .report import Strategy, Window

__all__ = ["Choice", "choose", "code_for", "verdict_on"]

# A simpler way is kept where another one saves no more than this part of its tokens.
LEAST_GAIN = 0.03
WORTH_ESTIMATE = 0.1  # the same, of what batches by length save here
# Padding-free batches ask more of a model than padded ones: they have to be this much faster.
MUCH_FASTER = 1.3
APART = "for a model that keeps their rows apart"


@dataclass(frozen=True)
class Choice:
    """What is recommended, and what that rests on.

    `padded` is the best of the ways that any model takes: `recommended`, or what is left where a
    model does not take that. `estimate` is what this rests on where it is the best only with more
    rows than there are here, or None.
    """

    recommended: str
    padded: str
    strategies: dict[str, Strategy]
    windows: Sequence[Window]
    estimate: Window | None
    limit: float
    rows: int

    @property
    def window(self) -> Window:
        """The window of these strategies."""
        return next(one for one in self.windows if one.is_chosen)

    @property
    def widest(self) -> float:
        """What one window of all rows gives; 0 where that is not much more."""
        all_rows = self.windows[-1].speed_up
        return all_rows if _saves(all_rows, self.window.speed_up) else 0.0


def choose(
    strategies: Sequence[Strategy],
    windows: Sequence[Window],
    estimate: Window | None,
    limit: float,
    rows: int,
) -> Choice:
    """Choose from the simplest way on; one that not every model takes only if it is much faster."""
    named = {one.name: one for one in strategies}
    padded = "fixed"
    for name in ("dynamic", "uniform-length"):
        if named[name].padded_tokens < (1 - LEAST_GAIN) * named[padded].padded_tokens:
            padded = name
    if named["fixed"].padded_tokens == 0:
        padded = "dynamic"  # no width is known that other rows would fit
    reached = named[padded].speed_up
    # Where batches by length gain here too, the estimate says little more unless it is far better.
    least = WORTH_ESTIMATE if padded == "uniform-length" else LEAST_GAIN
    if estimate is not None and _saves(estimate.speed_up, reached, least):
        padded, reached = "uniform-length", estimate.speed_up
    else:
        estimate = None
    much = named["padding-free"].speed_up >= MUCH_FASTER * reached
    recommended = "padding-free" if much else padded
    return Choice(recommended, padded, named, windows, estimate, limit, rows)


def _saves(speed_up: float, other: float, least: float = LEAST_GAIN) -> bool:
    """Tell whether a way saves more than a few percent of the tokens of another."""
    return other < (1 - least) * speed_up


def verdict_on(choice: Choice, caps: Caps) -> str:
    """Say in a sentence or two what is gained, of how much, and what would gain more."""
    own = choice.strategies.get("your sampler")
    text = _said(choice, caps)
    if own is not None:
        text += f"; your sampler: {own.speed_up:.2f}, with {own.waste:.1%} padding"
    return f"{text}."


def _said(choice: Choice, caps: Caps) -> str:
    named, padded = choice.strategies, choice.padded
    best, fixed = named[padded], named["fixed"]
    if fixed.padded_tokens == 0:
        return "Nothing to gain: the rows have no tokens"
    if choice.recommended == "padding-free":
        return _on_padding_free(choice, caps)
    if choice.estimate is not None:
        return _on_few_rows(choice, choice.estimate)
    if padded == "fixed" and not _saves(choice.limit, 1.0):
        return (
            f"Nothing to gain: of fixed padding's tokens {fixed.waste:.1%} are padding, and no way "
            f"is more than {choice.limit:.2f} times faster"
        )
    if padded == "fixed":
        text = (
            f"Fixed padding: {fixed.waste:.1%} of its tokens are padding, and batches by length or "
            f"dynamic padding save less than {LEAST_GAIN:.0%} of them"
        )
        return text + _wider(choice, caps) + _without_padding(choice)
    wider = _wider(choice, caps)
    of_most = f", of at most {choice.limit:.2f}; {best.waste:.1%} padding instead of "
    text = f"{best.speed_up:.2f} times fewer tokens than fixed padding"
    if padded == "uniform-length":
        text = f"Batches by length: {text}{wider}{of_most}{fixed.waste:.1%}"
    else:
        saved = 1 - named["uniform-length"].padded_tokens / best.padded_tokens
        more = f"{saved:.1%} more" if saved >= 0.0005 else "nothing more"
        text = f"Dynamic padding: {text}{of_most}{fixed.waste:.1%}; batches by length would save "
        text += more + wider
    return text + _without_padding(choice)


def _on_padding_free(choice: Choice, caps: Caps) -> str:
    """Say that batches without padding gain much more than any padded ones."""
    padded, estimate = choice.padded, choice.estimate
    text = (
        f"Padding-free batches, {APART}: {choice.strategies['padding-free'].speed_up:.2f} times "
        "fewer tokens than fixed padding; "
    )
    if estimate is not None:
        return (
            f"{text}padded, batches by length give about {estimate.speed_up:.2f}, estimated for "
            f"{estimate.data_rows:,} rows like these. {_few_rows(choice, estimate)}"
        )
    if padded == "fixed":
        return f"{text}no padded way saves more than {LEAST_GAIN:.0%}{_wider(choice, caps)}"
    way = "batches by length give" if padded == "uniform-length" else "dynamic padding gives"
    speed_up = choice.strategies[padded].speed_up
    return f"{text}padded, {way} {speed_up:.2f}{_wider(choice, caps)}"


def _on_few_rows(choice: Choice, estimate: Window) -> str:
    """Say what more rows would gain, where these are too few for the default window."""
    return (
        f"Batches by length: about {estimate.speed_up:.2f} times fewer tokens than fixed padding, "
        f"of at most {choice.limit:.2f}, estimated for {estimate.data_rows:,} rows like these. "
        f"{_few_rows(choice, estimate)}{_without_padding(choice)}"
    )


def _few_rows(choice: Choice, estimate: Window) -> str:
    """Say what the default window is here, and what it and one of all rows give."""
    uniform = choice.strategies["uniform-length"]
    text = (
        f"These {choice.rows:,} rows fill only {_batches(uniform.batches)}, so the default window "
        f"is {_batches(choice.window.batches)} instead of {estimate.batches}: here batches by "
        f"length give {uniform.speed_up:.2f}"
    )
    widest = choice.widest
    return f"{text}, {widest:.2f} with shuffle_window=None" if widest else text


def _wider(choice: Choice, caps: Caps) -> str:
    """Say what one window of all rows would give, where it is much more."""
    if not choice.widest:
        return ""
    way = "," if choice.padded == "uniform-length" else "; batches by length give"
    text = f"{way} {choice.widest:.2f} with shuffle_window=None"
    window = caps.shuffle_window
    if isinstance(window, int):
        text += f" instead of {window}, which is {_batches(choice.window.batches)}"
    return text


def _without_padding(choice: Choice) -> str:
    """Say what the ways without padding would give, where it is more."""
    reached = choice.strategies[choice.padded].speed_up
    ways = {"padding-free": "padding-free batches", "packed": "packs"}
    found = {way: choice.strategies[name].speed_up for name, way in ways.items()}
    more = {way: f"{one:.2f}" for way, one in found.items() if _saves(one, reached)}
    figures = " and ".join(dict.fromkeys(more.values()))  # one where they are the same
    return f"; {' or '.join(more)}, {APART}, {figures}" if more else ""


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count:,} batches"


def code_for(choice: Choice, caps: Caps, column: str | None) -> str:
    """Write what to paste: it makes the collate function, and the sampler if there is one."""
    named, recommended = choice.strategies, choice.recommended
    lines = ["import tightbatch as tb"]
    if recommended not in ("uniform-length", "padding-free"):
        return "\n".join([*lines, f"collate_fn = {named[recommended].call}"])
    if column is not None:
        lines.append(f"lengths = tb.lengths(data, column={column!r})")
    if caps.num_replicas > 1:  # as torchrun and others tell it
        lines.insert(0, "import os")
        lines.append('rank = int(os.environ.get("RANK", 0))')
    if recommended == "uniform-length" and choice.estimate is not None and choice.widest:
        lines.append(f"# if these {choice.rows:,} rows are all: shuffle_window=None")
    lines.append(f"sampler = {named[recommended].call}")
    if recommended == "uniform-length":
        lines.append(f"collate_fn = {named['dynamic'].call}")
    else:  # which tries whether the model keeps rows apart
        cut = "" if caps.max_length is None else f", max_length={caps.max_length}"
        lines.append(f"collate_fn = tb.PaddingFreeCollator.for_model(model{cut})")
    return "\n".join(lines)
