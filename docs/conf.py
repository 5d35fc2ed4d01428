"""Sphinx: `make docs` builds the pages of this folder into docs/_build."""

import re
from typing import Any

import fairpp_hf

project = "fairpp_hf"
author = "The fairpp_hf authors"
copyright = "the fairpp_hf authors, Apache-2.0"
release = fairpp_hf.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxarg.ext",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
smartquotes = False  # `--option` is no dash
default_role = "literal"  # docstrings write code as `code`
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "fairpp_hf"
html_show_sourcelink = False


def code_blocks(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Docstrings fence code as Markdown does, like those of transformers and TRL; Sphinx reads reStructuredText."""
    text = re.sub(
        r"^( *)```(\w+)\n(.*?)^\1```$",
        lambda match: f"{match[1]}.. code-block:: {match[2]}\n\n" + re.sub(r"(?m)^(?=.)", "    ", match[3]),
        "\n".join(lines),
        flags=re.DOTALL | re.MULTILINE,
    )
    lines[:] = text.split("\n")


def setup(app: Any) -> None:
    """Called by Sphinx; before napoleon, whose sections the blocks stand in."""
    app.connect("autodoc-process-docstring", code_blocks, priority=100)
