"""Documents of a stream of tokens, windows over them, chunks of long ones and back."""

import multiprocessing
import pickle
import re
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tightbatch as tb

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


def split_plainly(tokens, end=None, start=None, keep=True):
    """Cut a list of tokens, one token at a time."""
    pattern = list(end or start)
    rows, row, i = [], [], 0
    while i < len(tokens):
        if tokens[i : i + len(pattern)] != pattern:
            row.append(tokens[i])
            i += 1
            continue
        kept = pattern if keep else []
        if end:
            rows.append(row + kept)
            row = []
        else:
            rows += [row] if i else []
            row = list(kept)
        i += len(pattern)
    found_start = start and any(tokens[i : i + len(pattern)] == pattern for i in range(len(tokens)))
    return rows + ([row] if row or found_start else [])


# --- documents -------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 3), max_size=200),
    pattern=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    dtype=st.sampled_from(DTYPES),
    at_start=st.booleans(),
    keep=st.booleans(),
)
def test_split_as_in_plain_python(tokens, pattern, dtype, at_start, keep):
    array = np.array(tokens, dtype)
    marker = {"start" if at_start else "end": pattern}
    expected = split_plainly(tokens, keep=keep, **marker)
    there = any(tokens[i : i + len(pattern)] == pattern for i in range(len(tokens)))
    if tokens and not there:
        with pytest.raises(ValueError, match="is nowhere in"):
            tb.Ragged.from_tokens(array, keep_token=keep, **marker)
        return
    rows = tb.Ragged.from_tokens(array, keep_token=keep, **marker)
    assert rows.tolist() == expected
    assert rows.dtype == array.dtype
    assert rows.values is array or np.shares_memory(rows.values, array) or not len(array)
    if keep:
        assert int(rows.lengths.sum()) == len(tokens)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends_of_all_values_and_places(dtype):
    # Long enough for whole blocks and more than the first room for places; the least and the
    # largest id, which share bytes with others.
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(3)
    for token in (limits.min, limits.max, min(limits.max, 2**63 - 1), 1):
        if token > 2**63 - 1:
            continue
        tokens = rng.integers(0, 100, 9000).astype(dtype)
        places = np.unique(rng.integers(0, 9000, 4000))
        tokens[tokens == token] = 2
        tokens[places] = token
        rows = tb.Ragged.from_tokens(tokens, end=int(token))
        ends = places + 1 if places[-1] == 8999 else np.append(places + 1, 9000)
        np.testing.assert_array_equal(rows.starts + rows.lengths, ends)
        np.testing.assert_array_equal(rows.lengths, np.diff(ends, prepend=0))


def test_empty_documents_a_rest_and_nothing():
    stream = np.array([0, 0, 5, 0, 6, 7], np.uint16)
    assert tb.Ragged.from_tokens(stream, 0).tolist() == [[0], [0], [5, 0], [6, 7]]
    assert tb.Ragged.from_tokens(stream, 0, keep_token=False).tolist() == [[], [], [5], [6, 7]]
    assert tb.Ragged.from_tokens(stream, start=0).tolist() == [[0], [0, 5], [0, 6, 7]]
    assert tb.Ragged.from_tokens(stream[2:], start=0).tolist() == [[5], [0, 6, 7]]
    assert len(tb.Ragged.from_tokens(stream[:0], 0)) == 0
    assert len(tb.Ragged.from_tokens([], 0)) == 0
    with pytest.raises(ValueError, match=r"end=9 is nowhere in 6 tokens"):
        tb.Ragged.from_tokens(stream, 9)


def test_several_tokens_are_an_order_and_do_not_overlap():
    assert tb.Ragged.from_tokens([7, 7, 7, 7, 7], [7, 7]).tolist() == [[7, 7], [7, 7], [7]]
    assert tb.Ragged.from_tokens([1, 2, 9, 2, 1], [2, 1]).tolist() == [[1, 2, 9, 2, 1]]
    far = [5] * 63 + [1, 2] + [5] * 70  # across the end of a block
    assert tb.Ragged.from_tokens(far, [1, 2]).lengths.tolist() == [65, 70]


@pytest.mark.parametrize(
    ("tokens", "marker", "error", "message"),
    [
        ([1, 2], {}, TypeError, "found neither end= nor start=; expected one of them"),
        ([1, 2], {"end": 1, "start": 2}, TypeError, "found both end= and start="),
        (np.uint16([1]), {"end": 65536}, ValueError, r"end=65536 is outside uint16"),
        (np.uint16([1]), {"end": -1}, ValueError, r"end=-1 is outside uint16, the type of the tok"),
        (np.int8([1]), {"start": [1, 128]}, ValueError, r"start\[1\]=128 is outside int8"),
        ([1], {"end": []}, ValueError, "end is empty"),
        ([1], {"end": {1}}, TypeError, r"end=\{1\}"),  # no order
        ([1], {"end": True}, TypeError, "end=True"),
        ([1], {"end": 1.0}, TypeError, "end=1.0"),
        ([1], {"end": "1"}, TypeError, "end='1'"),
        ([1], {"end": 2**70}, OverflowError, "end="),
        ([1.0], {"end": 1}, TypeError, "tokens has the type float64; expected integers"),
        ([True], {"end": 1}, TypeError, "tokens has the type bool"),
        ([[1, 2]], {"end": 1}, ValueError, r"the shape \(1, 2\); expected one dimension"),
        (5, {"end": 5}, ValueError, r"the shape \(\)"),
        (None, {"end": 5}, TypeError, "tokens has the type object"),
        ([1], {"end": 1, "keep_token": 1}, TypeError, "keep_token=1"),
    ],
)
def test_refused(tokens, marker, error, message):
    with pytest.raises(error, match=message):
        tb.Ragged.from_tokens(tokens, **marker)


def test_tensors_and_other_layouts():
    tokens = np.array([1, 0, 2, 3, 0, 4], np.int32)
    for same in (np.repeat(tokens, 2)[::2], tokens.astype(">i4"), memoryview(tokens), tokens[:]):
        rows = tb.Ragged.from_tokens(same, 0)
        assert rows.tolist() == [[1, 0], [2, 3, 0], [4]]
        assert rows.dtype == np.int32
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([1, 0, 2])
    rows = tb.Ragged.from_tokens(tensor, 0)
    tensor[0] = 9
    assert rows.tolist() == [[9, 0], [2]]  # not a copy


# --- files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A file of 200,000 tokens of uint16 in documents of about 100, each ended by 0."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 1000, 200_000).astype(np.uint16)
    tokens[rng.integers(0, len(tokens), 2000)] = 0
    path = tmp_path_factory.mktemp("corpus") / "train.bin"
    tokens.tofile(path)
    return path


def test_a_memory_map_stays_one(corpus):
    mapped = np.memmap(corpus, np.uint16, "r")
    rows = tb.Ragged.from_tokens(mapped, 0)
    assert isinstance(rows.values, np.memmap)
    assert rows.values is mapped
    assert isinstance(rows[3], np.memmap)
    assert np.concatenate(list(rows)).tobytes() == corpus.read_bytes()
    data = tb.windows(rows[10:500], 256, stride=128)
    assert np.shares_memory(data["input_ids"][5], mapped)


def test_pickles_have_no_tokens(corpus):
    mapped = np.memmap(corpus, np.uint16, "r")
    rows = tb.Ragged.from_tokens(mapped, 0)
    data = tb.windows(rows, 1024)
    of_rows, of_data = pickle.dumps(rows), pickle.dumps(data)
    assert len(of_rows) < 16 * len(rows) + 2000  # a start and a length each
    assert len(of_data) < 24 * len(data) + 8 * len(data["seq_lengths"].values) + 3000
    assert len(of_data) < corpus.stat().st_size / 10
    assert pickle.loads(of_rows) == rows
    back = pickle.loads(of_data)
    assert back["input_ids"] == data["input_ids"]
    assert isinstance(back["input_ids"].values, np.memmap)
    # A part of a map is one too.
    part = tb.Ragged.from_tokens(mapped[1001:50_001], 0)
    pickled = pickle.dumps(part)
    assert len(pickled) < 16 * len(part) + 2000
    assert pickle.loads(pickled) == part
    # But what was changed in memory alone is not read from the file.
    changed = tb.Ragged.from_tokens(np.memmap(corpus, np.uint16, "c"), 0)
    assert len(pickle.dumps(changed)) > corpus.stat().st_size


@pytest.mark.forks
def test_workers_map_the_file(corpus):
    torch_data = pytest.importorskip("torch.utils.data")
    rows = tb.Ragged.from_tokens(np.memmap(corpus, np.uint16, "r"), 0)
    data = tb.windows(rows, 512, drop_last=True)
    context = "spawn" if "fork" not in multiprocessing.get_all_start_methods() else "fork"
    loader = torch_data.DataLoader(
        data,
        batch_size=64,
        num_workers=1,
        multiprocessing_context=context,
        collate_fn=tb.PaddingFreeCollator(dtype={"input_ids": "int64"}),
    )
    flat = np.concatenate([batch["input_ids"][0].numpy() for batch in loader])
    np.testing.assert_array_equal(flat, np.fromfile(corpus, np.uint16)[: len(flat)])
    assert len(flat) == 200_000 // 512 * 512


# --- the trap --------------------------------------------------------------------------------

IM_START, IM_END, END_OF_TEXT = 151644, 151645, 151643


def chats():
    """Two conversations in Qwen's template, of two and three turns, each then ended."""

    def turn(role, *words):
        return [IM_START, role, 198, *words, IM_END, 198]

    first = turn(8948, 1, 2) + turn(872, 3)
    second = turn(8948, 1, 2) + turn(872, 4, 5) + turn(77091, 6)
    return [[*first, END_OF_TEXT], [*second, END_OF_TEXT]]


def test_the_end_of_a_turn_is_not_the_end_of_a_document():
    conversations = chats()
    stream = np.array(list(chain(*conversations)), np.uint32)
    wrong = tb.Ragged.from_tokens(stream, IM_END)
    assert len(wrong) == 6  # five turns and what is after the last
    assert wrong[1].tolist() == [198, IM_START, 872, 198, 3, IM_END]
    right = tb.Ragged.from_tokens(stream, END_OF_TEXT)
    assert right.tolist() == conversations
    # Without a token of their own, conversations begin with the system's turn.
    bare = np.array(list(chain(*(chat[:-1] for chat in conversations))), np.uint32)
    by_start = tb.Ragged.from_tokens(bare, start=[IM_START, 8948])
    assert by_start.tolist() == [chat[:-1] for chat in conversations]
    report = tb.split_report(stream, {"<|im_end|>": IM_END, "<|endoftext|>": END_OF_TEXT})
    turns, documents = report.splits
    assert (turns.count, turns.documents, turns.rest) == (5, 6, 2)
    assert (documents.count, documents.documents, documents.rest) == (2, 2, 0)
    assert (documents.shortest, documents.longest) == tuple(map(len, conversations))
    (note,) = report.notes()
    assert note.startswith("<|im_end|> is there 2.5 times as often as <|endoftext|>: a chat")


def test_the_padding_token_is_no_end():
    padded = np.uint16([[5, 6, 9, 9, 9], [7, 9, 9, 9, 9]]).reshape(-1)
    assert len(tb.Ragged.from_tokens(padded, 9)) == 7
    report = tb.split_report(padded, {"<|endoftext|>": 9, "absent": 8})
    assert (report.splits[0].empty, report.splits[0].documents) == (5, 7)
    assert report.notes() == [
        "<|endoftext|> stands 5 times where a document would begin: two ends in a row, as where it "
        "is the padding token too",
        "absent is nowhere",
    ]
    assert "absent" in str(report)
    rows = tb.Ragged.from_tokens(padded, 9)
    assert rows[rows.lengths > 1].tolist() == [[5, 6, 9], [7, 9]]


@given(tokens=st.lists(st.integers(0, 2), max_size=60), end=st.integers(0, 2))
def test_split_report_counts(tokens, end):
    (found,) = tb.split_report(np.array(tokens, np.int32), {"end": [end]}).splits
    rows = split_plainly(tokens, [end])
    lengths = [len(row) for row in rows]
    assert found.count == tokens.count(end)
    assert found.documents == len(rows)
    assert found.empty == rows.count([end])
    assert found.rest == (len(rows[-1]) if rows and rows[-1][-1] != end else 0)
    assert (found.shortest, found.longest) == (min(lengths, default=0), max(lengths, default=0))
    assert found.mean == pytest.approx(np.mean(lengths) if lengths else 0)


# --- windows ---------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_windows_as_in_plain_python(data):
    lengths = data.draw(st.lists(st.integers(0, 6), max_size=12))
    length = data.draw(st.integers(1, 9))
    stride = data.draw(st.none() | st.integers(1, length))
    drop_last = data.draw(st.booleans())
    begin = data.draw(st.integers(0, len(lengths)))
    end = data.draw(st.integers(begin, len(lengths)))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    offsets = np.cumsum([0, *lengths])
    rows = tb.Ragged(np.arange(len(owner)), offsets)[begin:end]
    got = tb.windows(rows, length, stride=stride, drop_last=drop_last)

    low, high = int(offsets[begin]), int(offsets[end])
    expected, at = [], low
    while at < high and (not expected or expected[-1][-1] + 1 < high):
        window = list(range(at, min(at + length, high)))
        if not (drop_last and len(window) < length):
            expected.append(window)
        elif drop_last:
            break
        at += stride or length
    assert got["input_ids"].tolist() == expected
    segments = []
    for window in expected:
        _, counts = np.unique(owner[window], return_counts=True)
        segments.append(counts.tolist())
    assert got["seq_lengths"].tolist() == segments


def test_windows_and_chunks_beyond_all_memory_are_refused():
    # Each of 2**22 windows has 2**22 documents: their lengths would take more than 2**47 bytes.
    n = 2**22
    offsets = np.concatenate([[0], np.arange(n, 2 * n + 1), [3 * n]])
    rows = tb.Ragged(np.zeros(3 * n, np.int8), offsets)
    words = r"^windows\(\): no memory for seq_lengths: the 4194305 windows have 17592198627328 seg"
    with pytest.raises(MemoryError, match=words):
        tb.windows(rows, 2 * n, stride=1, drop_last=True)
    # Views of one long row, as of a file: 2**52 chunks.
    byte = (np.zeros(1, np.int8),)
    long = tb.Ragged._of(byte, np.zeros(2**12, np.int64), np.full(2**12, 2**40))
    words = r"^chunk\(\): no memory for 4,503,599,627,366,400 chunks, which take 144,115,188 GB"
    with pytest.raises(MemoryError, match=words):
        tb.chunk(long, 2, overlap=1)


def test_windows_stay_within_a_file():
    parts = [tb.Ragged.from_tokens(tokens, 0) for tokens in ([1, 0, 2, 0, 3], [4, 4, 0, 5])]
    data = tb.windows(tb.Ragged.concatenate(parts), 3)
    assert data["input_ids"].tolist() == [[1, 0, 2], [0, 3], [4, 4, 0], [5]]
    assert data["seq_lengths"].tolist() == [[2, 1], [1, 1], [3], [1]]


def test_windows_want_rows_one_after_another():
    rows = tb.Ragged.from_tokens([1, 2, 0, 3, 0, 4], 0)
    with pytest.raises(ValueError, match=r"row 1 starts at 0, expected 5, where row 0 ends"):
        tb.windows(rows[[1, 0]], 2)
    bare = tb.Ragged.from_tokens([1, 2, 0, 3, 0, 4], 0, keep_token=False)
    with pytest.raises(ValueError, match=r"rows.compact\(\) lays the rows"):
        tb.windows(bare, 2)
    assert tb.windows(bare.compact(), 2)["input_ids"].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="stride=4 is more than length=3"):
        tb.windows(rows, 3, stride=4)
    with pytest.raises(ValueError, match="expected another name"):
        tb.windows(rows, 3, column="seq_lengths")


def test_collators_keep_the_documents_of_a_window_apart():
    rows = tb.Ragged.from_tokens([5, 6, 0, 7, 0, 8, 9, 4, 0, 3], 0)
    data = tb.windows(rows, 5, stride=4)
    batch = tb.PaddingFreeCollator(return_tensors="np")(data.__getitems__([0, 1]))
    assert batch["input_ids"].tolist() == [[5, 6, 0, 7, 0, 0, 8, 9, 4, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 0, 1, 2, 3]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5, 6, 10]
    assert tb.check_batch(batch).ok
    # A padded batch cannot keep them apart, and says so instead of joining them.
    with pytest.raises(ValueError, match="seq_lengths"):
        tb.PadCollator(return_tensors="np")(data.__getitems__([0, 1]))
    plain = tb.RaggedDataset({"input_ids": data["input_ids"]})
    joined = tb.PadCollator(return_tensors="np")(plain.__getitems__([0, 1]))
    assert joined["input_ids"].tolist() == [[5, 6, 0, 7, 0], [0, 8, 9, 4, 0]]
    assert tb.check_batch(joined).ok


# --- chunks ----------------------------------------------------------------------------------


def chunk_plainly(document, length, overlap):
    starts, at = [0], 0
    while at + length < len(document):
        at += length - overlap
        starts.append(at)
    return [(start, document[start : start + length]) for start in starts]


@st.composite
def documents(draw):
    lengths = draw(st.lists(st.integers(0, 25), max_size=6))
    length = draw(st.integers(1, 9))
    overlap = draw(st.integers(0, length - 1))
    first = 0
    rows = []
    for count in lengths:
        rows.append(list(range(first, first + count)))
        first += count
    return rows, length, overlap


@settings(max_examples=200, deadline=None)
@given(case=documents())
def test_chunks_as_in_plain_python(case):
    rows, length, overlap = case
    chunks = tb.chunk(tb.Ragged.from_sequences(rows), length, overlap=overlap)
    expected = [
        (i, start, part)
        for i, row in enumerate(rows)
        for start, part in chunk_plainly(row, length, overlap)
    ]
    assert chunks.indices.tolist() == [i for i, _, _ in expected]
    assert chunks.starts.tolist() == [start for _, start, _ in expected]
    assert chunks.rows.tolist() == [part for _, _, part in expected]
    assert len(chunks) == len(expected)
    assert chunks.offsets.tolist() == np.searchsorted(chunks.indices, range(len(rows) + 1)).tolist()


def value_of(chunks, document, token, how):
    """What merge gives a token of a document, from the number of the chunk it is taken from."""
    found = []
    for k in range(len(chunks)):
        start, length = int(chunks.starts[k]), len(chunks.rows[k])
        if chunks.indices[k] == document and start <= token < start + length:
            context = min(token - start, start + length - 1 - token)
            found.append((k, context))
    if how == "mean":
        return np.mean([k for k, _ in found])
    if how == "max_context":
        return max(found, key=lambda one: (one[1], -one[0]))[0]
    return found[0 if how == "first" else -1][0]


@settings(max_examples=100, deadline=None)
@given(case=documents(), form=st.sampled_from(["ragged", "right", "left", "lists"]))
def test_merged_as_in_plain_python(case, form):
    rows, length, overlap = case
    chunks = tb.chunk(tb.Ragged.from_sequences(rows), length, overlap=overlap)
    counts = chunks.rows.lengths
    values = np.repeat(np.arange(len(counts)), counts).astype(np.float32)
    outputs, side = tb.Ragged(values, np.cumsum([0, *counts])), "right"
    if form in ("left", "right"):
        side = form
        outputs = outputs.pad(width=length + 2, padding_value=np.nan, padding_side=side)
    elif form == "lists":
        outputs = outputs.tolist()
    for how in ("mean", "first", "last", "max_context"):
        merged = chunks.merge(outputs, how=how, padding_side=side)
        expected = [
            [np.float32(value_of(chunks, d, t, how)) for t in range(len(row))]
            for d, row in enumerate(rows)
        ]
        assert merged.tolist() == expected


def test_merge_gives_back_the_documents_and_more_dimensions():
    rng = np.random.default_rng(5)
    rows = tb.Ragged.from_sequences([rng.integers(0, 99, n) for n in (50, 0, 3, 128, 1)])
    chunks = tb.chunk(rows, 16, overlap=11)
    for how in ("first", "last", "max_context"):
        assert chunks.merge(chunks.rows, how=how) == rows
    logits = rng.normal(size=(len(chunks), 20, 3))
    logits32, mean = logits.astype(np.float32), chunks.merge(logits)
    assert mean.trailing == (3,)
    assert mean.dtype == np.float64
    d, t = 3, 40
    covering = [
        logits[k, t - chunks.starts[k]]
        for k in range(len(chunks))
        if chunks.indices[k] == d and 0 <= t - chunks.starts[k] < chunks.rows.lengths[k]
    ]
    assert len(covering) > 2
    np.testing.assert_allclose(mean[d][t], np.mean(covering, axis=0), rtol=1e-14)
    assert chunks.merge(logits32).dtype == np.float32
    assert chunks.apply(rows) == chunks.rows
    with pytest.raises(TypeError, match=r"outputs are int64; expected float32 or float64"):
        chunks.merge(chunks.rows)
    with pytest.raises(ValueError, match=r"outputs is 15 wide; expected at least 16"):
        chunks.merge(logits[:, :15])
    with pytest.raises(
        ValueError, match=r"the shape \(3, 20, 3\); expected \(\d+, width, \.\.\.\)"
    ):
        chunks.merge(logits[:3])
    with pytest.raises(ValueError, match="row 0 has length 15, expected 16, that of the chunk"):
        chunks.merge([row[:-1] for row in chunks.rows])
    with pytest.raises(ValueError, match="found 4 rows, expected 5, one for each document"):
        chunks.apply(rows[:4])
    torch = pytest.importorskip("torch")
    assert chunks.merge(torch.from_numpy(logits)) == mean


def test_chunks_as_transformers_tokenizers_make_them():
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    vocabulary = {"[UNK]": 0, **{f"w{i}": i for i in range(1, 50)}}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    rng = np.random.default_rng(1)
    texts = [
        " ".join(f"w{i}" for i in rng.integers(1, 50, count)) for count in (0, 1, 8, 9, 10, 37, 64)
    ]
    rows = tb.Ragged.from_sequences(fast(texts, add_special_tokens=False)["input_ids"])
    for length, stride in ((8, 0), (8, 3), (8, 7), (5, 1), (1, 0), (100, 50)):
        theirs = fast(
            texts,
            add_special_tokens=False,
            truncation=True,
            max_length=length,
            stride=stride,
            return_overflowing_tokens=True,
        )
        chunks = tb.chunk(rows, length, overlap=stride)
        assert chunks.rows.tolist() == theirs["input_ids"]
        assert chunks.indices.tolist() == theirs["overflow_to_sample_mapping"]


def test_refused_chunks():
    rows = tb.Ragged.from_sequences([[1, 2, 3]])
    for settings_, message in (
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": 2, "overlap": 2}, "overlap=2"),
        ({"max_length": 2, "overlap": -1}, "overlap=-1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            tb.chunk(rows, **settings_)
    for call in (lambda: tb.chunk([[1]], 2), lambda: tb.windows([[1]], 2)):
        with pytest.raises(TypeError, match=r"expected a Ragged, as made by Ragged\.from_"):
            call()
