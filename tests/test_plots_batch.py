"""plot_batch and Batch.plot: what is real and what is padding, of any library's batch."""

import numpy as np
import pytest

import tightbatch as tb

pytest.importorskip("matplotlib")
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tightbatch.plots import Cells
from tightbatch.plots.style import COLOURS

SAMPLES = [{"input_ids": list(range(5, 5 + n))} for n in (5, 1, 3)]
RIGHT = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
IDS = np.arange(15).reshape(3, 5)
# What each cell of the picture is.
LETTERS = {"real": "r", "real 2": "s", "padding": "."}


def drawn(axes):
    """The picture as text: a letter for each cell, in lines; a space where there is no token."""
    (image,) = axes.images
    array = np.asarray(image.get_array(), np.float64)
    lines, wide = round(image.get_extent()[2]), round(image.get_extent()[1])
    array = array[:: len(array) // lines]  # the first dots of each line
    assert array.shape[1] == wide
    found = []
    for line in array:
        cells = ""
        for *colour, opaque in line:
            name = next(
                (n for n in LETTERS if np.allclose(to_rgb(COLOURS[n]), colour, atol=1e-6)), None
            )
            cells += LETTERS[name] if opaque > 0.5 else " "
        found.append(cells)
    return found


def picture(batch, **settings):
    return drawn(tb.plot_batch(batch, **settings).axes[0])


def square(real, causal, dtype):
    """A mask of queries and keys."""
    seen = real[:, None, :].astype(bool) & np.ones((1, 5, 1), bool)
    if causal:
        seen &= np.tri(5, dtype=bool)
    seen = seen[:, None]
    return seen if dtype is bool else np.where(seen, 0, np.finfo(dtype).min).astype(dtype)


PADDED = ["rrrrr", "r....", "rrr.."]


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both ways"])
@pytest.mark.parametrize("dtype", [bool, np.float32], ids=["bool", "additive"])
def test_masks_of_queries_and_keys(causal, dtype):
    mask = square(RIGHT, causal, dtype)
    assert picture({"input_ids": IDS, "attention_mask": mask}) == PADDED
    assert picture({"attention_mask": mask}) == PADDED


@pytest.mark.parametrize(
    "batch",
    [
        {"input_ids": IDS, "attention_mask": RIGHT},
        {"input_ids": IDS.tolist(), "attention_mask": RIGHT.tolist()},
        {"inputs_embeds": np.zeros((3, 5, 2), np.float32), "attention_mask": RIGHT},
        {"input_ids": IDS, "lengths": [5, 1, 3]},
        {"inputs": {"input_ids": IDS, "attention_mask": RIGHT}, "other": [1, 2, 3]},
        ({"input_ids": IDS, "attention_mask": RIGHT}, np.zeros(3)),
    ],
    ids=["arrays", "lists", "embeddings", "lengths", "nested", "tuple"],
)
def test_padded_batches(batch):
    before = repr(batch)
    assert picture(batch) == PADDED
    assert repr(batch) == before


def test_padding_on_the_left():
    mask = RIGHT[:, ::-1]
    assert picture({"input_ids": IDS, "attention_mask": mask}) == ["rrrrr", "....r", "..rrr"]


def test_what_collators_make():
    pytest.importorskip("torch")
    assert drawn(tb.PadCollator()(SAMPLES).plot().axes[0]) == PADDED
    figure = tb.PaddingFreeCollator()(SAMPLES).plot()
    assert drawn(figure.axes[0]) == ["rrrrrsrrr"]
    assert figure.axes[0].get_title(loc="left") == "batch: 0 % padding"
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["real tokens", "the next row of a pack", "padding"]


def test_a_batch_of_a_fixed_size_shows_its_padding():
    samples = [{**sample, "labels": sample["input_ids"]} for sample in SAMPLES]
    collate = tb.PaddingFreeCollator(return_tensors="np", max_tokens=14, max_segments=6)
    assert picture(collate(samples)) == ["rrrrrsrrr....."]
    assert picture(tb.PaddingFreeCollator(return_tensors="np")(samples)) == ["rrrrrsrrr"]


def test_transformers_own_batches():
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    flat = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)(SAMPLES)
    assert picture(flat) == ["rrrrrsrrr"]


@pytest.mark.parametrize(
    "columns",
    [
        {"segment_ids": [[1, 1, 2, 3, 0], [1, 1, 1, 1, 1]]},
        {"seq_lengths": [[2, 1, 1], [5]], "attention_mask": [[1, 1, 1, 1, 0], [1] * 5]},
        {
            "position_ids": [[0, 1, 0, 0, 0], [0, 1, 2, 3, 4]],
            "attention_mask": [[1, 1, 1, 1, 0], [1] * 5],
        },
    ],
    ids=["segment ids", "lengths", "positions"],
)
def test_rows_of_packs_alternate(columns):
    batch = {"input_ids": IDS[:2], **columns}
    assert picture(batch) == ["rrsr.", "rrrrr"]


def test_before_and_after_are_on_one_scale():
    after = tb.PaddingFreeCollator(return_tensors="np")(SAMPLES * 10)
    before = tb.PadCollator(return_tensors="np")(SAMPLES * 10)
    figure = after.plot(before=before)
    figure.canvas.draw()
    left, right = figure.axes
    assert left.get_title(loc="left") == "before: 40 % padding"
    assert right.get_title(loc="left") == "after: 0 % padding"
    assert left.get_xlim() == right.get_xlim() == (0, 5)
    assert left.get_ylim() == right.get_ylim() == (30, 0)
    assert drawn(left) == PADDED * 10
    folded = drawn(right)  # into lines of the width of the batch before
    assert len(folded) == 18
    assert "".join(folded) == ("rrrrrsrrr" + "sssssrsss") * 5
    note = next(text.get_text() for text in right.texts if text.get_gid() == "note")
    assert note.replace("\n", " ") == "1 x 90 tokens, 90 real; folded into 18 lines"


def test_several_batches_are_below_each_other():
    first = Cells(2, 4, np.array([[0, 4], [4, 5]]))
    second = Cells(1, 6, np.array([[1, 3], [3, 6]]))
    figure = tb.plots.plot_rows({"an epoch": [first, second, Cells(2, 0, np.empty((0, 2), int))]})
    assert drawn(figure.axes[0]) == ["rrrr  ", "r...  ", ".rrsss", "      ", "      "]
    assert figure.axes[0].get_title(loc="left") == "an epoch: 29 % padding"
    note = next(t.get_text() for t in figure.axes[0].texts if t.get_gid() == "note")
    assert note == "3 batches, 14 tokens, 10 real"
    flat = Cells(1, 90, np.array([[0, 30], [30, 90]]))
    wide = Cells(1, 64, np.array([[0, 64]]))
    lines = drawn(tb.plots.plot_rows({"a": [wide, flat]}).axes[0])
    assert lines == ["r" * 64, "r" * 30 + "s" * 34, "s" * 26 + " " * 38]


def test_groups_are_beside_each_other():
    batch = {
        "chosen_input_ids": IDS,
        "chosen_attention_mask": RIGHT,
        "rejected_input_ids": IDS[:, :2],
        "rejected_attention_mask": RIGHT[:, :2],
    }
    figure = tb.plot_batch(batch)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "chosen: 40 % padding", "rejected: 17 % padding",
    ]  # fmt: skip
    assert [bool(axes.get_ylabel()) for axes in figure.axes] == [True, False]
    assert picture(batch, group="rejected") == ["rr", "r.", "rr"]
    axes = Figure().subplots()
    assert tb.plot_batch(batch, group="chosen", ax=axes) is axes.figure
    assert drawn(axes) == PADDED
    with pytest.raises(ValueError, match=r"ax has room for one batch, found 'chosen', 'rejected'"):
        tb.plot_batch(batch, ax=axes)
    with pytest.raises(ValueError, match=r"group='query', expected one of .*'chosen', 'rejected'"):
        tb.plot_batch(batch, group="query")


def test_a_large_batch_is_averaged():
    width, rows = 8192, 4096
    lengths = np.random.default_rng(0).integers(1, width + 1, rows)
    begins = width * np.arange(rows)
    cells = Cells(rows, width, np.stack([begins, begins + lengths], axis=1))
    figure = tb.plots.plot_rows({"batch": cells})
    (image,) = figure.axes[0].images
    array = np.asarray(image.get_array())
    assert array.shape[0] <= 480
    assert array.shape[1] <= 900
    # All cells are one shade of real tokens mixed with padding: as much of it as there is.
    real, padding = np.array(to_rgb(COLOURS["real"])), np.array(to_rgb(COLOURS["padding"]))
    share = (array[..., 0] - padding[0]) / (real[0] - padding[0])
    heights = np.bincount(np.arange(rows) * len(array) // rows)
    mean = np.average(share.mean(axis=1), weights=heights)
    assert mean == pytest.approx(lengths.mean() / width, rel=1e-6)


@pytest.mark.parametrize(("lines", "columns"), [(3, 7), (480, 900), (1, 1)])
def test_cells_cover_what_a_plain_count_does(lines, columns, monkeypatch):
    """Against one number for each token."""
    monkeypatch.setattr("tightbatch.plots.rows._LINES", lines)
    monkeypatch.setattr("tightbatch.plots.rows._COLUMNS", columns)
    from tightbatch.plots.rows import _lay, _spread

    rng = np.random.default_rng(0)
    rows, width = 7, 30
    plain = np.zeros((rows, width))
    segments = []
    for row in range(rows):
        ends = np.sort(rng.choice(width + 1, 4, replace=False))
        for shade, (begin, end) in enumerate([ends[:2], ends[2:]]):
            plain[row, begin:end] = 1 + shade
            segments.append((row * width + begin, row * width + end))
    planes = _spread(_lay([Cells(rows, width, np.array(segments))], width))
    height, wide = planes.shape[1:]
    fine = np.repeat(plain, wide, axis=1).reshape(rows, wide, width)
    of = np.arange(rows) * height // rows
    for k, value in enumerate((1, 2, 0)):
        share = (fine == value).mean(axis=2)
        expected = np.array([share[of == line].mean(axis=0) for line in range(height)])
        assert planes[k] == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (1, 1), (1, 64), (1, 65)])
def test_small_batches(shape):
    figure = tb.plot_batch({"input_ids": np.ones(shape, np.int64)})
    figure.canvas.draw()
    title = figure.axes[0].get_title(loc="left")
    assert title == ("batch: 0 % padding" if np.prod(shape) else "batch: no tokens")


@pytest.mark.parametrize(
    ("batch", "error", "told"),
    [
        (
            [1, 2],
            TypeError,
            r"plot_batch\(\): batch is \[1, 2\] \(list\), expected columns by name",
        ),
        ({"x": [[1]]}, ValueError, r"no column of a known name, but \['x'\]"),
        ({"labels": [1, 2]}, ValueError, "no column of tokens, positions or masks with rows"),
        (
            {"input_ids": [[1, 2], [3]]},
            ValueError,
            "key 'input_ids', row 1: found a row of another",
        ),
    ],
)
def test_errors(batch, error, told):
    with pytest.raises(error, match=told):
        tb.plot_batch(batch)
    if isinstance(batch, dict):
        with pytest.raises(error, match=r"^Batch.plot\(\): "):
            tb.Batch(batch).plot()
    with pytest.raises(error, match=told.replace("batch is", "before is")):
        tb.plot_batch({"input_ids": IDS}, before=batch)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (Cells(1, 4, np.array([[0, 5]])), "not within 1 rows of 4"),
        (Cells(1, 4, np.array([[2, 4], [0, 1]])), "not ascending"),
        (Cells(2, 2, np.array([[1, 3]])), "lies in two rows"),
    ],
)
def test_cells_that_cannot_be(cells, told):
    with pytest.raises(ValueError, match=told):
        tb.plots.plot_rows({"batch": cells})
