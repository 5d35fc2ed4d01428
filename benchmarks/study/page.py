"""Writes the page of results: the text of page.md with tables and pictures in the places that it names."""

import re
from pathlib import Path
from string import Template

from analysis import Study
from cells import read_settings
from figures import draw_trade_off, draw_visits
from reached import reached
from tables import (
    MARGIN,
    by_target,
    each_training,
    facts,
    flips,
    held_out,
    levels,
    listwise_or_pairwise,
    main_comparison,
    variants,
    visited,
    visits,
)

HERE = Path(__file__).parent
EACH = ("constant", "label_model", "plain", "role_play", "dpo", "distil", "both_0", "both_0.5")


def write_page(results: Path, page: Path = HERE / "README.md") -> list[Path]:
    """Write the page and its pictures of all results there are.

    Args:
        results: folder of the results.
        page: where the page goes, its pictures beside it.

    Returns:
        The files written.

    Raises:
        ValueError: there is no result of the small model's grid.
    """
    small, smollm2, gemma = (
        Study(read_settings(HERE / f"{name}.yaml"), results) for name in ("small", "smollm2", "gemma3")
    )
    if small.grid.empty:
        raise ValueError(
            f"The page must have results; got no whole seed of the grid in {results}. Run the study first."
        )
    pictures = [draw_trade_off(small, page.parent / "trade_off.png")]
    visits_picture = ""
    if not small.part("visits").empty:
        pictures.append(draw_visits(small, page.parent / "visits.png"))
        visits_picture = "![Distance by questions visited](visits.png)"
    distances = ("constant", "label_model", "dpo", "soft_dpo", "distil", "aim_0", "list_0", "list_0.5")
    margins = ("constant", "label_model", "dpo", "list_0", "list_0.25", "list_0.5", "list_1")
    largest = ("constant", "label_model", "dpo", "soft_dpo", "distil", "aim_0", "list_0", "list_0.5")
    texts = {
        "facts": facts(small),
        "main": main_comparison(small, "aim_0"),
        "main_listwise": main_comparison(small, "list_0"),
        "levels": levels(small),
        "distances": by_target(small, distances),
        "distances_5120": by_target(small, largest, visits=5120),
        "reached": reached(small, smollm2, gemma),
        "margins": by_target(small, margins, MARGIN),
        "visits_picture": visits_picture,
        "visits": visits(small),
        "listwise": listwise_or_pairwise(small),
        "held_out": held_out(
            small, ("constant", "label_model", "plain", "dpo", "soft_dpo", "distil", "aim_0", "list_0")
        ),
        "flips": flips(small),
        "variants": variants(small),
        "visited": visited(small),
        "smollm2_facts": facts(smollm2),
        "smollm2_levels": levels(smollm2),
        "smollm2_each": each_training(smollm2, EACH),
        "gemma3_facts": facts(gemma),
        "gemma3_levels": levels(gemma),
        "gemma3_each": each_training(gemma, EACH),
    }
    text = Template((HERE / "page.md").read_text("utf-8")).substitute(texts)
    for title, study in (("SmolLM2-135M", smollm2), ("Gemma 3 270M", gemma)):
        if study.grid.empty:
            text = re.sub(rf"(## {title}\n\n).*?(?=## )", r"\1Not run yet.\n\n", text, flags=re.DOTALL)
    page.write_text(text, "utf-8")
    return [page, *pictures]
