"""The gallery: each page's loader runs as pasted, and wastes what the page says."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs" / "_extensions"))
import gallery  # noqa: E402

pytestmark = [
    pytest.mark.skipif(
        not (ROOT / ".github").is_dir(), reason="a source distribution has not all of the documents"
    ),
    pytest.mark.filterwarnings("ignore"),  # of trainers, about what they do themselves
]
# The texts are those of Python's documentation, which differ between its versions.
CLOSE = 0.02 if sys.version_info[:2] == (3, 11) else 0.1


PAGES = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.cluster] * (page.stem == "ray"))
    for page in gallery.pages()
]


@pytest.fixture(autouse=True)
def _no_cluster_stays():
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_wastes_what_it_says(page, tmp_path, monkeypatch):
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for package in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    figures = gallery.figures_of(page)
    begin, end = (text.index(marker) for marker in gallery.MARKERS)
    said = [float(share) / 100 for share in re.findall(r"([\d.]+)% \|$", text[begin:end], re.M)]
    assert [figure["waste"] for figure in figures.values()] == pytest.approx(said, abs=CLOSE)
    assert said[0] > said[1]


def test_the_index_has_the_figures_of_the_pages():
    index = gallery.INDEX.read_text(encoding="utf-8")
    for page in gallery.pages():
        shares = re.findall(r"([\d.]+%) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
        (line,) = [line for line in index.splitlines() if f"({page.name})" in line]
        assert line.endswith(f" | {' | '.join(shares)} |")
