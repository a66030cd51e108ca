"""The style of pictures: contrast, colours for the colour-blind, names, numbers, and HTML."""

import base64
import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest

import tightbatch as tb
from tightbatch.plots.inline import as_html, as_svg, inline
from tightbatch.plots.style import (
    COLOURS,
    INKS,
    MARKERS,
    STRATEGIES,
    grouped,
    luminance,
    ordered,
    percent,
    shorten,
    strategy_of,
)

BACKGROUNDS = {"white": "#FFFFFF", "JupyterLab": "#111111", "VS Code": "#1E1E1E", "ours": "#121212"}
# G. M. Machado, M. M. Oliveira and L. A. F. Fernandes, "A physiologically-based model for
# simulation of color vision deficiency" (2009), of severity 1, on linear RGB.
EYES = {
    "all": np.eye(3),
    "no red": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "no green": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "no blue": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
)  # fmt: skip


def contrast(one, other):
    """WCAG 2's ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def seen(colour, eye):
    """CIELAB of a colour as an eye sees it."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(EYES[eye]) @ linear, 0, 1) / [0.9505, 1, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one, other, eye):
    return np.linalg.norm(seen(one, eye) - seen(other, eye))


def test_luminance_is_that_of_the_standard():
    assert luminance("#FFFFFF") == pytest.approx(1)
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert contrast("#767676", "#FFFFFF") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("background", BACKGROUNDS.values(), ids=BACKGROUNDS)
def test_colours_stand_out_on_light_and_dark(background):
    low = {name: contrast(colour, background) for name, colour in COLOURS.items()}
    assert min(low.values()) >= 3, low


def test_text_is_legible():
    for theme in ("light", "dark"):
        text, _, background = INKS[theme]
        assert contrast(text, background) >= 12
    for background in BACKGROUNDS.values():
        assert contrast(INKS["both"].text, background) >= 4
    most = (contrast("#FFFFFF", BACKGROUNDS["VS Code"])) ** 0.5
    assert most < 4.2  # no colour can do better on both


@pytest.mark.parametrize("eye", EYES)
def test_what_meets_in_a_picture_is_told_apart(eye):
    """2.3 is just noticeable side by side; these are far from each other."""
    for one, other in itertools.combinations(("real", "padding", "cut"), 2):
        assert apart(COLOURS[one], COLOURS[other], eye) > 29, (one, other)
    assert apart(COLOURS["real 2"], COLOURS["padding"], eye) > 80
    assert apart(COLOURS["real"], COLOURS["real 2"], eye) > 14
    assert apart(COLOURS["bound"], COLOURS["padding"], eye) > 35
    for one, other in itertools.combinations(STRATEGIES, 2):
        assert apart(COLOURS[one], COLOURS[other], eye) > 14, (one, other)


def test_an_eye_without_green_takes_red_for_green():
    assert apart("#C00000", "#7A6A00", "no green") < apart("#C00000", "#7A6A00", "all") / 3


def test_strategies_have_marks_too():
    assert len(set(MARKERS.values())) == len(STRATEGIES) == len(MARKERS)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("fixed", "fixed"),
        ("Fixed padding", "fixed"),
        ("dynamic, random order", "dynamic"),
        ("uniform-length", "uniform_length"),
        ("padding-free", "padding_free"),
        ("Packed rows", "packed"),
        ("8 buckets", "bucketed"),
        ("your sampler", "sampler"),
        ("something", None),
    ],
)
def test_strategies_are_known_by_their_names(name, key):
    assert strategy_of(name) == key


def test_strategies_have_one_order():
    assert ordered(["zebra", "packed", "fixed", "ape", "dynamic"]) == [
        "fixed", "dynamic", "packed", "zebra", "ape",
    ]  # fmt: skip


def test_numbers_are_short_and_true():
    counts = (0, 950, 12_340, 4_560_000, 7e9, 1e12)
    assert [grouped(n) for n in counts] == ["0", "950", "12.3k", "4.56M", "7G", "1T"]
    shares = (0, 1, 0.5, 0.123, 0.0456, 0.00123, 0.9987, 1e-7, 0.999999)
    assert [percent(s) for s in shares] == [
        "0 %", "100 %", "50 %", "12 %", "4.6 %", "0.12 %", "99.87 %", "< 0.01 %", "> 99.99 %",
    ]  # fmt: skip
    assert shorten("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"
    assert shorten("$x$\n") == r"\$x\$?"


def picture(theme="both"):
    pytest.importorskip("matplotlib")
    return tb.plots.plot_strategies({"fixed": {"real": 1, "padding": 2}}, theme=theme)


def test_a_picture_in_html_has_no_background():
    found = re.fullmatch(
        r'<img alt="Tokens by strategy" src="data:image/svg\+xml;base64,([\w+/=]+)" '
        r'style="width:560px;max-width:100%;height:auto">',
        as_html(picture()),
    )
    svg = base64.b64decode(found[1]).decode()
    assert picture()._repr_html_() == as_html(picture())  # as a notebook shows it
    assert f"fill:{INKS['both'].text.lower()}" in svg
    assert 'style="fill:#ffffff"' not in svg
    assert 'style="fill: #ffffff"' in as_svg(picture("light")).decode()
    assert "<dc:date>" not in svg


def drawn(svg):
    """What an SVG draws, in order: the outline or the name of each thing, and where it lies."""
    found = []
    places = {}

    def walk(element, x, y, shown):
        tag = element.tag.rpartition("}")[2]
        moved = re.search(r"translate\(([\d.-]+) ([\d.-]+)\)", element.get("transform", ""))
        x += float(element.get("x", 0)) + (float(moved[1]) if moved else 0)
        y += float(element.get("y", 0)) + (float(moved[2]) if moved else 0)
        if tag == "path" and shown:
            found.append(("path", element.get("clip-path"), numbers(element)))
        elif tag == "path":
            places[element.get("id")] = numbers(element)
        elif tag == "use":
            (link,) = (value for key, value in element.items() if key.endswith("href"))
            found.append((places[link[1:]], round(x, 1), round(y, 1)))
        for child in element:
            walk(child, x, y, shown and tag != "defs")

    def numbers(element):
        path = element.get("d", "")  # a space has none
        return re.findall(r"[A-Za-z]", path), [
            pytest.approx(float(number), abs=0.01) for number in re.findall(r"-?\d+\.?\d*", path)
        ]

    walk(ElementTree.fromstring(svg), 0.0, 0.0, True)
    return found


def test_a_picture_in_html_is_lighter_and_draws_the_same():
    pytest.importorskip("matplotlib")
    figure = tb.analyze([3, 40, 8, 500, 20] * 50, batch_size=4).plot("lengths", theme="both")
    whole, html = as_svg(figure), as_html(figure)
    light = base64.b64decode(re.search('base64,([^"]*)', html)[1])
    assert len(light) < 0.72 * len(whole)
    one, other = drawn(light), drawn(whole)
    assert len(one) == len(other) > 100
    for new, old in zip(one, other, strict=True):
        if new[0] == "path":
            assert new == old
        else:
            assert new[0] == old[0]
            assert new[1:] == pytest.approx(old[1:], abs=0.11)


def test_the_same_picture_has_the_same_bytes():
    assert as_svg(picture()) == as_svg(picture())


def test_a_large_picture_is_a_png_and_a_larger_one_is_left_out():
    rng = np.random.default_rng(0)
    pytest.importorskip("matplotlib")
    segments = np.sort(rng.choice(4_000, 1_600, replace=False)).reshape(-1, 2)
    figure = tb.plots.plot_rows({"batch": tb.plots.Cells(1, 4_000, segments)}, theme="both")
    svg = len(as_svg(figure)) // 2
    found = as_html(figure, most_bytes=svg)
    assert 'src="data:image/png;base64,iVBOR' in found
    assert 10_000 < len(found) < svg + 300
    assert as_html(figure, most_bytes=100) == ""


def test_what_is_said_instead_of_the_picture_is_escaped():
    assert 'alt="a &quot;b&quot; &lt;c&gt;"' in as_html(picture(), alt='a "b" <c>')


def test_reports_show_their_table_without_matplotlib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tightbatch.plots.figure", None)
    assert inline(lambda: tb.plots.plot_lengths([1])) == ""
    assert "<table>" in tb.half_report(np.float32([1, 2]))._repr_html_()
    with pytest.raises(ImportError, match=r"plot_lengths\(\) draws .*pip install matplotlib"):
        tb.plots.plot_lengths([1])


def test_reports_have_their_picture():
    pytest.importorskip("matplotlib")
    report = tb.half_report({"weight": np.float32([1, 2, 1e5])})
    assert '<img alt="Exponents of 3 numbers" src="data:image/' in report._repr_html_()
    assert "<img" not in tb.half_report(np.float32([1]), histogram=False)._repr_html_()


def test_the_theme_follows_the_axes_and_the_settings():
    matplotlib = pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure

    def ink(figure):
        return to_hex(figure.axes[0].xaxis.label.get_color()).upper()

    assert ink(tb.plots.plot_lengths([1])) == INKS["light"].text
    with matplotlib.rc_context({"figure.facecolor": "#101010"}):
        figure = tb.plots.plot_lengths([1])
    assert ink(figure) == INKS["dark"].text
    assert to_hex(figure.get_facecolor()) == "#101010"
    for colour, theme in (("white", "light"), ("black", "dark"), ("none", "both")):
        axes = Figure(facecolor=colour).subplots()
        axes.set_facecolor("none")
        assert tb.plots.plot_lengths([1], ax=axes) is axes.figure
        assert ink(axes.figure) == INKS[theme].text
    assert ink(tb.plots.plot_lengths([1], theme="dark")) == INKS["dark"].text
    part = Figure().subfigures(1, 2)[0].subplots()
    assert tb.plots.plot_lengths([1], ax=part) is part.figure.figure


def test_pyplot_knows_of_no_figure():
    pytest.importorskip("matplotlib")
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    tb.plots.plot_lengths([1, 2])
    tb.half_report(np.float32([1])).plot()
    assert pyplot.get_fignums() == before
