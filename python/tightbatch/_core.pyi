from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

def pad(
    function: str,
    sequences: Iterable[Any],
    width: int | None,
    max_length: int | None,
    padding_value: float,
    padding_side: str,
    truncation_side: str,
    pad_to_multiple_of: int | None,
    dtype: Any,
    out: Any,
    return_mask: bool,
    /,
) -> Any: ...
def lengths(function: str, sequences: Iterable[Any], key: Any = ..., /) -> NDArray[np.int64]: ...
def uniform_length_batching(
    sequences: Iterable[Any], batch_size: int, padding_value: float, /
) -> tuple[list[NDArray[Any]], NDArray[np.int64]]: ...
def attention_mask(
    lengths: Any,
    width: int | None,
    padding_side: str,
    pad_to_multiple_of: int | None,
    dtype: Any,
    additive: bool,
    /,
) -> NDArray[Any]: ...
def position_ids(
    lengths: Any,
    width: int | None,
    padding_side: str,
    pad_to_multiple_of: int | None,
    flat: bool,
    /,
) -> NDArray[np.int64]: ...
def gather_columns(
    function: str,
    key: Any,
    samples: Iterable[Any],
    as_dict: Callable[[str, Any, int, Any], dict[Any, Any]],
    /,
) -> dict[Any, list[Any]]: ...
def pad_columns(
    function: str,
    specs: Sequence[tuple[Any, Any, str, tuple[Any, ...]]],
    padding_side: str,
    truncation_side: str,
    links: tuple[tuple[int, int], ...],
    extras: tuple[tuple[str, int], ...],
    promote: str,
    allocate: Callable[[int], NDArray[np.uint8]] | None,
    as_tensors: bool,
    /,
) -> list[tuple[NDArray[Any] | None, int, bool]]: ...
def show(value: Any, /) -> str: ...
def describe(value: Any, /) -> str: ...
def check_columns(
    function: str,
    settings: Mapping[Any, tuple[Any, ...]],
    padding_side: str,
    truncation_side: str,
    /,
) -> None: ...
def read_int(function: str, name: str, value: Any, least: int, most: int, /) -> int: ...
def read_index(function: str, name: str, value: Any, count: int, /) -> int: ...
def read_flag(function: str, name: str, value: Any, /) -> bool: ...
def read_real(function: str, name: str, value: Any, least: float, most: float, /) -> float: ...
def read_choice(function: str, name: str, value: Any, choices: tuple[str, ...], /) -> str: ...
def read_lengths(function: str, name: str, lengths: Any, /) -> NDArray[np.int64]: ...
def read_costs(function: str, name: str, costs: Any, /) -> NDArray[np.int64]: ...
def read_length_pairs(function: str, name: str, lengths: Any, /) -> NDArray[np.int64]: ...
def pair_keys(pairs: NDArray[np.int64], /) -> NDArray[np.int64]: ...
def read_boundaries(function: str, key: Any, boundaries: Any, /) -> NDArray[np.int64]: ...
def read_plan_settings(function: str, settings: dict[str, Any], /) -> dict[str, Any]: ...
def survey_lengths(
    function: str, lengths: NDArray[np.int64], settings: dict[str, Any], /
) -> tuple[int, int, int, int]: ...
def plan_batches(
    function: str, lengths: NDArray[np.int64], settings: dict[str, Any], epoch: int, /
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def measure_plan(
    function: str,
    lengths: NDArray[np.int64],
    settings: dict[str, Any],
    indices: NDArray[np.int64],
    offsets: NDArray[np.int64],
    ranks: int,
    /,
) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]: ...
def number_groups(function: str, labels: Any, /) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def plan_groups(
    function: str,
    lengths: NDArray[np.int64],
    settings: dict[str, Any],
    epoch: int,
    groups: NDArray[np.int64],
    count: int,
    quotas: NDArray[np.int64] | None,
    window_batches: int,
    /,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def fingerprint(function: str, numbers: NDArray[np.int64], /) -> int: ...
def assign_buckets(
    function: str,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    bounds: NDArray[np.int64],
    /,
) -> NDArray[np.int64]: ...
def row_costs(
    function: str, lengths: NDArray[np.int64], settings: dict[str, Any], /
) -> NDArray[np.int64]: ...
def shuffle_lengths(
    function: str, lengths: NDArray[np.int64], seed: int, epoch: int, /
) -> tuple[NDArray[np.int64], bytes]: ...
def plan_lengths(
    function: str,
    shuffled: NDArray[np.int64],
    settings: dict[str, Any],
    random: bytes | None,
    /,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]: ...
def cut_in_order(
    function: str, lengths: NDArray[np.int64], settings: dict[str, Any], /
) -> NDArray[np.int64]: ...
def measure_shapes(
    function: str,
    lengths: NDArray[np.int64],
    settings: dict[str, Any],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    /,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def share_rows(costs: NDArray[np.int64], ranks: int, /) -> NDArray[np.int64]: ...
def zigzag_lengths(lengths: NDArray[np.int64], num_ranks: int, /) -> NDArray[np.int64]: ...
def zigzag_places(
    lengths: NDArray[np.int64], num_ranks: int, rank: int, in_segment: bool, /
) -> NDArray[np.int64]: ...
def zigzag_take(
    lengths: NDArray[np.int64],
    num_ranks: int,
    rank: int,
    is_padded: bool,
    values: NDArray[Any],
    fill: NDArray[Any],
    shift: bool,
    /,
) -> NDArray[Any]: ...
def zigzag_put(
    lengths: NDArray[np.int64],
    num_ranks: int,
    is_padded: bool,
    shares: tuple[NDArray[Any], ...],
    /,
) -> NDArray[Any]: ...
def read_counts(function: str, name: str, counts: Any, /) -> NDArray[np.int64]: ...
def partition(
    costs: NDArray[Any],
    k: int | None,
    cap: float | None,
    equal_counts: bool,
    multiple_of: int | None,
    /,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int, int, int]: ...
def start_stream(
    function: str,
    settings: dict[str, Any],
    size: int,
    most_weight: int | None,
    epoch: int,
    stream: int,
    share: int,
    shares: int,
    fingerprint: int,
    sides: bool | tuple[int | None, ...],
    /,
) -> Any: ...
def read_into_stream(
    stream: Any,
    samples: Iterator[Any],
    getter: str | Callable[[Any], Any] | None,
    get_costs: Callable[[Any], tuple[Any, ...]] | None,
    weigh: Callable[[Any], int] | int | None,
    held: dict[int, Any],
    progress: list[Any],
    /,
) -> bool: ...
def take_from_stream(stream: Any, is_end: bool, held: dict[int, Any], /) -> list[Any] | None: ...
def stream_counts(stream: Any, /) -> tuple[int, int, int]: ...
def save_stream(stream: Any, /) -> tuple[list[int], list[int], bool, int, int, int, int, int]: ...
def restore_to_stream(
    stream: Any,
    number: int,
    item: Any,
    weight: int | None,
    costs: tuple[Any, ...] | None,
    place: int,
    /,
) -> None: ...
def continue_stream(
    stream: Any,
    pack: list[int],
    is_chosen: bool,
    next: int,
    batches: int,
    fingerprint: int,
    dropped: int,
    truncated: int,
    /,
) -> bool: ...
def bucket_boundaries(
    lengths: Any, k: int, pad_to_multiple_of: int | None, return_waste: bool, /
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]: ...

@disjoint_base
class RaggedBuffers:
    def __init__(
        self,
        chunks: tuple[NDArray[Any], ...],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        /,
    ) -> None: ...
    @property
    def _chunks(self) -> tuple[NDArray[Any], ...]: ...
    @property
    def _bounds(self) -> NDArray[np.int64]: ...
    @property
    def starts(self) -> NDArray[np.int64]: ...
    @property
    def lengths(self) -> NDArray[np.int64]: ...
    def _take(self, indices: NDArray[np.int64], /) -> Self: ...
    def _with_rows(self, starts: NDArray[np.int64], lengths: NDArray[np.int64], /) -> Self: ...

_Rows = TypeVar("_Rows", bound=RaggedBuffers)

def flatten(function: str, cls: type[_Rows], key: Any, sequences: Any, dtype: Any, /) -> _Rows: ...
def as_numbers(function: str, key: Any, numbers: Any, /) -> NDArray[Any]: ...
def as_array(function: str, key: Any, source: Any, /) -> NDArray[Any]: ...
def read_offsets(function: str, name: str, offsets: Any, /) -> NDArray[np.int64]: ...
def as_indices(function: str, indices: Any, count: int, /) -> NDArray[np.int64]: ...
def arrow_rows(
    function: str, cls: type[_Rows], source: Any, column: str | None, fill_null: Any, /
) -> _Rows: ...
def arrow_columns(
    function: str,
    cls: type[_Rows],
    source: Any,
    key: Any,
    wanted: Container[str] | None,
    fill_null: Any,
    chosen: NDArray[np.int64] | None,
    /,
) -> list[tuple[str | None, Any]]: ...
def arrow_lengths(
    function: str, source: Any, column: str, chosen: NDArray[np.int64] | None, /
) -> NDArray[np.int64]: ...
def export_arrow(ragged: RaggedBuffers, /) -> tuple[Any, Any]: ...
def is_arrow(object: Any, /) -> bool: ...
def mask_tokens(
    function: str,
    ids: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    labels: NDArray[np.int64],
    mlm_probability: float | None,
    mask_replace_prob: float,
    random_replace_prob: float,
    mask_token_id: int | None,
    vocab_size: int | None,
    seed: int,
    call: int,
    /,
) -> None: ...
def label_tokens(
    function: str,
    ids: NDArray[np.int64],
    mask: NDArray[np.int64],
    pad_token_id: int | None,
    labels: NDArray[np.int64],
    /,
) -> None: ...
def cu_seqlens(lengths: Any, /) -> NDArray[np.int32]: ...
def segment_ids(
    lengths: Any,
    width: int | None,
    padding_side: str,
    pad_to_multiple_of: int | None,
    /,
) -> NDArray[np.int64]: ...
def segment_mask(
    segment_ids: Any,
    causal: bool,
    window: int | None,
    prefix: Any,
    dtype: Any,
    additive: bool,
    out: Any,
    /,
) -> Any: ...
def block_mask(
    lengths: Any,
    query_size: int,
    key_size: int,
    causal: bool,
    window: int | None,
    width: int | None,
    /,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]: ...
def flatten_columns(
    function: str,
    specs: Sequence[tuple[Any, Any, str, tuple[Any, ...]]],
    settings: Mapping[str, Any],
    keep_empty: bool,
    extras: tuple[str, ...],
    allocate: Callable[[int], NDArray[np.uint8]] | None,
    as_tensors: bool,
    /,
) -> tuple[list[tuple[NDArray[Any], int, bool]], int, int]: ...
def check_padding_free(function: str, settings: Mapping[str, Any], /) -> None: ...
def split_tokens(
    cls: type[_Rows],
    tokens: NDArray[Any],
    pattern: NDArray[np.uint64],
    at_start: bool,
    keep: bool,
    update: Callable[[int], Any] | None,
    /,
) -> _Rows | None: ...
def window_segments(
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    window_starts: NDArray[np.int64],
    window_lengths: NDArray[np.int64],
    /,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def mean_chunks(
    function: str,
    outputs: RaggedBuffers,
    begins: NDArray[np.int64],
    offsets: NDArray[np.int64],
    /,
) -> NDArray[Any]: ...
def to_float16(x: Any, overflow: str, out: Any, return_counts: bool, /) -> Any: ...
def to_bfloat16(x: Any, overflow: str, out: Any, return_counts: bool, /) -> Any: ...
def to_float32(x: Any, overflow: str, out: Any, return_counts: bool, /) -> Any: ...
def half_loss(
    function: str, key: Any, x: Any, errors: bool, exponents: bool, /
) -> tuple[str, tuple[Any, ...]]: ...
def check_batch(
    function: str,
    keys: tuple[str, ...],
    roles: bytes,
    partners: bytes,
    lent_from: int,
    values: list[Any],
    max_position: int | None,
    vocab_size: int | None,
    ignore_index: int,
    wants_segments: bool,
    /,
) -> (
    int
    | tuple[
        list[tuple[int, int, int, int, int, int, int]],
        int,
        tuple[int, int],
        NDArray[np.int64],
    ]
    | None
): ...
def cpu_levels() -> tuple[str, list[str]]: ...
