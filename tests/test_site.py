"""What the documentation site makes of pages: plain Markdown of each, and pictures of batches."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

import tightbatch as tb

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_extensions"))
import before_and_after  # noqa: E402
import gallery  # noqa: E402
import markdown_pages  # noqa: E402

REPOSITORY = "https://example.org/blob/main"
PAGES = [page for place in (".", "api", "gallery") for page in sorted((DOCS / place).glob("*.md"))]
NEEDED = {"amp": "torch", "huggingface": "transformers", "ray": "ray.data"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_a_page_as_markdown_has_nothing_that_only_sphinx_reads(page):
    if page.parent.name == "api" and page.stem in NEEDED:
        pytest.importorskip(NEEDED[page.stem])
    source = page.read_text(encoding="utf-8")
    text = markdown_pages.as_markdown(markdown_pages.outside_links(source, REPOSITORY))
    assert not re.search(r"^```\{", text, re.MULTILINE)
    assert "](../../" not in text
    assert not re.search(r"\]\(\.\./(?:csrc|tests|python|examples|benchmarks|[A-Z]+\.md)", text)
    assert text.count("\n```") % 2 == 0  # each block ends
    title, summary = markdown_pages.title_and_summary(text)
    assert title
    assert len(summary) > 20
    for name in re.findall(r":: tightbatch\.(\S+)$", source, re.MULTILINE):
        shown = text.split(f"`tightbatch.{name}", 1)[1]
        assert len(shown.splitlines()[2]) > 10  # a docstring's first line


def test_a_docstring_as_markdown():
    text = markdown_pages.api_as_markdown("tightbatch.unpad")
    assert text.startswith("`tightbatch.unpad(")
    assert "\n**Raises**\n" in text
    assert re.search(r"^- \*\*\w+\*\*: ", text, re.MULTILINE)
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert example.startswith(">>> ")
    methods = markdown_pages.api_as_markdown("tightbatch.LengthBatchSampler")
    assert "### `set_epoch(" in methods


@pytest.mark.parametrize("fold", [3, 7, 10, 100])
def test_bars_cover_a_batch_once(fold):
    lines, width = [[4, 3], [10], [1]], 10
    fold = min(fold, width)
    bars = before_and_after.bars_of(lines, width, fold)
    assert sum(bar.end - bar.begin for bar in bars) == len(lines) * width
    real = sum(bar.end - bar.begin for bar in bars if bar.kind != "padding")
    assert real == sum(map(sum, lines))
    assert all(0 <= bar.begin < bar.end <= fold for bar in bars)


def test_every_page_of_the_gallery_has_its_picture():
    both = json.loads(gallery.BATCHES.read_text(encoding="utf-8"))
    assert sorted(both) == [page.stem for page in gallery.pages()]
    for page in gallery.pages():
        assert f"<!-- before and after: {page.stem} -->\n" in page.read_text(encoding="utf-8")
        html = before_and_after.as_html(both[page.stem])
        assert html.count('class="caption"') == 2
        assert "padding" in before_and_after.as_text(page.stem)


def test_colours_are_those_of_all_pictures():
    if not hasattr(tb, "plots"):
        pytest.skip("there are no other pictures")
    colours = importlib.import_module("tightbatch.plots.style").COLOURS
    css = (DOCS / "_static" / "site.css").read_text(encoding="utf-8")
    for kind in ("real", "real 2", "padding"):
        rule = f".{kind.replace(' ', '-')} {{ fill: {colours[kind].lower()}; }}"
        assert rule in css
