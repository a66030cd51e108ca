"""Types of parameters that many functions share, for editors and type checkers."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

Side: TypeAlias = Literal["right", "left"]
Tensors: TypeAlias = Literal["pt", "np"]
Overlong: TypeAlias = Literal["error", "truncate", "split", "drop"]
# Any is for transformers' PaddingStrategy, which may not be installed.
Padding: TypeAlias = bool | Literal["longest", "max_length", "do_not_pad"] | Any
Overflow: TypeAlias = Literal["warn", "inf", "saturate", "error"]
Indices: TypeAlias = NDArray[np.int64]


class PadOptions(TypedDict, total=False):
    """The options of :func:`tightbatch.pad` that do not change what kind of result it gives."""

    width: int | None
    max_length: int | None
    padding_value: float
    padding_side: Side
    truncation_side: Side
    pad_to_multiple_of: int | None
    dtype: Any
