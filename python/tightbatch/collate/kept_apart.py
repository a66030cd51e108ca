"""Find the settings with which a model keeps the rows of a padding-free batch apart, by trying."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

__all__ = ["find_longest", "find_settings"]

FUNCTION = "PaddingFreeCollator.for_model"
# Rows of a few tokens, so that the trial costs next to nothing, also for a large model.
LENGTHS = (5, 2, 7)
# Rows that are longer than the window of local attention show whether it is kept.
LONGEST_WINDOW = 1024
WINDOWS = ("sliding_window", "local_attention", "attention_window", "window_size")
# Outputs of a row alone and in a batch differ by rounding, in another order of summation; tokens of
# other rows may change nothing at all, or the last bit where experts share a product of matrices.
ALONE, OTHERS = {4: 1e-3, 2: 5e-2}, {4: 1e-5, 2: 1e-2}
Make = Callable[[Mapping[str, Any]], Callable[[Any], Mapping[str, Any]]]


class _Moved(NamedTuple):
    """What a trial found: how far a row's outputs moved, and why; "" if it was not too far."""

    row: int
    by: float
    why: str


def find_settings(model: Any, make: Make, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings with which ``make(settings)`` makes batches that the model keeps apart.

    ``given`` are settings that are not to be changed. ValueError if there are none.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        given_type = type(model).__name__
        raise TypeError(f"{FUNCTION}(): model has type {given_type}; expected a torch.nn.Module")
    with _evaluated(model), torch.no_grad():
        rows = _rows(model)
        alone = [
            _outputs(model, {"input_ids": _tensor(model, row)[None]}, len(row)) for row in rows
        ]
        looks_ahead = _looks_ahead(model, rows[-1], alone[-1])
        labels = {"return_labels": False} if looks_ahead else {}
        found: list[str] = []
        for settings in _candidates(model, looks_ahead):
            if not given.keys().isdisjoint(settings):
                continue
            moved = _try(model, make({**given, **settings}), rows, alone)
            if isinstance(moved, _Moved) and not moved.why:
                return {**labels, **settings}
            shown = ", ".join(f"{name}={value!r}" for name, value in settings.items())
            found.append(f"with {shown or 'the defaults'} {_describe(moved)}")
    kind, config = type(model).__name__, getattr(model, "config", None)
    attention = getattr(config, "_attn_implementation", None)
    under = f" under {attention} attention" if attention else ""
    raise ValueError(
        f"{FUNCTION}(): {kind}{under} does not keep the rows of a batch apart: {'; '.join(found)}. "
        "Use another attention, or PadCollator, which pads"
    )


def find_longest(model: Any, collate: Any) -> dict[str, int]:
    """Give max_seqlen for a batch of constant shape: the positions that the model has."""
    most = getattr(_config(model), "max_position_embeddings", None)
    is_static = collate.max_tokens is not None or collate.max_segments is not None
    is_given = collate.max_length is not None or collate.max_seqlen is not None
    if not is_static or is_given or not isinstance(most, int):
        return {}
    most -= collate.position_ids_start
    most = most if collate.max_tokens is None else min(most, collate.max_tokens)
    most -= most % (collate.segment_multiple_of or 1)  # segments are filled up to a multiple
    return {"max_seqlen": most} if most > 0 else {}


def _describe(moved: _Moved | Exception) -> str:
    if isinstance(moved, _Moved):
        return f"row {moved.row} moved by {moved.by:.2g} {moved.why}"
    text = (str(moved).splitlines() or [""])[0]
    return f"it raised {type(moved).__name__}: {text[:100]}"


def _candidates(model: Any, looks_ahead: bool) -> Iterator[dict[str, Any]]:
    """Give the settings to try, those that cost least first."""
    pad = getattr(getattr(model, "config", None), "pad_token_id", None)
    starts: list[dict[str, Any]] = [{}]
    if isinstance(pad, int) and pad >= 0:
        starts.append({"position_ids_start": pad + 1})  # as RoBERTa counts
    kind = "bidirectional" if looks_ahead else "causal"
    for mask in ({}, {"attention_mask": kind}):
        for start in starts:
            yield {**start, **mask}


@contextmanager
def _evaluated(model: Any) -> Iterator[None]:
    """Turn off dropout, and leave each part of the model in the mode that it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _device(model: Any) -> Any:
    return next((p.device for p in model.parameters()), None)


def _tensor(model: Any, row: Any) -> Any:
    import torch

    return torch.from_numpy(row).to(_device(model))


def _embedding(model: Any) -> Any:
    import torch

    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return next((p for p in model.modules() if isinstance(p, torch.nn.Embedding)), None)


def _config(model: Any) -> Any:
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _rows(model: Any) -> list[Any]:
    """Make rows of tokens that are not special, the last of them longer than the window."""
    config, embedding = _config(model), _embedding(model)
    size = getattr(embedding, "num_embeddings", 0)
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    tokens = np.array([token for token in range(min(size, 1000)) if token not in special])
    if len(tokens) < 2:
        raise TypeError(f"{FUNCTION}(): {type(model).__name__} has no embedding of tokens to try")
    windows = [getattr(config, name, None) for name in WINDOWS]
    longest = max((w for w in windows if isinstance(w, int) and w <= LONGEST_WINDOW), default=0)
    most = getattr(config, "max_position_embeddings", None)
    last = max(LENGTHS[-1], longest + 2)
    last = min(last, most - 2) if isinstance(most, int) and most > LENGTHS[-1] + 2 else last
    rng = np.random.default_rng(0)
    return [rng.choice(tokens, length) for length in (*LENGTHS[:-1], last)]


def _changed(row: Any, tokens: Any) -> Any:
    """Give a row with another token at each position."""
    places = np.searchsorted(tokens, row)
    return tokens[(places + 1) % len(tokens)]


def _outputs(model: Any, batch: Mapping[str, Any], total: int) -> Any:
    """Give what the model gives for each token, [total, features] in float64."""
    import torch

    out = model(**batch)
    out = out if isinstance(out, torch.Tensor) else out[0]
    if not isinstance(out, torch.Tensor) or out.shape[:2] != (1, total):
        shape = list(getattr(out, "shape", []))
        raise ValueError(
            f"{FUNCTION}(): {type(model).__name__} gives {shape} for {total} tokens in one row; "
            "expected outputs for each token, [1, total, ...]. A model that gives one output for "
            "each row takes a padded batch: use PadCollator"
        )
    return out[0].reshape(total, -1).double()


def _limits(model: Any) -> tuple[float, float]:
    sizes = [p.dtype.itemsize for p in model.parameters() if p.dtype.is_floating_point]
    size = 2 if min(sizes, default=4) < 4 else 4
    return ALONE[size], OTHERS[size]


def _looks_ahead(model: Any, row: Any, alone: Any) -> bool:
    """Tell whether a token's output depends on the tokens after it."""
    changed = row.copy()
    changed[-1] = row[0] if row[0] != row[-1] else row[row != row[-1]][0]
    again = _outputs(model, {"input_ids": _tensor(model, changed)[None]}, len(row))
    moved = (again[:-1] - alone[:-1]).abs().max().item()
    return bool(moved > _limits(model)[1] * alone.abs().max().item())


def _try(model: Any, collate: Any, rows: list[Any], alone: list[Any]) -> _Moved | Exception:
    """Try batches of the rows: against each row alone, and with other tokens in the others."""
    try:
        return _measure(model, collate, rows, alone)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        return error


def _measure(model: Any, collate: Any, rows: list[Any], alone: list[Any]) -> _Moved:
    near, nearer = _limits(model)
    tokens = np.unique(np.concatenate(rows))
    batches = [rows]
    for row in range(len(rows)):
        batches.append([own if k == row else _changed(own, tokens) for k, own in enumerate(rows)])
    outputs = [_in_batch(model, collate, batch) for batch in batches]
    worst = _Moved(0, 0.0, "")
    for row, own in enumerate(alone):
        scale = max(own.abs().max().item(), 1e-30)
        by = (outputs[row + 1][row] - outputs[0][row]).abs().max().item() / scale
        if not by <= nearer:
            return _Moved(row, by, "of its size with the tokens of other rows")
        by = (outputs[0][row] - own).abs().max().item() / scale
        if not by <= near:
            worst = _Moved(row, by, "of its size from what it is alone")
    return worst


def _in_batch(model: Any, collate: Any, rows: list[Any]) -> list[Any]:
    """Give the outputs of each row, from one batch of all rows."""
    batch = collate([{"input_ids": row} for row in rows])
    device, total = _device(model), batch["input_ids"].shape[1]
    batch = {k: v.to(device) if hasattr(v, "to") else v for k, v in batch.items()}
    out = _outputs(model, batch, total)
    return list(out.split([len(row) for row in rows]))
