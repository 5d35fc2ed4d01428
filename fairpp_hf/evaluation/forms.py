"""JSON from typed values and back: the annotations of a class say what is written, read and refused.

results.json and positions.json come from anywhere: a page is drawn of what has their form, or not at all.
"""

import json
import math
import types
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from fairpp_hf.statistics.bootstrap import Interval

_WORDS = {str: "a text", int: "a whole number", float: "a number"}
_hints = cache(get_type_hints)


def to_json(value: Any) -> Any:
    """Named tuples as objects, with `interval_95` for `interval`; intervals as lists, null for NaN."""
    if isinstance(value, Interval):
        return [to_json(bound) for bound in value]
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {_key(name): to_json(each) for name, each in value._asdict().items()}
    if isinstance(value, dict):
        return {name: to_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def json_text(value: Any) -> str:
    """The text of a file of `to_json`."""
    return json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(value: Any, form: Any, where: str = "", or_null: str = "") -> Any:
    """A value of a JSON file as one of a type.

    Args:
        value: Value from the file.
        form: A type annotation of texts, numbers, `Any`, `None`, literals, lists, tuples (lists of that length), mappings,
            named tuples and typed dictionaries (a missing key counts as null, further keys are free). Of
            `Annotated[dict, forms]`, the forms of some keys, and under `str` that of all others, which are free without it.
        where: Place of the value.
        or_null: Said where null would do as well.

    Raises:
        ValueError: The value, or something in it, has another form; the message says what, and begins with its place.
    """
    origin, args = get_origin(form), get_args(form)
    within = f" of {where}" if where else ""
    if form is Any:
        return value
    if origin is types.UnionType:
        (form,) = (each for each in args if each is not types.NoneType)
        return None if value is None else from_json(value, form, where, " or null")
    if origin is Literal:
        if value not in args:
            raise _misfit(where, f"one of {', '.join(map(repr, sorted(args)))}", value)
        return value
    if origin is None and form in _WORDS:
        if not isinstance(value, int | float if form is float else form) or isinstance(value, bool):
            raise _misfit(where, _WORDS[form] + or_null, value)
        return value
    if form is Interval:
        return Interval(*from_json(value, tuple[float | None, float | None], where))
    if origin in (list, tuple):
        if not isinstance(value, list) or (origin is tuple and len(value) != len(args)):
            raise _misfit(where, "a list" if origin is list else f"a list of {len(args)}", value)
        forms = args if origin is tuple else args * len(value)
        return [from_json(item, forms[row], f"item {row + 1}{within}") for row, item in enumerate(value)]
    if not isinstance(value, dict):
        raise _misfit(where, "an object", value)
    if origin in (dict, Annotated):
        by_key = form.__metadata__[0] if origin is Annotated else {str: args[1]}
        for name, form_of_item in by_key.items():
            if name is not str and name not in value:
                from_json(None, form_of_item, f"{name!r}{within}")
        of_others = by_key.get(str, Any)
        return {name: from_json(item, by_key.get(name, of_others), f"{name!r}{within}") for name, item in value.items()}
    found = {
        name: from_json(value.get(_key(name)), hint, f"{_key(name)!r}{within}")
        for name, hint in _hints(form, include_extras=True).items()
    }
    return form(**found) if issubclass(form, tuple) else {**value, **found}


def _key(name: str) -> str:
    return "interval_95" if name == "interval" else name


def _misfit(where: str, rule: str, value: Any) -> ValueError:
    shown = repr(value)
    return ValueError(f"{where or 'The file'} must be {rule}; got {shown if len(shown) <= 60 else shown[:60] + '...'}")
