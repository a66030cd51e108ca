"""What check_model found, as text, HTML, JSON and a picture."""

import json
import re

import numpy as np
import pytest

import tightbatch as tb

torch = pytest.importorskip("torch")


class Mean(torch.nn.Module):
    def __init__(self, masked):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.masked = torch.nn.Embedding(50, 4), masked

    def forward(self, input_ids, attention_mask, **_):
        keep = attention_mask[..., None] if self.masked else torch.ones_like(input_ids[..., None])
        return (self.embed(input_ids) * keep).sum(1) / keep.sum(1)


def report(masked, count=4):
    generator = np.random.default_rng(0)
    lengths = [7, 1, 12, 3, *generator.integers(1, 12, max(0, count - 4)).tolist()][:count]
    samples = [{"input_ids": generator.integers(5, 50, n).tolist()} for n in lengths]
    return tb.check_model(Mean(masked), tb.PadCollator(), samples)


def test_the_text_has_the_matrix_and_where_to_look():
    found = report(masked=False)
    lines = str(found).splitlines()
    assert lines[0].startswith("LEAKS: 14 found, up to ")
    heading, *matrix = lines[2:12]
    assert re.findall(r"row \d", heading) == ["row 0", "row 1", "row 2", "row 3"]
    assert [line[:24].strip() for line in matrix] == [
        *(f"row {i} changed" for i in range(4)),
        "padding changed",
        "more padding",
        "the row alone",
        "others longer, reordered",
        "the same batch again",
    ]
    padding = matrix[4].split()[2:]
    assert [cell.endswith("!") for cell in padding] == [True, True, False, True]
    for row in range(4):
        cells = matrix[row].split()[3:]
        assert cells[row].startswith("(")
        assert cells[row].endswith(")")
        assert [cell for i, cell in enumerate(cells) if i != row] == ["0"] * 3
    assert any(line.startswith("where: the model itself (Mean)") for line in lines)
    assert max(map(len, lines[:12])) < 120
    assert repr(found).startswith("<ModelReport: LEAKS: 14 found")


def test_the_text_of_what_holds():
    found = report(masked=True)
    assert str(found).startswith("holds: 4 rows stay as they are, within ")
    assert "!" not in "".join(str(found).splitlines()[2:11])
    assert "where" not in str(found)


def test_many_rows_are_cut_to_those_that_matter():
    found = report(masked=False, count=30)
    lines = str(found).splitlines()
    shown = re.findall(r"row \d+", lines[2])
    assert len(shown) == 12
    worst = int(np.nanargmax(found.padding))
    assert f"row {worst}" in shown
    assert any("12 of 30 rows" in line for line in lines)
    assert found.matrix.shape == (30, 30)


def test_html_marks_leaks_and_escapes_names():
    found = report(masked=False)
    page = found._repr_html_()
    assert page.count("<tr>") == 10
    assert page.count("background:#d55e00") == 14
    assert "row 0 -&gt;" not in page  # names of leaks are not in it, but all else is escaped
    assert "LEAKS: 14 found" in page
    assert page.count("<table>") == page.count("</table>") == 1


def test_json_has_everything():
    found = report(masked=False)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["holds"] is False
    assert plain["leaks"] == list(found.leaks)
    assert np.array(plain["matrix"]).shape == (4, 4)
    assert plain["alone"] == pytest.approx(found.alone.tolist())
    assert plain["place"]["kind"] == "Mean"
    assert plain["tolerance"] == found.tolerance
    assert report(masked=True).to_dict()["place"] is None


def test_what_was_not_tried_is_none():
    samples = [{"input_ids": [5, 6, 7]}, {"input_ids": [8, 9, 5]}]
    found = tb.check_model(Mean(True), tb.PadCollator(), samples)
    assert np.isnan(found.padding).all()
    assert found.to_dict()["padding"] == [None, None]
    assert found.holds, found
    assert "; the batch has no padding: nothing of padding was tried" in found.summary()
    assert found.to_dict()["wider"] == [None, None]
    assert re.search(r"padding changed +- +-", str(found))


@pytest.mark.parametrize("count", [4, 30, 60])
@pytest.mark.parametrize("masked", [True, False])
def test_the_picture_says_what_it_shows(masked, count):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    found = report(masked, count)
    figure = found.plot()
    axes = figure.axes[0]
    figure.canvas.draw()
    title = axes.get_title(loc="left")
    assert title.startswith("check_model: holds" if masked else "check_model: LEAKS")
    assert axes.get_xlabel() == "row whose outputs moved"
    assert axes.get_ylabel() == "what was done"
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[-5:] == [
        "padding changed",
        "more padding",
        "the row alone",
        "others longer, reordered",
        "same batch again",
    ]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["control: must move", "leak (also marked !)", "does not move"]
    image = axes.images[0].get_array()
    assert image.shape == (count + 5, count)
    assert np.ma.getmaskarray(image)[np.arange(count), np.arange(count)].all()
    beyond = np.ma.filled(image, np.nan) > 0
    assert beyond.sum() == len(found.leaks)
    bar = next(ax for ax in axes.figure.axes if ax is not axes)
    assert "of the largest output" in bar.get_ylabel()
    if count == 4:  # and whoever sees no colours
        cells = [text.get_text() for text in axes.texts]
        assert sum(cell.endswith("!") for cell in cells) == len(found.leaks)
    own = matplotlib.figure.Figure().subplots()
    assert found.plot(own) is own.figure
    assert own.images


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tightbatch.plots.figure", None)
    with pytest.raises(ImportError, match="pip install"):
        report(masked=True).plot()
