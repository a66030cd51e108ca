"""The documentation site: `sphinx-build -W docs OUT`, with the packages of the group "docs"."""

import sys
from pathlib import Path

import tightbatch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "tightbatch"
author = "the tightbatch developers"
project_copyright = author
version = release = tightbatch.__version__
html_title = "tightbatch"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_copybutton",
    "markdown_pages",
    "before_and_after",
]
templates_path = ["_templates"]
exclude_patterns = ["_extensions", "_templates", "_static"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # as GitHub makes them, so that links work in both places

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections have the types
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# A session is copied without its prompts and without what it printed.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False  # markdown_pages writes them, at the pages' own addresses
html_theme_options = {
    "source_repository": "https://github.com/tightbatch/tightbatch",
    "source_branch": "main",
    "source_directory": "docs/",
    "top_of_page_buttons": ["view"],
    "light_css_variables": {"color-brand-primary": "#0b5394", "color-brand-content": "#0b5394"},
    "dark_css_variables": {"color-brand-primary": "#8ab8e6", "color-brand-content": "#8ab8e6"},
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

# What a page's `../path` links to: files that are not part of the site.
repository = "https://github.com/tightbatch/tightbatch/blob/main"
