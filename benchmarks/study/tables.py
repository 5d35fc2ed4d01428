"""The tables of the page, as Markdown."""

from collections.abc import Callable, Sequence

import pandas as pd
from analysis import LESS_IS_BETTER, MEASURES, Estimate, Study, difference, level_of
from methods import LABELS

from fairpp_hf.naming import readable

NOT_RUN = "_Not run yet._"

DISTANCE, MARGIN = "test/question_distance", "test/question_margin"
SIDES = {"test": "seen topics and groups", "topic": "topic held out", "group": "groups held out"}


def facts(study: Study) -> str:
    """A line that says what results there are, and where and from which commits they come."""
    if study.rows.empty:
        return NOT_RUN
    commits = sorted({str(line["commit"])[:12] for line in study.lines})
    machines = sorted({line["machine"] for line in study.lines})
    seeds = ", ".join(map(str, sorted(study.rows["seed"].unique())))
    missing = len(study.settings.cells()) - len(study.rows)
    left = f" **{missing} cells are not run yet.**" if missing else ""
    return (
        f"{len(study.rows)} results; seeds {seeds}; {study.rows['target'].nunique()} targets; {'; '.join(machines)}; commit "
        f"{', '.join(commits)}.{left}"
    )


def levels(study: Study, rows: pd.DataFrame | None = None) -> str:
    """A table of methods and measures on held-out questions, nearest first, the constant before all."""
    rows = study.grid if rows is None else rows
    if rows.empty:
        return NOT_RUN
    columns = tuple(MEASURES)
    there = [method for method in LABELS if method in set(rows["method"])]
    order = sorted(there, key=lambda method: (method != "constant", level_of(rows, method, DISTANCE).mean))
    body = [
        [
            _name(method),
            *(str(level_of(rows, method, f"test/{name}")) for name in columns),
            "" if method in ("constant", "label_model") else str(level_of(rows, method, "ordinary_accuracy")),
        ]
        for method in order
    ]
    return markdown_table(["", *(MEASURES[name] for name in columns), "ordinary questions right"], body)


def main_comparison(study: Study, ours: str) -> str:
    """The comparison that was named beforehand: a method less each of four others, by distance question by question."""
    if study.grid.empty:
        return NOT_RUN
    body = []
    for other in ("constant", "dpo", "tier_dpo", "distil", "label_model"):
        found = difference(study.grid, ours, other, DISTANCE)
        interval = f" [{found.low:+.3f}, {found.high:+.3f}]" if found.seeds > 1 else ""
        body.append([LABELS[other], f"{found.mean:+.3f}{interval}", verdict(found, "question_distance")])
    return markdown_table([f"{LABELS[ours]} less", "distance, 95% interval", "nearer?"], body)


def verdict(found: Estimate, measure: str) -> str:
    """Whether a difference is for the better: yes, no (the opposite holds), or not shown; nothing of one seed."""
    if found.seeds < 2:
        return "one seed"
    low, high = (found.low, found.high) if measure not in LESS_IS_BETTER else (-found.high, -found.low)
    if low > 0:
        return "**yes**"
    return "**no, the opposite**" if high < 0 else "not shown"


def by_target(study: Study, methods: Sequence[str], column: str = DISTANCE, visits: int | None = None) -> str:
    """A table of the targets, means over seeds.

    Args:
        study: whose results.
        methods: the columns.
        column: what is shown.
        visits: of the methods that train; None for those of the grid.
    """
    rows = study.rows if visits is None else at_visits(study, visits)
    rows = study.grid if visits is None else rows
    if rows.empty:
        return NOT_RUN
    body = []
    for target, own in rows.groupby("target", sort=False):
        means = own.groupby("method")[column].mean()
        body.append([readable(str(target)), *(f"{means[name]:.3f}" if name in means else "" for name in methods)])
    return markdown_table(["target", *(LABELS[name] for name in methods)], body)


def at_visits(study: Study, visits: int) -> pd.DataFrame:
    """The rows of methods that trained with as many visits, and those of what does not train, without variants."""
    rows = study.rows[study.rows["part"].isin(("grid", "visits", "seeds"))]
    untrained = rows["method"].isin(("constant", "label_model", "plain", "role_play"))
    return rows[
        (rows["visits"] == visits) & (~untrained | (rows["part"] == "grid")) | (untrained & (rows["part"] == "grid"))
    ]


def visits(study: Study) -> str:
    """A table of methods by how many questions they visited: distance and margin."""
    return _varied(
        study, "visits", lambda value: at_visits(study, int(value)), [320, study.settings.budget.visits, 5120]
    )


def listwise_or_pairwise(study: Study) -> str:
    """A table of the listwise loss less the pairwise one, by how many questions were visited."""
    body = []
    for count in (320, study.settings.budget.visits, 5120):
        rows = at_visits(study, count) if not study.rows.empty else study.rows
        if not rows.empty and {"aim_0", "list_0"} <= set(rows["method"]):
            found = difference(rows.dropna(subset=[DISTANCE]), "list_0", "aim_0", DISTANCE)
            interval = f" [{found.low:+.3f}, {found.high:+.3f}]" if found.seeds > 1 else ""
            body.append([f"{count:,} visits", f"{found.mean:+.3f}{interval}", verdict(found, "question_distance")])
    return markdown_table(["listwise less pairwise, lambda 0", "distance, 95% interval", "nearer?"], body)


def flips(study: Study) -> str:
    """A table of methods by the share of answers that were flipped; the grid's results are those without."""
    part = study.part("flips")
    grid = study.grid[study.grid["target"].isin(part["target"].unique())] if not part.empty else part

    def rows(value: float) -> pd.DataFrame:
        return grid if not value else part[part["value"] == str(value)]

    return _varied(study, "flips", rows, [0, 0.15, 0.3])


def _varied(study: Study, part: str, rows: Callable[[float], pd.DataFrame], values: Sequence[float]) -> str:
    own = study.part(part)
    if own.empty:
        return NOT_RUN
    body = []
    for method in [name for name in LABELS if name in set(own["method"])]:
        numbers = [str(level_of(rows(value), method, column)) for column in (DISTANCE, MARGIN) for value in values]
        body.append([_name(method), *numbers])
    return markdown_table(["", *(f"{what}, {value:,}" for what in ("distance", "margin") for value in values)], body)


def held_out(study: Study, methods: Sequence[str]) -> str:
    """A table of distances on what was held out of training as a whole."""
    if study.grid.empty:
        return NOT_RUN
    body = [
        [_name(method), *(str(level_of(study.grid, method, f"{side}/question_distance")) for side in SIDES)]
        for method in methods
    ]
    return markdown_table(["distance", *SIDES.values()], body)


def visited(study: Study) -> str:
    """A table of the aim with a label model fitted to all training answers, and to those to the visited questions alone."""
    part = study.part("visited")
    if part.empty:
        return NOT_RUN
    targets = part["target"].unique()
    body = []
    for method in ("dpo", "list_0", "list_0_visited"):
        numbers = []
        for value in sorted(part["visits"].unique()):
            rows = part if method == "list_0_visited" else at_visits(study, int(value))
            own = rows[(rows["visits"] == value) & rows["target"].isin(targets)]
            numbers.append(str(level_of(own, method, DISTANCE)) if method in set(own["method"]) else "")
        body.append([_name(method), *numbers])
    return markdown_table(["distance", *(f"{value:,} visits" for value in sorted(part["visits"].unique()))], body)


def variants(study: Study) -> str:
    """A table of the exploratory variants beside the methods of the grid that they vary, on the same targets."""
    part = study.part("variants")
    if part.empty:
        return NOT_RUN
    grid = study.grid[study.grid["target"].isin(part["target"].unique())]
    return levels(
        study, pd.concat([grid[grid["method"].isin(("constant", "dpo", "soft_dpo", "aim_0", "list_0"))], part])
    )


def each_training(study: Study, methods: Sequence[str]) -> str:
    """A table of single trainings: distance question by question, by target and seed."""
    rows = study.rows.drop_duplicates(["target", "method", "seed"]) if not study.rows.empty else study.rows
    if rows.empty:
        return NOT_RUN
    body = []
    for (target, seed), own in rows.groupby(["target", "seed"], sort=False):
        found = own.set_index("method")[DISTANCE]
        body.append(
            [readable(str(target)), str(seed), *(f"{found[name]:.3f}" if name in found else "" for name in methods)]
        )
    return markdown_table(["target", "seed", *(LABELS[name] for name in methods)], body)


def _name(method: str) -> str:
    return f"**{LABELS[method]}**" if method in ("constant", "label_model") else LABELS[method]


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))
