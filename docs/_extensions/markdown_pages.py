"""Each page as plain Markdown beside its HTML, and llms.txt, which lists them.

A guide is Markdown already. In an API page each autodoc directive is replaced by the signature and
the docstring that it shows. Links to files outside docs/ lead to the repository, in both forms.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import before_and_after

DIRECTIVE = re.compile(
    r"^```\{eval-rst\}\n\.\. auto(?:function|class|exception):: (\S+)\n(?:   .*\n)*```\n",
    re.MULTILINE,
)
OUTSIDE = re.compile(r"\]\((?:\.\./)+(?=(?:benchmarks|csrc|examples|python|tests|[A-Z]+\.|\.))")
# A comment, so that who reads the source elsewhere sees nothing of it.
PICTURE = re.compile(r"^<!-- before and after: (\w+) -->\n", re.MULTILINE)
THEMED = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">'
    r'\s*<img src="([^"]+)" ([^>]+)>\s*</picture>'
)
INCLUDED = re.compile(r"^```\{literalinclude\} (\S+)\n:language: (\w+)\n```\n", re.MULTILINE)
TOCTREE = re.compile(r"^```\{toctree\}\n.*?^```\n", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
PARAMETER = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*) : (.*)$", re.MULTILINE)
STAR = re.compile(r"(?<=[\[(, \"])\*(?=\w+[]),\"])")
EXAMPLE = re.compile(r"^>>> (?:.*\n)+?(?=\n|\Z)", re.MULTILINE)


def found(name: str) -> Any:
    """What a dotted name stands for."""
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            thing = getattr(thing, part)
        return thing
    raise ImportError(name)


def docstring_as_markdown(thing: Any) -> str:
    """A numpydoc docstring: its sections as bold lines, its parameters as a list."""
    text = (inspect.getdoc(thing) or "") + "\n"
    text = re.sub(r"^\.\. \[(\w+)\]", r"[\1]", text, flags=re.MULTILINE)
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text).replace("``", "`")
    text = EXAMPLE.sub(lambda match: f"```python\n{match[0]}```\n", text)
    text = PARAMETER.sub(r"- **\1**: \2", text)
    return SECTION.sub(r"**\1**\n", text).strip() + "\n"


def signature(thing: Any) -> str:
    """The parameters without their types: the docstring has them."""
    try:
        made = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    empty = inspect.Parameter.empty
    kept = [p.replace(annotation=empty) for p in made.parameters.values() if p.name != "self"]
    return str(made.replace(parameters=kept, return_annotation=inspect.Signature.empty))


def members_of(thing: Any) -> dict[str, Any]:
    """What a class has itself, or from a class of ours."""
    if not inspect.isclass(thing):
        return {}
    ours = [base for base in thing.__mro__ if base.__module__.startswith("tightbatch")]
    return {name: value for base in reversed(ours) for name, value in vars(base).items()}


def api_as_markdown(name: str) -> str:
    """What an autodoc directive shows: the thing, and the public methods of a class."""
    thing = found(name)
    lines = [f"`{name}{signature(thing)}`\n", docstring_as_markdown(thing)]
    for member, value in members_of(thing).items():
        is_shown = inspect.isroutine(value) or isinstance(value, (classmethod, property))
        if member.startswith("_") or not is_shown or not inspect.getdoc(getattr(thing, member)):
            continue
        arguments = "" if isinstance(value, property) else signature(getattr(thing, member))
        lines.append(f"### `{member}{arguments}`\n")
        lines.append(docstring_as_markdown(getattr(thing, member)))
    return "\n".join(lines)


def read_file(path: str) -> str:
    """A file that a page shows, by its path from docs/."""
    return (Path(__file__).parent.parent / path).read_text(encoding="utf-8")


def as_markdown(text: str) -> str:
    """A page's source without what only Sphinx reads."""
    text = PICTURE.sub(lambda match: before_and_after.as_text(match[1]), text)
    text = INCLUDED.sub(lambda match: f"```{match[2]}\n{read_file(match[1])}```\n", text)
    text = DIRECTIVE.sub(lambda match: api_as_markdown(match[1]), TOCTREE.sub("", text))
    return text.rstrip() + "\n"


def link_to_repository(app: Any, _docname: str, source: list[str]) -> None:
    """Sphinx's event before a page is read."""
    text = by_theme(outside_links(source[0], app.config.repository))
    source[0] = PICTURE.sub(r"```{before-and-after} \1\n```\n", text)


def by_theme(text: str) -> str:
    """A picture that is there in light and dark follows the theme that a reader chooses."""
    return THEMED.sub(
        r'<img class="only-light" src="\2" \3><img class="only-dark" src="\1" \3>', text
    )


def escape_stars(
    _app: Any, _what: str, _name: str, _thing: Any, _options: Any, lines: list[str]
) -> None:
    """A shape such as [batch, *shape] is no emphasis. Before numpydoc reads it."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = STAR.sub(r"\\*", line)


def outside_links(text: str, repository: str) -> str:
    """Links to files that are not part of the site lead to the repository."""
    return OUTSIDE.sub(f"]({repository}/", text)


def title_and_summary(text: str) -> tuple[str, str]:
    """The heading of a page, and its first sentence or two."""
    title, _, rest = text.partition("\n")
    paragraphs = [p for p in rest.strip().split("\n\n") if re.match(r"[\w`*]", p)]
    summary = " ".join(paragraphs[0].split()) if paragraphs else ""
    return title.removeprefix("# "), re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", summary)


def in_order(app: Any) -> list[str]:
    """Pages as the navigation has them."""
    included = app.env.toctree_includes
    order: list[str] = []

    def visit(page: str) -> None:
        order.append(page)
        for child in included.get(page, ()):
            visit(child)

    visit(app.config.root_doc)
    return order


def write_pages(app: Any, error: Exception | None) -> None:
    """Sphinx's event after the build: the Markdown of each page, and llms.txt."""
    if error is not None or app.builder.name != "html":
        return
    lines = []
    for page in in_order(app):
        text = Path(app.env.doc2path(page)).read_text(encoding="utf-8")
        text = as_markdown(outside_links(text, app.config.repository))
        target = Path(app.outdir, f"{page}.md")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        title, summary = title_and_summary(text)
        if page == app.config.root_doc:
            lines += [f"# {title}", "", f"> {summary}", "", "## Pages", ""]
        else:
            lines.append(f"- [{title}]({page}.md): {summary}")
    shutil.copytree(Path(app.srcdir, "images"), Path(app.outdir, "images"), dirs_exist_ok=True)
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("repository", "", "env", [str])
    app.connect("autodoc-process-docstring", escape_stars, priority=400)
    app.connect("source-read", link_to_repository)
    app.connect("build-finished", write_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
