"""The documents: links lead somewhere, files that they name exist, and examples run."""

import ast
import doctest
import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import tightbatch as tb

ROOT = Path(__file__).parent.parent
PLACES = ("", "docs/", "docs/api/", "docs/gallery/", ".github/")
PAGES = [page for place in PLACES for page in sorted(ROOT.glob(f"{place}*.md"))]
pytestmark = pytest.mark.skipif(
    not (ROOT / ".github").is_dir(), reason="a source distribution has not all of the documents"
)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page):
    """The names that headings of a page have in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pages
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pages
def test_files_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    folders = "benchmarks|csrc|docs|examples|python|tests|\\.ci|\\.github"
    for name in re.findall(rf"(?<![\w/.])(?:{folders})/[\w./-]*\w", text):
        assert (ROOT / name).exists(), name


def needs_torch(page):
    """Skip a page whose examples use torch, where it is not installed."""
    text = page.read_text(encoding="utf-8")
    if re.search(r"import torch|from torch|tb\.amp|tightbatch\.amp", text):
        pytest.importorskip("torch")
    if re.search(r"import transformers|from transformers", text):
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
    if "tb.ray." in text:
        pytest.importorskip("ray.data")


@pages
def test_examples_run(page):
    needs_torch(page)
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, None, 0)
    failed, attempted = doctest.DocTestRunner().run(test)
    assert failed == 0
    assert attempted == text.count(">>> ")


@pages
def test_what_examples_call_is_there(page):
    """What it calls is ours, with keywords that are there."""
    needs_torch(page)
    for code in blocks(page, "python"):
        if ">>>" in code:
            continue
        for call in (n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)):
            name = ast.unparse(call.func)
            if not name.startswith("tb."):
                continue
            made = tb
            for part in name.split(".")[1:]:
                made = getattr(made, part)
            keywords = {keyword.arg for keyword in call.keywords}
            inspect.signature(made).bind_partial(*call.args, **dict.fromkeys(keywords))


def test_the_readme_is_short_and_shows_examples():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert ">>> " in text
    assert len(text.splitlines()) <= 150


@pytest.mark.parametrize("folder", ["docs", "docs/api", "docs/gallery"])
def test_the_pages_of_a_folder_are_in_its_index(folder):
    index = (ROOT / folder / "index.md").read_text(encoding="utf-8")
    listed = index.partition("```{toctree}")[2].split()
    for page in (ROOT / folder).glob("*.md"):
        if page.name != "index.md":
            assert f"]({page.name})" in index, page.name
            assert page.stem in listed, page.name


def test_the_api_pages_have_every_public_name_once():
    texts = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md")]
    shown = re.findall(r"^\.\. auto\w+:: tightbatch\.(.+)$", "\n".join(texts), re.MULTILINE)
    places = {"": tb.__all__}
    for name in ("plots", "amp", "huggingface", "huggingface.trl", "ray"):
        if name != "plots":
            pytest.importorskip({"amp": "torch", "ray": "ray.data"}.get(name, "transformers"))
        places[f"{name}."] = importlib.import_module(f"tightbatch.{name}").__all__
    public = [prefix + name for prefix, names in places.items() for name in names]
    assert sorted(shown) == sorted(public), "docs/api/ has a page for each family"


def test_figures_in_the_readme_are_those_of_the_table():
    def lines(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        table = text.split("<!-- benchmarks: begin -->")[1].split("<!-- benchmarks: end -->")[0]
        return [line for line in table.splitlines() if line.startswith("| ")]

    known = {line.rsplit("|", 2)[0] + "|" for line in lines("docs/benchmarks.md")}
    assert len(lines("README.md")) > 5
    assert set(lines("README.md")) <= known


def test_versions_are_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {project['project']['version']}\n" in citation
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    ruff = next(pin for pin in project["dependency-groups"]["lint"] if pin.startswith("ruff=="))
    assert f"rev: v{ruff.removeprefix('ruff==')} " in hooks
