"""Writes the page of results: the text of page.md with tables and pictures in the places that it names."""

from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
from analysis import (
    LESS_IS_BETTER,
    MEASURES,
    Estimate,
    difference,
    level_of,
    table_of,
    tokens_to_end_of,
    whole_seeds,
    with_baseline,
)
from cells import StudySettings, read_settings
from figures import draw_curves, draw_differences, draw_sensitivity
from methods import LABELS, METHODS
from results import read_lines
from run_cell import Questions
from theory import Aim, aim, best_from_labels
from worlds import WorldSettings, draw_world

from fairpp_hf.evaluation.styles import readable

HERE = Path(__file__).parent

PARTS = {
    "alpha": "alpha (exponent of the tier's number)",
    "beta": "beta (exponent of the tier's size)",
    "dpo_beta": "beta of DPO",
    "flips": "share of answers flipped",
    "difference": "how far personas are apart",
    "learning_rate_factor": "factor on the learning rate",
    "sharpness": "how sharply answers show it",
}

CLAIMS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "**Reweighted DPO beats DPO**, both at the paper's beta of 0.1",
        "paper_tier_dpo",
        "paper_dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement"),
    ),
    (
        "**Reweighted DPO beats DPO**, both at beta = 1",
        "tier_dpo",
        "dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement", "agreement_where_apart"),
    ),
    (
        "The paper's two weighted stages beat the same stages without weights",
        "paper_weighted_sft_dpo",
        "paper_sft_dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement"),
    ),
    (
        "The paper's two weighted stages beat its role-play prompt",
        "paper_weighted_sft_dpo",
        "role_play",
        ("question_distance", "marginal_distance", "agreement"),
    ),
    (
        "The paper's two weighted stages beat plain SFT",
        "paper_weighted_sft_dpo",
        "sft",
        ("question_distance", "marginal_distance", "question_margin", "agreement"),
    ),
    ("Weighted SFT beats SFT", "tier_sft", "sft", ("question_distance", "marginal_distance", "agreement")),
    ("DPO at beta = 0.1 beats the model that it starts from", "paper_dpo", "plain", ("question_distance", "agreement")),
    ("DPO at beta = 1 beats DPO at 0.1", "dpo", "paper_dpo", ("question_distance", "marginal_distance", "agreement")),
    ("DPO at beta = 1 beats SFT", "dpo", "sft", ("question_distance", "marginal_distance", "agreement")),
    (
        "Drawing pairs by weight beats multiplying their losses",
        "tier_dpo_sampling",
        "tier_dpo",
        ("question_distance", "agreement"),
    ),
    ("Surprisal weights beat none", "surprisal_dpo", "dpo", ("question_distance", "marginal_distance", "agreement")),
    (
        "Surprisal weights beat tier weights",
        "surprisal_dpo",
        "tier_dpo",
        ("question_distance", "question_margin", "agreement", "agreement_where_apart"),
    ),
    ("Soft labels beat drawn answers", "soft_dpo", "dpo", ("question_distance", "marginal_distance", "agreement")),
    ("Soft labels beat tier weights", "soft_dpo", "tier_dpo", ("question_distance", "marginal_distance", "agreement")),
    ("Soft labels beat surprisal weights", "soft_dpo", "surprisal_dpo", ("question_distance", "agreement")),
    ("Weighted SFT beats the model that it starts from", "tier_sft", "plain", ("question_distance", "agreement")),
    (
        "Soft labels at beta = 1 beat tier weights at 0.1, the configurations' default until now",
        "soft_dpo",
        "paper_tier_dpo",
        ("question_distance", "marginal_distance", "question_margin", "agreement", "position_gap"),
    ),
    ("Group-robust training helps the worst group", "group_dpo", "dpo", ("worst_group_distance",)),
)
"""Of the grid: sentence, method, what it is compared with, and the measures on held-out questions."""

REASONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("Weights beat the same weights shuffled", "tier_dpo", "shuffled_tier_dpo", ("question_distance", "agreement")),
    (
        "... at beta = 0.1",
        "paper_tier_dpo",
        "paper_shuffled_tier_dpo",
        ("question_distance", "marginal_distance", "agreement"),
    ),
    (
        "Shuffled weights beat none at beta = 0.1",
        "paper_shuffled_tier_dpo",
        "paper_dpo",
        ("question_distance", "agreement"),
    ),
    (
        "Weights of the other form beat a question's own",
        "twin_tier_dpo",
        "tier_dpo",
        ("question_distance", "agreement"),
    ),
    ("Weights of the other form beat none", "twin_tier_dpo", "dpo", ("question_distance", "agreement")),
    ("Weights by expected tier beat none", "expected_tier_dpo", "dpo", ("question_distance", "agreement")),
    ("Tiers without their sizes beat none", "tier_beta0_dpo", "dpo", ("question_distance", "agreement")),
    (
        "Weights beat none once labels are soft",
        "tier_soft_dpo",
        "soft_dpo",
        ("question_distance", "agreement", "agreement_where_apart"),
    ),
    (
        "Options in either order beat pole A as A",
        "dpo",
        "written_order_dpo",
        ("position_gap", "question_distance", "agreement"),
    ),
)
"""The same of the variants, three targets."""


AIMS = (
    "sft",
    "tier_sft",
    "dpo",
    "tier_dpo",
    "soft_dpo",
    "surprisal_dpo",
    "paper_dpo",
    "paper_tier_dpo",
    "paper_sft_dpo",
    "paper_weighted_sft_dpo",
)
"""Methods whose aims are shown."""


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
    small = _Study(read_settings(small_config), results)
    confirmation = _Study(read_settings(confirmation_config), results)
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
        pictures.append(
            draw_sensitivity(
                parts,
                PARTS,
                "dpo",
                ("question_distance", "marginal_distance", "agreement"),
                page.parent / "sensitivity.png",
            )
        )
    texts: dict[str, Callable[[], str]] = {
        "small_facts": small.facts,
        "claims": lambda: claims(small.grid, CLAIMS),
        "reasons": lambda: claims(variants, REASONS),
        "aims": lambda: aims(small),
        "levels": lambda: levels(small),
        "differences": lambda: differences(small.grid, small.others("dpo"), "test"),
        "topics": lambda: differences(small.grid, small.others("dpo"), "topic"),
        "targets": lambda: by_target(small.grid),
        "sensitivity": lambda: sensitivity(parts),
        "variants": lambda: differences(
            variants, [name for name in dict.fromkeys(variants["method"]) if name != "dpo"], "test"
        ),
        "time": lambda: time_to_quality(small),
        "smollm2_facts": confirmation.facts,
        "smollm2_levels": lambda: levels(confirmation),
        "smollm2_differences": lambda: differences(confirmation.grid, confirmation.others("dpo"), "test"),
    }
    template = Template((HERE / "page.md").read_text("utf-8"))
    filled = {name: text() for name, text in texts.items() if name in template.get_identifiers()}
    page.write_text(template.substitute(filled), "utf-8")
    return [page, *pictures]


class _Study:
    """A configuration and its results."""

    def __init__(self, settings: StudySettings, results: Path) -> None:
        self.settings = settings
        lines = read_lines(results / f"{settings.name}.jsonl")
        self.rows = table_of(settings, lines)
        self.lines = lines
        self.grid = self.part("grid")

    def part(self, name: str) -> pd.DataFrame:
        """The results of a part, of the seeds that are whole."""
        if self.rows.empty:
            return self.rows
        cells = sum(cell.part == name for cell in self.settings.cells()) // len(self.settings.seeds)
        return whole_seeds(self.rows[self.rows["part"] == name], cells)

    def others(self, baseline: str) -> list[str]:
        """The methods of the grid that have results, but for one."""
        there = set() if self.grid.empty else set(self.grid["method"])
        return [method for method in self.settings.grid["methods"] if method in there and method != baseline]

    def facts(self) -> str:
        """What there is, and where and from which commits it comes."""
        if self.grid.empty:
            return "_Not run yet._"
        cells = len(self.rows.drop_duplicates(["target", "method", "seed", "part", "value"]))
        commits = sorted({str(line["commit"])[:12] for line in self.lines})
        machines = sorted({line["machine"] for line in self.lines})
        seeds = ", ".join(map(str, sorted(self.grid["seed"].unique())))
        return (
            f"{cells} results, seeds {seeds} of the grid, {len(self.grid['target'].unique())} targets, "
            f"{int(self.grid['computed_tokens'].median()):,} tokens a training (median); {'; '.join(machines)}; commit "
            f"{', '.join(commits)}."
        )


def levels(study: _Study) -> str:
    """A table of methods and measures on held-out questions."""
    rows = study.grid
    if rows.empty:
        return "_Not run yet._"
    columns = (
        "question_distance",
        "marginal_distance",
        "question_margin",
        "agreement",
        "agreement_where_apart",
        "brier",
        "worst_group_distance",
        "chosen_logprob",
        "on_an_option",
        "position_gap",
    )
    head = ["method", *(MEASURES[name] for name in columns), "ordinary questions right", "effective share of the pairs"]
    body = []
    for method in study.settings.grid["methods"]:
        own = rows[rows["method"] == method]
        if own.empty:
            continue
        numbers = [level_of(rows, method, f"test/{name}") for name in columns]
        share = own["effective_share"].mean()
        body.append(
            [
                LABELS[method],
                *(_short(number) for number in numbers),
                _short(level_of(rows, method, "ordinary_accuracy")),
                "" if pd.isna(share) else f"{share:.2f}",
            ]
        )
    first = study.settings.grid["methods"][0]
    best = [_short(level_of(rows, first, f"test_ceiling/{name}")) for name in columns]
    body.append(["_the target's own probabilities_", *best, "", ""])
    return _markdown(head, body)


def differences(rows: pd.DataFrame, methods: Sequence[str], side: str, baseline: str = "dpo") -> str:
    """A table of methods less DPO; bold where the interval leaves out 0 and it is better, italic where it is worse."""
    if rows.empty:
        return "_Not run yet._"
    columns = (
        "question_distance",
        "marginal_distance",
        "question_margin",
        "agreement",
        "question_distance_where_apart",
    )
    body = [
        [LABELS[method], *(_marked(difference(rows, method, baseline, f"{side}/{name}"), name) for name in columns)]
        for method in methods
    ]
    return _markdown(["less DPO", *(MEASURES[name] for name in columns)], body)


def claims(rows: pd.DataFrame, wanted: Sequence[tuple[str, str, str, tuple[str, ...]]]) -> str:
    """A table of sentences and what became of them."""
    if rows.empty:
        return "_Not run yet._"
    body = []
    for sentence, method, other, measures in wanted:
        for number, measure in enumerate(measures):
            found = difference(rows, method, other, f"test/{measure}")
            body.append(["" if number else sentence, MEASURES[measure], str(found), verdict(found, measure)])
    return _markdown(["claim", "by", "difference, 95% interval", "holds?"], body)


def aims(study: _Study) -> str:
    """A table of what objectives aim at, see `theory`, beside what trained models reached."""
    rows = study.grid
    if rows.empty:
        return "_Not run yet._"
    aimed: dict[str, list[Aim]] = {}
    for seed in sorted(rows["seed"].unique()):
        world = draw_world(WorldSettings(), seed, study.settings.answers)
        questions = Questions(study.settings, world.questions, seed)
        for target in rows["target"].unique():
            for method in AIMS:
                found = aim(METHODS[method], world, target, questions.is_train, questions.test, seed)
                aimed.setdefault(method, []).append(found)
            best = best_from_labels(world, target, questions.is_train, questions.test)
            aimed.setdefault("best", []).append(best)
    body = []
    for method, found in aimed.items():
        means = np.mean(found, axis=0)
        cells = [LABELS.get(method, "_the target's mean probabilities by label_")]
        for place, measure in enumerate(Aim._fields):
            reached = f"{level_of(rows, method, f'test/{measure}').mean:.3f}" if method in METHODS else ""
            cells += [f"{means[place]:.3f}", reached]
        body.append(cells)
    head = ["", *(f"{MEASURES[measure]}: {what}" for measure in Aim._fields for what in ("aim", "reached"))]
    return _markdown(head, body)


def verdict(found: Estimate, measure: str) -> str:
    """Whether a difference is for the better: yes, no (the opposite holds), or not shown."""
    low, high = (found.low, found.high) if measure not in LESS_IS_BETTER else (-found.high, -found.low)
    if low > 0:
        return "**yes**"
    return "**no, the opposite**" if high < 0 else "not shown"


def by_target(rows: pd.DataFrame) -> str:
    """A table of the seven targets: how unlike the others each is, and what weights do."""
    columns = ("question_distance", "marginal_distance", "agreement", "question_margin")
    body = []
    for target, own in rows.groupby("target", sort=False):
        apart = own[own["method"] == "dpo"]["test_ceiling/question_margin"].mean()
        found = [_marked(difference(own, "tier_dpo", "dpo", f"test/{name}"), name) for name in columns]
        body.append([readable(str(target)), f"{apart:.3f}", *found])
    body.sort(key=lambda row: row[1])
    head = ["target", "distance to the nearest other", *(f"{MEASURES[name]}: reweighted less DPO" for name in columns)]
    return _markdown(head, body)


def sensitivity(parts: dict[str, pd.DataFrame]) -> str:
    """A table for each part: what DPO reaches at each value, and how others differ from it there."""
    found = []
    for part, rows in parts.items():
        values = sorted(rows["value"].unique(), key=float)
        of_value = [rows[rows["value"] == value] for value in values]
        body = []
        for method in sorted(set(rows["method"]), key=list(METHODS).index):
            for measure in ("question_distance", "marginal_distance", "agreement"):
                column = f"test/{measure}"
                if method == "dpo":
                    numbers = [_short(level_of(own, method, column)) for own in of_value]
                else:
                    numbers = [_marked(difference(own, method, "dpo", column), measure) for own in of_value]
                label = LABELS[method] if method == "dpo" else f"{LABELS[method]} less DPO"
                body.append([label, MEASURES[measure], *numbers])
        found.append(f"**{PARTS[part][0].upper()}{PARTS[part][1:]}**\n\n{_markdown(['', '', *values], body)}")
    return "\n\n".join(found) if found else "_Not run yet._"


def time_to_quality(study: _Study) -> str:
    """A table of tokens until the mean over targets is, and stays, as near, or agrees as often, as DPO's at the end."""
    rows = study.grid
    body = []
    for measure in ("question_distance", "agreement"):
        for method in study.settings.grid["curves"]:
            times = tokens_to_end_of(rows, method, "dpo", measure)
            reached = [time for time in times if time is not None]
            body.append(
                [
                    LABELS[method],
                    MEASURES[measure],
                    ", ".join("not" if time is None else f"{time / 1000:,.0f}" for time in times),
                    f"{np.mean(reached) / 1000:,.0f}" if len(reached) == len(times) else "",
                ]
            )
    whole = rows[rows["method"] == "dpo"]["computed_tokens"].mean()
    head = ["", "as DPO at its end, by", f"thousand tokens, a seed each (of {whole / 1000:,.0f})", "mean"]
    return _markdown(head, body)


def _short(found: Estimate) -> str:
    reach = f" ± {found.high - found.mean:.3f}" if found.seeds > 1 else ""
    return f"{found.mean:.3f}{reach}"


def _marked(found: Estimate, measure: str) -> str:
    text = f"{found.mean:+.3f} ± {found.high - found.mean:.3f}" if found.seeds > 1 else f"{found.mean:+.3f}"
    if found.seeds < 2:
        return text
    return {"**yes**": f"**{text}**", "**no, the opposite**": f"_{text}_"}.get(verdict(found, measure), text)


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))
