"""Writes the page of results: the text of page.md with tables and pictures in the places that it names."""

from collections.abc import Callable
from pathlib import Path
from string import Template

from analysis import Study, with_baseline
from cells import read_settings
from claims import CLAIMS, CONFIRMED, REASONS
from figures import draw_curves, draw_differences, draw_sensitivity
from tables import (
    HEADLINE,
    PARTS,
    aims,
    by_target,
    claims,
    differences,
    each_training,
    facts,
    levels,
    sensitivity,
    time_to_quality,
    weight_by_option,
)

HERE = Path(__file__).parent


def write_page(
    results: Path,
    page: Path = HERE / "README.md",
    small_config: Path = HERE / "small.yaml",
    confirmation_config: Path = HERE / "smollm2.yaml",
) -> list[Path]:
    """Write the page and its pictures of all results there are.

    Args:
        results: folder of the results.
        page: where the page goes, its pictures beside it.
        small_config: configuration of the grid.
        confirmation_config: configuration of the confirmation.

    Returns:
        The files written.

    Raises:
        ValueError: there is no result of the small model's grid.
    """
    small = Study(read_settings(small_config), results)
    confirmation = Study(read_settings(confirmation_config), results)
    if small.grid.empty:
        raise ValueError(
            f"The page must have results; got none of {small.settings.name!r} in {results}. Run the study first."
        )
    pictures = [
        draw_differences(small.grid, small.others("dpo"), "dpo", page.parent / "differences.png"),
        draw_curves(small.grid, small.settings.grid["curves"], page.parent / "curves.png"),
    ]
    parts = {part: small.part(part) for part in PARTS}
    parts = {part: with_baseline(rows, small.grid, "dpo") for part, rows in parts.items() if not rows.empty}
    variants = small.part("variants")
    if parts:
        pictures.append(draw_sensitivity(parts, PARTS, "dpo", HEADLINE, page.parent / "sensitivity.png"))
    texts: dict[str, Callable[[], str]] = {
        "small_facts": lambda: facts(small),
        "claims": lambda: claims(small.grid, CLAIMS),
        "reasons": lambda: claims(variants, REASONS),
        "aims": lambda: aims(small),
        "levels": lambda: levels(small),
        "differences": lambda: differences(small.grid, small.others("dpo"), "test"),
        "topics": lambda: differences(small.grid, small.others("dpo"), "topic"),
        "targets": lambda: by_target(small.grid, "tier_dpo", "dpo"),
        "targets_paper": lambda: by_target(small.grid, "paper_tier_dpo", "paper_dpo"),
        "sensitivity": lambda: sensitivity(small, parts),
        "variants": lambda: differences(
            variants, [name for name in dict.fromkeys(variants["method"]) if name != "dpo"], "test"
        ),
        "time": lambda: time_to_quality(small),
        "smollm2_facts": lambda: facts(confirmation),
        "smollm2_levels": lambda: levels(confirmation),
        "smollm2_differences": lambda: differences(confirmation.grid, confirmation.others("dpo"), "test"),
        "smollm2_topics": lambda: differences(confirmation.grid, confirmation.others("dpo"), "topic"),
        "smollm2_claims": lambda: claims(confirmation.grid, CONFIRMED),
        "smollm2_cells": lambda: each_training(confirmation),
        "smollm2_options": lambda: weight_by_option(confirmation),
    }
    template = Template((HERE / "page.md").read_text("utf-8"))
    filled = {name: text() for name, text in texts.items() if name in template.get_identifiers()}
    page.write_text(template.substitute(filled), "utf-8")
    return [page, *pictures]
