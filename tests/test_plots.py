"""What the pictures of lengths, waste, packs, ranks, exponents and leaks say."""

import gc
import weakref

import numpy as np
import pytest

import tightbatch as tb

pytest.importorskip("matplotlib")
from matplotlib.colors import to_hex

from tightbatch.plots.style import COLOURS

NAME = "a" * 50 + "b$^_{" + "c" * 45  # of 100 characters, and none of them begins a formula


def title(figure):
    return figure.axes[0].get_title(loc="left")


def note(figure):
    return next(t.get_text() for t in figure.axes[0].texts if t.get_gid() == "note")


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def named(figure, gid):
    return [one for one in figure.axes[0].get_children() if one.get_gid() == gid]


def colour(artist):
    return to_hex(artist.get_facecolor()).upper()


def spoken(figure):
    """The title and the labels of the axes, where there is room for them."""
    figure.canvas.draw()  # whatever is wrong with a picture is a warning, and so an error
    axes = figure.axes[0]
    assert title(figure)
    assert axes.get_xlabel()
    return figure


def bars_of(figure):
    (bars,) = named(figure, "bars")
    assert colour(bars) == COLOURS["real"]
    values, edges, _ = bars.get_data()
    return values, edges


@pytest.mark.parametrize(
    "lengths",
    [
        np.arange(50, 130).repeat(3),
        [7],
        [0],
        [128] * 40,
        [0, 0, 1, 5, 40_000],
        np.r_[np.arange(1, 100), 2**50],
    ],
    ids=["even", "one", "empty row", "equal", "wide", "outlier"],
)
def test_every_row_is_in_a_bar_of_its_length(lengths):
    figure = spoken(tb.plots.plot_lengths(lengths))
    values, edges = bars_of(figure)
    assert values.sum() == len(lengths)
    assert len(values) <= 60
    assert (np.diff(edges) > 0).all()
    for i, count in enumerate(values):
        inside = (np.asarray(lengths) > edges[i]) & (np.asarray(lengths) < edges[i + 1])
        assert count == inside.sum()
    (curve,) = figure.axes[1].lines
    x, y = curve.get_data()
    for at in (0.5, 0.9):
        length = np.quantile(lengths, at, method="inverted_cdf")
        assert y[np.searchsorted(x, length, side="right") - 1] == pytest.approx(
            100 * np.mean(np.asarray(lengths) <= length)
        )
    is_wide = max(lengths) > 1000
    assert figure.axes[0].get_xscale() == ("symlog" if is_wide else "linear")
    assert f"{len(lengths):,} row" in title(figure)


def test_lengths_may_be_counted_already():
    lengths = np.random.default_rng(0).integers(0, 90, 500)
    values, rows = np.unique(lengths, return_counts=True)
    shuffled = np.random.default_rng(1).permutation(len(values))
    figure = tb.plots.plot_lengths(values[shuffled], counts=rows[shuffled])
    for found, expected in zip(
        bars_of(figure), bars_of(tb.plots.plot_lengths(lengths)), strict=True
    ):
        assert found.tolist() == expected.tolist()
    assert title(figure) == "Lengths of 500 rows"


def test_a_long_tail_is_on_powers_of_ten():
    axes = spoken(tb.plots.plot_lengths([5] * 99 + [90_000])).axes[0]
    assert axes.get_xscale() == "symlog"
    assert axes.get_xticks().tolist() == [0, 1, 10, 100, 1000, 10_000]
    assert len(axes.xaxis.get_minorticklocs()) == 0
    assert tb.plots.plot_lengths([5] * 99 + [6]).axes[0].get_xscale() == "linear"


def test_bounds_and_the_cut_are_where_they_are_told():
    lengths = list(range(1, 101))
    figure = spoken(tb.plots.plot_lengths(lengths, boundaries=[40, 100], max_length=90))
    (bounds,) = named(figure, "bounds")
    assert [path.vertices[0, 0] for path in bounds.get_paths()] == [40, 100]
    assert to_hex(bounds.get_color()[0]).upper() == COLOURS["bound"]
    (cut,) = named(figure, "cut")
    assert cut.get_x() == 90
    assert labels(figure) == [
        "rows (left)", "rows at most so long (right)", "2 bucket boundaries",
        "cut at 90: 10 % of rows",
    ]  # fmt: skip
    assert note(figure) == "half have up to 50 tokens, 95 % up to 95, the longest 100"
    many = spoken(tb.plots.plot_lengths(lengths, boundaries=range(1, 101)))
    assert "100 bucket boundaries" in labels(many)


def test_ten_million_rows_are_a_few_bars():
    lengths = np.random.default_rng(0).integers(1, 5000, 10_000_000)
    values, _ = bars_of(tb.plots.plot_lengths(lengths))
    assert len(values) <= 60
    assert values.sum() == 10_000_000


def test_the_knee_is_marked():
    lengths = np.random.default_rng(0).integers(1, 500, 300)
    _, waste = tb.bucket_boundaries(lengths, 12, return_waste=True)
    knee = tb.plots.knee(waste)
    real = int(lengths.sum())
    figure = spoken(tb.plots.plot_buckets(waste, real=real, chosen=8))
    (line,) = named(figure, "waste")
    assert line.get_ydata() == pytest.approx(100 * waste / (waste + real))
    assert line.get_color() == COLOURS["padding"]
    for gid, number in (("knee", knee), ("chosen", 8)):
        (mark,) = named(figure, gid)
        assert mark.get_xdata() == [number]
        assert mark.get_ydata() == [line.get_ydata()[number - 1]]
    said = [text.get_text() for text in figure.axes[0].texts]
    assert any(text.startswith(f"knee: {knee} buckets, ") for text in said)
    assert figure.axes[0].get_ylabel() == "padding, % of all tokens"
    assert tb.plots.plot_buckets(waste).axes[0].get_ylabel() == "padding, tokens"
    assert figure.axes[0].get_title(loc="left") == "Waste with 1 to 12 buckets"
    assert tb.plots.plot_buckets([7]).axes[0].get_title(loc="left") == "Waste with one bucket"


@pytest.mark.parametrize(
    ("waste", "number"),
    [([], 0), ([5], 1), ([5, 1], 1), ([0, 0, 0], 1), ([100, 99, 10, 9, 8], 3), ([4, 3, 2, 1], 1)],
)
def test_where_the_knee_is(waste, number):
    assert tb.plots.knee(waste) == number
    spoken(tb.plots.plot_buckets(waste))


TOKENS = {
    "mine, of 2019": {"real": 90, "padding": 45},
    "packed": {"real": 90},
    "fixed": {"real": 80, "padding": 240, "cut": 10},
    "dynamic": {"real": 90, "padding": 30},
}


def test_strategies_are_bars_in_one_order():
    figure = spoken(tb.plots.plot_strategies(TOKENS))
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "fixed", "dynamic", "packed", "mine, of 2019",
    ]  # fmt: skip
    widths = {part: [bar.get_width() for bar in named(figure, part)] for part in COLOURS}
    assert widths["real"] == [80, 90, 90, 90]
    assert widths["padding"] == [240, 30, 0, 45]
    assert widths["cut"] == [10, 0, 0, 0]
    lefts = {part: [bar.get_x() for bar in named(figure, part)] for part in COLOURS}
    assert lefts["real"] == [0, 0, 0, 0]
    assert lefts["padding"] == widths["real"]
    assert lefts["cut"] == [320, 120, 90, 135]
    for part in ("real", "padding", "cut"):
        assert {colour(bar) for bar in named(figure, part)} == {COLOURS[part]}
    assert {bar.get_hatch() for bar in named(figure, "cut")} == {"////"}
    said = [text.get_text() for text in axes.texts]
    for text in ("75 % padding, 10 cut", "25 % padding", "0 % padding", "33 % padding"):
        assert text in said
    assert note(figure) == "least padding: packed, 0 tokens"
    assert labels(figure) == ["real tokens", "padding", "cut off"]
    assert [line.get_color() for line in named(figure, "mark")] == [
        COLOURS[key] for key in ("fixed", "dynamic", "packed", "sampler")
    ]


def test_what_is_beside_a_bar_has_its_room():
    long = {f"{NAME}{i}": {"real": 10**15, "padding": i * 10**14, "cut": 7} for i in range(9)}
    for tokens in (TOKENS, long, {"fixed": {}}):
        figure = spoken(tb.plots.plot_strategies(tokens))
        renderer = figure.canvas.get_renderer()
        for text in figure.axes[0].texts:
            assert text.get_window_extent(renderer).x1 <= figure.bbox.x1 + 1, text.get_text()


def test_windows_show_what_they_cost_and_leave():
    figure = spoken(
        tb.plots.plot_windows([1, 8, 64], [0.4, 0.1, 0.02], [1, 0.9, 0.5], chosen=8, label="chance")
    )
    left, right = figure.axes
    (padding,) = (line for line in left.lines if line.get_label() == "padding (left)")
    assert padding.get_ydata() == pytest.approx([40, 10, 2])
    assert padding.get_color() == COLOURS["padding"]
    assert right.lines[0].get_ydata() == pytest.approx([100, 90, 50])
    assert right.get_ylabel() == "chance, %"
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "8", "64"]
    assert labels(figure) == ["padding (left)", "chance (right)", "in use: 8"]
    assert note(figure) == "padding: 40 % with 1, 2.0 % with 64"


def test_packs_show_their_segments():
    packing = tb.pack([5, 2, 3, 1, 4], 6, seed=None)
    figure = spoken(packing.plot())
    filled = np.zeros(len(packing))
    for shade, name in enumerate(("real", "real 2")):
        for bar in named(figure, f"real {shade}"):
            assert colour(bar) == COLOURS[name]
            filled[round(bar.get_x() + bar.get_width() / 2)] += bar.get_height()
    assert filled.tolist() == packing.pack_lengths.tolist()
    sizes = [bar.get_height() for s in (0, 1) for bar in named(figure, f"real {s}")]
    assert sorted(sizes) == sorted(packing.lengths.tolist())
    left = [bar.get_height() for bar in named(figure, "padding")]
    assert left == (6 - packing.pack_lengths).tolist()
    assert {colour(bar) for bar in named(figure, "padding")} == {COLOURS["padding"]}
    assert title(figure) == f"3 packs of 6 tokens: {100 * packing.efficiency:.0f} % full"
    assert note(figure) == f"no packing needs fewer than {packing.lower_bound}"
    assert labels(figure) == ["real tokens", "the next segment", "not filled"]


def test_many_packs_are_an_area():
    lengths = np.random.default_rng(0).integers(1, 90, 9000)
    packing = tb.pack(lengths, 100, strategy="best_fit")
    figure = spoken(packing.plot())
    (real,) = named(figure, "real")
    values, edges, _ = real.get_data()
    assert (np.diff(values) <= 0).all()
    assert (values * np.diff(edges)).sum() == pytest.approx(lengths.sum())
    assert len(values) <= 1000
    (rest,) = named(figure, "padding")
    assert colour(rest) == COLOURS["padding"]


def test_ranks_wait_for_the_longest_at_each_step():
    figure = spoken(tb.plots.plot_ranks([[4, 4], [4, 2], [0, 6]]))
    assert [bar.get_height() for bar in named(figure, "load")] == [8, 12]
    assert [bar.get_height() for bar in named(figure, "waiting")] == [6, 2]
    assert title(figure) == "2 ranks wait 29 % of their time"
    assert "mean of all ranks" in labels(figure)
    assert title(tb.plots.plot_ranks([4, 4])) == "2 ranks wait 0 % of their time"
    many = spoken(tb.plots.plot_ranks(np.ones((3, 100))))
    assert named(many, "load")[0].get_data().values.tolist() == [3] * 100


def test_exponents_tell_what_float16_cannot_hold():
    counts = tb.half_report(np.float32([1e-9, 1e-20, 0.5, 1.0, 1e6]))[0].exponents
    figure = spoken(tb.plots.plot_exponents(counts))
    assert title(figure) == "Exponents of 5 numbers"
    assert note(figure) == "above float16's window 1, below it 2"
    assert labels(figure) == ["float16", "float16, subnormal", "bfloat16"]


@pytest.mark.parametrize("count", [0, 3, 60])
def test_leaks_are_legible_with_names_of_any_length(count):
    moved = np.full((count + 5, count), 1e-9)
    figure = spoken(tb.plots.plot_leaks([NAME] * count, moved, 1e-5, title=NAME, note=NAME * 3))
    if count:
        names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert names[-1] == "same batch again"
        assert max(map(len, names)) < 30
        assert figure.axes[0].get_position().height > 0.25


@pytest.mark.parametrize(
    "draw",
    [
        lambda: tb.plots.plot_lengths([]),
        lambda: tb.plots.plot_buckets([]),
        lambda: tb.plots.plot_strategies({}),
        lambda: tb.plots.plot_windows([], []),
        lambda: tb.pack([], 8).plot(),
        lambda: tb.plots.plot_ranks([]),
        lambda: tb.plots.plot_ranks(np.empty((4, 0))),
    ],
)
def test_nothing_is_said_to_be_nothing(draw):
    assert note(spoken(draw())) == "there is nothing to draw"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: tb.plots.plot_buckets([0, 0, 0], real=0),
        lambda: tb.plots.plot_windows([1], [0.0], [0.0]),
        lambda: tb.pack([0, 0], 8).plot(),
        lambda: tb.pack([3], 8).plot(),
        lambda: tb.plots.plot_ranks([0, 0]),
        lambda: tb.plots.plot_ranks([5]),
        lambda: tb.plots.plot_windows(2 ** np.arange(40), np.linspace(0.9, 0, 40), label=NAME),
        lambda: tb.plots.plot_exponents(np.zeros(256, np.int64)),
    ],
)
def test_little_can_be_drawn_too(draw):
    spoken(draw())


def test_a_figure_that_nobody_holds_is_gone():
    figure = tb.plots.plot_lengths([1, 2, 3])
    gone = weakref.ref(figure)
    del figure
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (
            lambda: tb.plots.plot_lengths([1, 2], counts=[1]),
            "found 1 counts, expected one for each",
        ),
        (lambda: tb.plots.plot_lengths([1, -2]), r"plot_lengths\(\): .*row 1"),
        (lambda: tb.plots.plot_packs([5], 4), "pack 0 has 5 tokens, expected at most the capacity"),
        (lambda: tb.plots.plot_packs([5], 9, segments=([4], [0, 1])), "do not give the tokens"),
        (lambda: tb.plots.plot_packs([5], 9, segments=([5], [0, 2])), "do not give the tokens"),
        (lambda: tb.plots.plot_packs([5], 9, segments=([5], [0, 1, 1])), "do not give the tokens"),
        (lambda: tb.plots.plot_packs([5], 9, segments=([5], [1, 0])), "do not give the tokens"),
        (lambda: tb.plots.plot_buckets([1.0, -1.0]), r"waste\[1\] is -1, expected a number"),
        (lambda: tb.plots.plot_windows([1, 2], [0.1]), "found 1 of padding, expected one for each"),
        (lambda: tb.plots.plot_ranks([[1, 2], [1, -3]]), r"loads\[1, 1\] is -3"),
        (lambda: tb.plots.plot_strategies({"fixed": {"waste": 3}}), "has 'waste', expected real"),
        (lambda: tb.plots.plot_exponents([1]), "found 1 counts, expected 256"),
        (lambda: tb.plots.plot_leaks(["a"], [[1.0]], 0.1), r"shape \[1, 1\], expected \[6, 1\]"),
        (lambda: tb.plots.plot_lengths([1], theme="blue"), "theme='blue'"),
    ],
)
def test_errors_say_what_is_wrong(draw, told):
    with pytest.raises(ValueError, match=told):
        draw()


def test_labels_of_neighbouring_buckets_do_not_overlap() -> None:
    lengths = np.random.default_rng(0).lognormal(4.9, 0.8, 2000).astype(np.int64).clip(1, 512)
    _, waste = tb.bucket_boundaries(lengths, 24, return_waste=True)
    knee = tb.plots.knee(waste)
    for chosen in (knee - 1, knee + 1, knee + 6, 24):
        figure = tb.plots.plot_buckets(waste, chosen=chosen)
        figure.draw_without_rendering()
        boxes = {
            text.get_text().split(":")[0]: text.get_window_extent()
            for text in figure.axes[0].texts
            if text.get_text().startswith(("knee", "chosen"))
        }
        assert set(boxes) == {"knee", "chosen"}
        assert not boxes["knee"].overlaps(boxes["chosen"])
