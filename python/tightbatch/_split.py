"""Streams of tokens, cut where a token, or several of them in a row, ends or begins documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._mapped import as_it_is
from ._words import counted

__all__ = ["documents", "read_tokens", "split"]

Rows = TypeVar("Rows", bound=_core.RaggedBuffers)


def read_tokens(function: str, tokens: Any) -> NDArray[Any]:
    """Read a stream of tokens; one that is C-contiguous is not copied, and a map stays one."""
    array = _core.as_array(function, None, tokens)
    if array.size == 0 and isinstance(tokens, (list, tuple)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{function}(): tokens has the type {array.dtype}; expected integers, the token ids"
        )
    if array.ndim != 1:
        raise ValueError(
            f"{function}(): tokens has the shape {array.shape}; expected one dimension: one long "
            "row of token ids, such as tokens.reshape(-1)"
        )
    return as_it_is(array)


def split(
    function: str,
    cls: type[Rows],
    tokens: Any,
    end: Any,
    start: Any,
    keep_token: Any = True,
    update: Callable[[int], Any] | None = None,
) -> Rows | None:
    """Cut a stream into documents: an object of ``cls``, a Ragged; None where nothing cuts it."""
    if (end is None) == (start is None):
        found = "neither end= nor start=" if end is None else "both end= and start="
        raise TypeError(
            f"{function}(): found {found}; expected one of them: the token that ends each "
            "document, or the one that begins it"
        )
    array = read_tokens(function, tokens)
    name, given = ("end", end) if start is None else ("start", start)
    pattern = read_pattern(function, name, given, array.dtype)
    keep = _core.read_flag(function, "keep_token", keep_token)
    return _core.split_tokens(cls, array, pattern, start is not None, keep, update)


def documents(function: str, cls: Any, tokens: Any, end: Any, start: Any, keep_token: Any) -> Any:
    """Cut a stream into documents; refuse one that nothing cuts."""
    rows = split(function, cls, tokens, end, start, keep_token)
    if rows is None:
        name, token = ("end", end) if start is None else ("start", start)
        raise ValueError(
            f"{function}(): {name}={_core.show(token)} is nowhere in "
            f"{counted(len(tokens), 'token')}; expected what stands between documents. "
            "Ragged(tokens, [0, len(tokens)]) takes all as one"
        )
    return rows


def read_pattern(function: str, name: str, given: Any, dtype: Any) -> NDArray[np.uint64]:
    """Read one token id or several, as the bits that a stream of ``dtype`` has for them."""
    several = isinstance(given, (list, tuple)) or getattr(given, "ndim", 0) > 0
    items = list(given) if several else [given]
    if not items:
        raise ValueError(f"{function}(): {name} is empty; expected a token id, or several")
    limits, ids = np.iinfo(dtype), []
    for k, item in enumerate(items):
        called = f"{name}[{k}]" if several else name
        token = _core.read_int(function, called, item, -(2**63), 2**63 - 1)
        if not limits.min <= token <= limits.max:
            raise ValueError(
                f"{function}(): {called}={token} is outside {dtype}, the type of the tokens "
                f"({limits.min} to {limits.max})"
            )
        ids.append(token)
    bits = np.array(ids, np.int64).astype(dtype).view(f"u{dtype.itemsize}")
    return bits.astype(np.uint64)
