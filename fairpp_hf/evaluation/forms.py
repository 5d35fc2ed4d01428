"""The form of results.json and positions.json, which come from anywhere: a page is drawn of what has it, or not at all."""

from typing import Any

NUMBER = int | float
NUMBER_OR_NONE = int | float | None
TEXT_OR_NONE = str | None
_WORDS = {str: "a text", int: "a whole number", NUMBER: "a number", NUMBER_OR_NONE: "a number or null"}

NAMES = ("nearest_other", "worst_group_name/target")
"""Metrics that are names."""
_METRICS: dict[Any, Any] = {str: NUMBER_OR_NONE, **dict.fromkeys(NAMES, TEXT_OR_NONE)}
_INTERVAL = [NUMBER_OR_NONE, NUMBER_OR_NONE]
_PLACE = {"xy": [NUMBER, NUMBER], "ellipse_95": (None, [[NUMBER, NUMBER], ...])}
_MAP = {
    "explained_variance": (None, [NUMBER, NUMBER]),
    "spread": (None, [NUMBER, NUMBER]),
    "axes": (None, [TEXT_OR_NONE, ...]),
}

RESULTS_FORM: dict[str, Any] = {
    **dict.fromkeys(("version", "target", "reference", "division"), str),
    "personas": [str, ...],
    "names": {str: str},
    "shares": {str: NUMBER_OR_NONE},
    "kind": {"questions", "scenarios"},
    "compared_with": {"probabilities", "answers"},
    "sha256": {"questions.parquet": str, "scores.parquet": str},
    "systems": {
        str: {
            "facts": {"kind": str},
            "probabilities": _METRICS,
            "intervals_95": {str: _INTERVAL},
            "position_bias": (None, {"gap": NUMBER, "interval_95": (None, _INTERVAL), "same_choice": NUMBER_OR_NONE}),
            "length_gap": (None, {"gap": NUMBER, "interval_95": (None, _INTERVAL)}),
        }
    },
    "comparisons": [
        {
            **dict.fromkeys(("first", "second", "metric"), str),
            **dict.fromkeys(("difference", "p_value"), NUMBER_OR_NONE),
            "interval_95": _INTERVAL,
        },
        ...,
    ],
}
POSITIONS_FORM: dict[str, Any] = {
    **dict.fromkeys(("division", "reference"), str),
    "questions": int,
    "methods": {str: (None, _MAP)},
    "points": [
        {
            "name": str,
            "kind": {"persona", "majority", "baseline", "model"},
            **dict.fromkeys(("region", "before"), TEXT_OR_NONE),
            **dict.fromkeys(("pca", "ideal_point"), (None, _PLACE)),
        },
        ...,
    ],
}


def misfit(value: Any, form: Any, where: str = "") -> str | None:
    """What is the first thing in a value that has another form, in words; None if all has it.

    Args:
        value: Value from a JSON file.
        form: A type or union; a set of allowed texts; a list of as many forms, or of one for any number of items, with an
            ellipsis; a mapping of keys to forms, others being free, and of `str` to one form for any other key; or None and
            another form, either of which will do. A key that is missing counts as null.
        where: Place of the value.
    """
    if isinstance(form, tuple):
        return None if value is None else misfit(value, form[1], where)
    within = f" of {where}" if where else ""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return _said(where, "an object", value)
        parts = [
            (value.get(name), of_key, f"{name!r}{within}")
            for key, of_key in form.items()
            for name in ([name for name in value if name not in form] if key is str else [key])
        ]
    elif isinstance(form, list):
        if not isinstance(value, list) or (form[-1] is not ... and len(value) != len(form)):
            return _said(where, "a list" if form[-1] is ... else f"a list of {len(form)}", value)
        forms = form[:1] * len(value) if form[-1] is ... else form
        parts = [
            (item, of_item, f"item {row}{within}")
            for row, (item, of_item) in enumerate(zip(value, forms, strict=True), 1)
        ]
    elif isinstance(form, set):
        return None if value in map(str, form) else _said(where, f"one of {', '.join(map(repr, sorted(form)))}", value)
    else:
        return None if isinstance(value, form) else _said(where, _WORDS.get(form, "a text or null"), value)
    return next((found for part in parts if (found := misfit(*part)) is not None), None)


def _said(where: str, rule: str, value: Any) -> str:
    shown = repr(value)
    return f"{where or 'The file'} must be {rule}; got {shown if len(shown) <= 60 else shown[:60] + '...'}"
