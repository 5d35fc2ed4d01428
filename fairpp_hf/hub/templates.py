"""Renders a card from its Jinja template in `dataset_card/`: prose from the template, facts from the caller."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from fairpp_hf.markdown import code, counted, escaped, link


def render_card(template: str, metadata: dict[str, Any], **values: Any) -> str:
    """Render a card.

    Args:
        template: File name in `dataset_card/`.
        metadata: The YAML header.
        values: What the template names. A name that is missing is an error.

    Returns:
        The card's text, without several blank lines in a row.
    """
    header = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    text = _environment().get_template(template).render(metadata=header, **values)
    # In the header, a blank line may be part of a text.
    head, body = text[: len(header) + 8], text[len(header) + 8 :]
    return head + re.sub(r"\n{3,}", "\n\n", body)


@cache
def _environment() -> jinja2.Environment:
    # A wheel carries the folder inside this package; a checkout has it at its top.
    inside = Path(__file__).parent / "dataset_card"
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "dataset_card"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "code": code,
        "codes": lambda names: ", ".join(map(code, names)),
        "counted": counted,
        "escaped": escaped,
        "link": link,
    }
    return environment
