"""Which way to take, in a sentence, and the code to paste."""

from __future__ import annotations

from collections.abc import Sequence

from .plans import Caps
from .report import Strategy

__all__ = ["choose", "code_for", "verdict_on"]

# A simpler way is kept where another one saves no more than this part of its tokens.
LEAST_GAIN = 0.03


def choose(strategies: Sequence[Strategy]) -> str:
    """Choose among the ways that any model takes: padded, from the simplest on."""
    named = {one.name: one for one in strategies}
    best = named["fixed"]
    for name in ("dynamic", "uniform-length"):
        if named[name].padded_tokens < (1 - LEAST_GAIN) * best.padded_tokens:
            best = named[name]
    return best.name


def verdict_on(strategies: Sequence[Strategy], recommended: str, limit: float) -> str:
    """Say in a sentence what is gained, of how much, and what would gain more."""
    named = {one.name: one for one in strategies}
    best, fixed = named[recommended], named["fixed"]
    words = {"dynamic": "Dynamic padding", "uniform-length": "Batches by length"}
    if recommended == "fixed":
        text = f"Nothing to gain: of fixed padding's tokens {fixed.waste:.1%} are padding, and no "
        return f"{text}way is more than {limit:.2f} times faster{_of_own(named)}."
    text = (
        f"{words[recommended]}: {best.speed_up:.2f} times fewer tokens than fixed padding, of at "
        f"most {limit:.2f}; {best.waste:.1%} padding instead of {fixed.waste:.1%}"
    )
    if recommended == "dynamic":
        saved = 1 - named["uniform-length"].padded_tokens / max(best.padded_tokens, 1)
        text += f"; batches by length would save {max(saved, 0.0):.1%} more"
    packed = named["packed"]
    if packed.padded_tokens < (1 - LEAST_GAIN) * best.padded_tokens:
        text += f"; packs, for a model that keeps their rows apart, {packed.speed_up:.2f}"
    return f"{text}{_of_own(named)}."


def _of_own(named: dict[str, Strategy]) -> str:
    own = named.get("your sampler")
    return (
        "" if own is None else f"; your sampler: {own.speed_up:.2f}, with {own.waste:.1%} padding"
    )


def code_for(
    recommended: str, caps: Caps, column: str | None, strategies: Sequence[Strategy]
) -> str:
    """Write what to paste: it makes the collate function, and the sampler if there is one."""
    named = {one.name: one for one in strategies}
    lines = ["import tightbatch as tb"]
    if recommended == "uniform-length":
        if column is not None:
            lines.append(f"lengths = tb.lengths(data, column={column!r})")
        if caps.num_replicas > 1:  # as torchrun and others tell it
            lines.insert(0, "import os")
            lines.append('rank = int(os.environ.get("RANK", 0))')
        lines.append(f"sampler = {named[recommended].call}")
        lines.append(f"collate_fn = {named['dynamic'].call}")
    else:
        lines.append(f"collate_fn = {named[recommended].call}")
    return "\n".join(lines)
