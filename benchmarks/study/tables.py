"""The tables of the page, as Markdown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from analysis import LESS_IS_BETTER, MEASURES, Estimate, Study, difference, level_of, tokens_to_end_of
from cells import varied
from claims import Claims
from methods import LABELS, METHODS, scheme_weights
from run_cell import Questions
from theory import Aim, aim, best_from_labels
from worlds import WorldSettings, draw_world

from fairpp_hf.evaluation.styles import readable
from fairpp_hf.schema import OPTION_LETTERS

HEADLINE = ("question_distance", "marginal_distance", "agreement")

EFFECTIVE_SHARE = "effective share of the questions"

PARTS = {
    "alpha": "alpha (exponent of the tier's number)",
    "beta": "beta (exponent of the tier's size)",
    "dpo_beta": "beta of DPO",
    "flips": "share of answers flipped",
    "difference": "how far personas are apart",
    "learning_rate_factor": "factor on the learning rate",
    "sharpness": "how sharply answers show it",
}
"""What the sensitivity analyses vary, by their names in the configuration."""

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


def facts(study: Study) -> str:
    """A line that says what results there are, and where and from which commits they come."""
    if study.grid.empty:
        return "_Not run yet._"
    cells = len(study.rows.drop_duplicates(["target", "method", "seed", "part", "value"]))
    commits = sorted({str(line["commit"])[:12] for line in study.lines})
    machines = sorted({line["machine"] for line in study.lines})
    seeds = ", ".join(map(str, sorted(study.grid["seed"].unique())))
    return (
        f"{len(study.lines)} results, used in {cells} places; seeds {seeds} of the grid, "
        f"{len(study.grid['target'].unique())} targets, "
        f"{int(study.grid['computed_tokens'].median()):,} tokens a training (median); {'; '.join(machines)}; commit "
        f"{', '.join(commits)}."
    )


def levels(study: Study) -> str:
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
    head = ["method", *(MEASURES[name] for name in columns), "ordinary questions right", EFFECTIVE_SHARE]
    body = []
    for method in study.settings.grid["methods"]:
        own = rows[rows["method"] == method]
        if own.empty:
            continue
        numbers = [level_of(rows, method, f"test/{name}") for name in columns]
        body.append(
            [
                LABELS[method],
                *(_short(number) for number in numbers),
                _short(level_of(rows, method, "ordinary_accuracy")),
                _effective_share(rows, method),
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
        [
            LABELS[method],
            *(_marked(difference(rows, method, baseline, f"{side}/{name}"), name) for name in columns),
            _effective_share(rows, method),
        ]
        for method in methods
    ]
    return _markdown(["less DPO", *(MEASURES[name] for name in columns), EFFECTIVE_SHARE], body)


def claims(rows: pd.DataFrame, wanted: Claims) -> str:
    """A table of sentences and what became of them."""
    if rows.empty:
        return "_Not run yet._"
    body = []
    for sentence, method, other, measures in wanted:
        for number, measure in enumerate(measures):
            found = difference(rows, method, other, f"test/{measure}")
            body.append(["" if number else sentence, MEASURES[measure], str(found), verdict(found, measure)])
    return _markdown(["claim", "by", "difference, 95% interval", "holds?"], body)


def aims(study: Study) -> str:
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


def by_target(rows: pd.DataFrame, method: str, other: str) -> str:
    """A table of the seven targets: how unlike the others each is, and what weights do.

    Args:
        rows: of the grid.
        method: with weights.
        other: the same without.
    """
    columns = ("question_distance", "marginal_distance", "agreement", "question_margin")
    body = []
    for target, own in rows.groupby("target", sort=False):
        apart = own[own["method"] == "dpo"]["test_ceiling/question_margin"].mean()
        found = [_marked(difference(own, method, other, f"test/{name}"), name) for name in columns]
        body.append([readable(str(target)), f"{apart:.3f}", *found])
    body.sort(key=lambda row: row[1])
    head = ["target", "distance to the nearest other", *(f"{MEASURES[name]}: reweighted less DPO" for name in columns)]
    return _markdown(head, body)


def sensitivity(study: Study, parts: dict[str, pd.DataFrame]) -> str:
    """A table for each part: what each method reaches at each value, how it differs from DPO there, and by theory."""
    found = []
    for part, rows in parts.items():
        values = sorted(rows["value"].unique(), key=float)
        of_value = [rows[rows["value"] == value] for value in values]
        body = []
        for method in sorted(set(rows["method"]), key=list(METHODS).index):
            for measure in HEADLINE:
                column = f"test/{measure}"
                numbers = [_short(level_of(own, method, column)) for own in of_value]
                body.append([LABELS[method], MEASURES[measure], *numbers])
            if method == "dpo":
                continue
            for measure in HEADLINE:
                numbers = [_marked(difference(own, method, "dpo", f"test/{measure}"), measure) for own in of_value]
                body.append([f"{LABELS[method]} less DPO", MEASURES[measure], *numbers])
        if part != "learning_rate_factor":
            aimed = [f"{_aimed_difference(study, part, value, rows):+.3f}" for value in values]
            body.append([f"{LABELS['tier_dpo']} less DPO: _aims_", MEASURES["question_distance"], *aimed])
        if part == "dpo_beta":
            for measure in HEADLINE:
                numbers = [_marked(_less_weights_at_one(rows, value, measure), measure) for value in values]
                body.append(["DPO less reweighted DPO at beta = 1", MEASURES[measure], *numbers])
        found.append(f"**{PARTS[part][0].upper()}{PARTS[part][1:]}**\n\n{_markdown(['', '', *values], body)}")
    return "\n\n".join(found) if found else "_Not run yet._"


def each_training(study: Study) -> str:
    """A table of single trainings: distances question by question and agreement, by target and seed."""
    rows = study.grid
    if rows.empty:
        return "_Not run yet._"
    methods = [method for method in study.settings.grid["methods"] if METHODS[method].stages]
    columns = ("question_distance", "agreement")
    body = []
    for (target, seed), own in rows.groupby(["target", "seed"], sort=False):
        by_method = own.set_index("method")
        numbers = [f"{by_method.loc[method, f'test/{name}']:.3f}" for name in columns for method in methods]
        body.append([readable(str(target)), str(seed), *numbers])
    head = [f"{MEASURES[name]}: {LABELS[method]}" for name in columns for method in methods]
    return _markdown(["target", "seed", *head], body)


def weight_by_option(study: Study) -> str:
    """A table of the targets: how often each option is the drawn answer, and its share of the tier weights."""
    rows = study.grid
    if rows.empty:
        return "_Not run yet._"
    body = []
    for target in rows["target"].unique():
        shares = []
        for seed in sorted(rows["seed"].unique()):
            world = draw_world(WorldSettings(), seed, study.settings.answers)
            questions = Questions(study.settings, world.questions, seed)
            weights = scheme_weights(world, METHODS["tier_dpo"], target, questions.is_train, seed)[questions.train]
            drawn = world.training_answers[target][questions.train]
            shares.append(
                [np.bincount(drawn, each, len(OPTION_LETTERS)) / each.sum() for each in (np.ones(len(drawn)), weights)]
            )
        body.append([readable(str(target)), *(f"{share:.2f}" for share in np.mean(shares, axis=0).ravel())])
    head = [f"{letter}: {what}" for what in ("answers", "weight") for letter in OPTION_LETTERS]
    return _markdown(["target", *head], body)


def time_to_quality(study: Study) -> str:
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


def _aimed_difference(study: Study, part: str, value: str, rows: pd.DataFrame) -> float:
    """What theory expects of reweighted DPO less DPO by distance question by question, mean of targets and seeds."""
    found = []
    for target, seed in rows[["target", "seed"]].drop_duplicates().itertuples(index=False):
        distances = []
        for method in ("tier_dpo", "dpo"):
            world, how = varied(part, value, METHODS[method])
            drawn = draw_world(world, seed, study.settings.answers)
            questions = Questions(study.settings, drawn.questions, seed)
            distances.append(aim(how, drawn, target, questions.is_train, questions.test, seed).question_distance)
        found.append(distances[0] - distances[1])
    return float(np.mean(found))


def _less_weights_at_one(rows: pd.DataFrame, value: str, measure: str) -> Estimate:
    """DPO at one beta less reweighted DPO at 1: whether another beta does what weights do."""
    weighted = rows[(rows["value"] == "1") & (rows["method"] == "tier_dpo")]
    plain = rows[(rows["value"] == value) & (rows["method"] == "dpo")]
    return difference(pd.concat([weighted, plain]), "dpo", "tier_dpo", f"test/{measure}")


def _effective_share(rows: pd.DataFrame, method: str) -> str:
    share = rows[rows["method"] == method]["effective_share"].mean()
    return "" if pd.isna(share) else f"{share:.2f}"


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
