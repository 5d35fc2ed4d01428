"""What protocol.md named as reached before the runs, judged by the results: a row a claim, each with its numbers."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
from analysis import Study, difference, level_of
from methods import METHODS
from tables import DISTANCE, MARGIN, at_visits, markdown_table

LARGEST = 5120
FURTHER = 0.005
"""How much further than the constant a target may be."""
BESIDE_LABEL_MODEL = 0.01
POSITION_GAP = 0.05


class Claim(NamedTuple):
    """A claim of protocol.md."""

    text: str
    found: str
    is_reached: bool | None
    """None while its runs are missing."""


def reached(small: Study, smollm2: Study, gemma: Study) -> str:
    """A table of the claims, what was found, and whether that is what was claimed."""
    words = {True: "**yes**", False: "**no**", None: "_not run yet_"}
    claims = [*_of_small_model(small), _of_smollm2(smollm2), _of_gemma(gemma)]
    return markdown_table(
        ["claim", "found", "reached?"], [(text, found, words[is_it]) for text, found, is_it in claims]
    )


def _by_target(rows: pd.DataFrame, method: str, column: str) -> pd.Series:
    """Mean over seeds, by target."""
    return rows[rows["method"] == method].groupby("target")[column].mean()


def _of_small_model(study: Study) -> Iterator[Claim]:
    grid, budget = study.grid, study.settings.budget.visits
    largest = at_visits(study, LARGEST)
    for method in ("aim_0", "list_0"):
        name = "pair by pair" if method == "aim_0" else "listwise"
        ours = _by_target(largest, method, DISTANCE)
        constant, model = (_by_target(grid, name, DISTANCE) for name in ("constant", "label_model"))
        text = (
            f"Aim, lambda 0, {name}, {LARGEST:,} visits: nearer than the constant for at least 6 of 7 targets, none further "
            f"by more than {FURTHER}, all within {BESIDE_LABEL_MODEL} of the label model"
        )
        if len(ours) < len(constant):
            yield Claim(text, "", None)
            continue
        nearer, worst = int((ours < constant).sum()), (ours - constant).max()
        beside = ours - model
        yield Claim(
            text,
            f"{nearer} of {len(ours)} nearer; the worst {worst:+.3f}; {(beside <= BESIDE_LABEL_MODEL).sum()} of {len(ours)} "
            f"beside the label model, the worst {beside.max():+.3f}",
            bool(nearer >= 6 and worst <= FURTHER and (beside <= BESIDE_LABEL_MODEL).all()),
        )
    text = "At some lambda above 0, a larger margin than the label model's for at least 6 of 7 targets"
    model = _by_target(grid, "label_model", MARGIN)
    leaning = [name for name in METHODS if name.startswith(("aim_", "list_")) and METHODS[name].divergence > 0]
    larger = {
        f"{name}, {count:,} visits": int((_by_target(rows, name, MARGIN) > model).sum())
        for count, rows in ((budget, grid), (LARGEST, largest))
        for name in leaning
        if len(_by_target(rows, name, MARGIN)) == len(model)
    }
    best = max(larger, key=lambda name: larger[name])
    method = best.split(",")[0]
    rows = grid if f"{budget:,}" in best else largest
    sure = sum(
        difference(rows[rows["target"] == target], method, "label_model", MARGIN).low > 0 for target in model.index
    )
    yield Claim(
        text, f"{larger[best]} of {len(model)} at best ({best}), {sure} with an interval above 0", larger[best] >= 6
    )
    gaps = {count: level_of(at_visits(study, count), "aim_0", "test/position_gap").mean for count in (budget, LARGEST)}
    yield Claim(
        f"Position gap at most {POSITION_GAP} (aim, lambda 0, {budget:,} visits and more)",
        "; ".join(f"{gap:.3f} at {count:,}" for count, gap in gaps.items() if pd.notna(gap)),
        all(gap <= POSITION_GAP for gap in gaps.values() if pd.notna(gap)),
    )
    ordinary = difference(grid, "aim_0", "dpo", "ordinary_accuracy")
    yield Claim(
        "Ordinary questions answered rightly no less often than after DPO",
        f"{ordinary.mean:+.3f} [{ordinary.low:+.3f}, {ordinary.high:+.3f}]",
        ordinary.high >= 0,
    )


def _of_smollm2(study: Study) -> Claim:
    text = "SmolLM2-135M: aim, lambda 0, nearer than the constant for at least 6 of 7 targets (seed 0)"
    if study.grid.empty:
        return Claim(text, "", None)
    ours, constant = (_by_target(study.grid, name, DISTANCE) for name in ("both_0", "constant"))
    nearer = int((ours < constant).sum())
    return Claim(text, f"{nearer} of {len(ours)}; the worst {(ours - constant).max():+.3f}", nearer >= 6)


def _of_gemma(study: Study) -> Claim:
    text = "Gemma 3 270M: aim, lambda 0, nearer than the constant, DPO and the plain model (mean of three targets, one seed)"
    if study.grid.empty:
        return Claim(text, "", None)
    others = {other: difference(study.grid, "both_0", other, DISTANCE).mean for other in ("constant", "dpo", "plain")}
    found = ", ".join(f"{less:+.3f} than {other}" for other, less in others.items())
    return Claim(text, found, all(less < 0 for less in others.values()))
