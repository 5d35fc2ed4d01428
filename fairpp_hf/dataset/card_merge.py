"""Merges a card made anew with one that people may have edited: what they wrote is kept, what was generated is renewed.

A card is a YAML header and sections, each from a heading of the second level to the next; the text before the first heading
is the introduction. A record of the generated card, kept in the folder's manifest, tells a section that is as it was
written from one that somebody has edited since.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml

INTRODUCTION = ""
"""Title of what stands before the first heading."""

_COMPUTED = ("configs", "dataset_info", "size_categories")
"""Metadata that describe the data files: never taken over from an edited card, or they would be wrong."""

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_NOTICE = re.compile(r"^>[^\n]*(?:\n>[^\n]*)*", re.MULTILINE)
"""The block quote at the top, which says what is simulated."""


class MergedCard(NamedTuple):
    """A merged card and what is in it that was not generated."""

    text: str
    kept: tuple[str, ...]
    """Sections and metadata that people wrote, in words, such as `section 'Our study'`."""


class _Card(NamedTuple):
    metadata: dict[str, Any]
    sections: dict[str, str]
    """Title to text, heading included; a title that occurs again gets a number, as in `Notes #2`."""


def card_record(text: str) -> dict[str, Any]:
    """What a generated card was like: its metadata, and a digest of each section. JSON, for the folder's manifest.

    Raises:
        ValueError: the YAML header cannot be read.
    """
    card = _parse(text, "the generated card")
    return {"metadata": card.metadata, "sections": {title: _digest(text) for title, text in card.sections.items()}}


def merge_cards(generated: str, existing: str, record: Mapping[str, Any] | None, where: str = "the card") -> MergedCard:
    """Renew an existing card, and keep what people wrote.

    A section of the existing card is kept in its place if nothing generated bears its title, or if it differs from what was
    generated under it before. The block quote of the introduction, which says what is simulated, is renewed in any case.
    Metadata are kept alike: foreign keys, values that were edited, and entries that were added to a list or, by name, to
    `configs` and `dataset_info`. What was deleted from a generated card comes back.

    Merging the result again, with the record of the same generated card, changes nothing; nor does merging a card that says
    all of this already, in whatever order and layout.

    Args:
        generated: the card as made from the data.
        existing: the card as it is.
        record: `card_record` of the generated card that `existing` began as; None where it is not known, and then all of
            `existing` counts as written by people.
        where: place of the existing card, for error messages.

    Raises:
        ValueError: a YAML header cannot be read.
    """
    new, old = _parse(generated, "the generated card"), _parse(existing, where)
    before: Mapping[str, Any] = record or {"metadata": {}, "sections": {}}
    metadata, kept = _merge_metadata(new.metadata, old.metadata, before["metadata"])
    sections = dict(new.sections)
    written = [
        title
        for title, text in old.sections.items()
        if text.strip() and _digest(text) not in (before["sections"].get(title), _digest(new.sections.get(title, "")))
    ]
    for title in written:
        text = old.sections[title]
        if title == INTRODUCTION:
            text = _with_notice(text, new.sections[INTRODUCTION])
            if _digest(text) == _digest(new.sections[INTRODUCTION]):
                continue
        sections[title] = text
        kept.append("the introduction" if title == INTRODUCTION else f"section {title!r}")
    ordered = _in_order(sections, list(new.sections), list(old.sections))
    if _is_alike(metadata, old.metadata) and [(title, _digest(sections[title])) for title in ordered] == [
        (title, _digest(text)) for title, text in old.sections.items()
    ]:
        return MergedCard(existing, tuple(kept))
    header = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    return MergedCard(f"---\n{header}---\n\n{_body(sections[title] for title in ordered)}", tuple(kept))


def _body(sections: Iterable[str]) -> str:
    """Sections one after the other, with at least one blank line between them."""
    body = ""
    for text in sections:
        if body and not body.endswith("\n\n"):
            body = f"{body.rstrip()}\n\n"
        body += text.lstrip("\n")
    return f"{body.rstrip()}\n"


def _parse(text: str, where: str) -> _Card:
    # An editor in a browser may end lines with CRLF, and put a byte order mark first.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    header, body = "", text
    if match := re.match(r"---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", text, flags=re.DOTALL | re.MULTILINE):
        header, body = match[1], text[match.end() :]
    try:
        metadata = yaml.safe_load(header) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"The YAML header of a card must be valid; got {error} in {where}. Mend it there.") from error
    if not isinstance(metadata, dict):
        raise ValueError(
            f"The YAML header of a card must be a mapping; got {type(metadata).__name__} in {where}. Mend it there."
        )
    return _Card(metadata, _sections(body))


def _sections(body: str) -> dict[str, str]:
    sections = {INTRODUCTION: ""}
    title, fence = INTRODUCTION, ""
    for line in body.splitlines(keepends=True):
        marker = _FENCE.match(line)
        if marker and not fence:
            fence = marker[1]
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif not fence and line.startswith("## "):
            title = name = line[3:].strip()
            number = 2
            while title in sections:
                title = f"{name} #{number}"
                number += 1
            sections[title] = ""
        sections[title] += line
    return sections


def _digest(text: str) -> str:
    """Of the text without blank lines around it and spaces at line ends, which editors change unasked."""
    return hashlib.sha256("\n".join(line.rstrip() for line in text.strip().splitlines()).encode()).hexdigest()


def _with_notice(edited: str, generated: str) -> str:
    """The edited introduction with the block quote of the generated one."""
    notice = _NOTICE.search(generated)
    if notice is None:
        return edited
    if _NOTICE.search(edited):
        return _NOTICE.sub(lambda _: notice[0], edited, count=1)
    heading, line_end, rest = edited.lstrip("\n").partition("\n")
    if heading.startswith("# "):
        return f"{heading}{line_end or chr(10)}\n{notice[0]}\n\n{rest.lstrip(chr(10))}"
    return f"{notice[0]}\n\n{edited.lstrip(chr(10))}"


def _in_order(sections: Mapping[str, str], new: list[str], old: list[str]) -> list[str]:
    """Titles in the order of the generated card; a foreign one behind that which it stood behind."""
    ordered = [title for title in new if title in sections]
    for place, title in enumerate(old):
        if title in sections and title not in ordered:
            before = next((other for other in reversed(old[:place]) if other in ordered), INTRODUCTION)
            ordered.insert(ordered.index(before) + 1, title)
    return ordered


def _merge_metadata(
    new: Mapping[str, Any], old: Mapping[str, Any], before: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    merged, kept = dict(new), []
    for key, value in old.items():
        if key in ("configs", "dataset_info"):
            merged[key], foreign = _merge_by_name(new.get(key), value, before.get(key))
            kept += [f"{key} {name!r}" for name in foreign]
            if not merged[key]:
                del merged[key]
        elif key in _COMPUTED or value in (before.get(key), new.get(key)):
            continue
        elif isinstance(value, list) and isinstance(new.get(key), list):
            earlier = before.get(key) or []
            added = [entry for entry in value if entry not in new[key] and entry not in earlier]
            merged[key] = [*new[key], *added]
            kept += [f"{entry!r} in {key}" for entry in added]
        else:
            merged[key] = value
            instead = f" (made from the data: {new[key]!r})" if key in new else ""
            kept.append(f"{key}: {value!r}{instead}")
    configs = merged.get("configs", [])
    if sum(bool(config.get("default")) for config in configs) > 1:
        # Only one may be the default: that of the people who declared it.
        ours = {config["config_name"] for config in new.get("configs", [])}
        merged["configs"] = [
            {name: value for name, value in config.items() if name != "default"}
            if config["config_name"] in ours
            else config
            for config in configs
        ]
    return merged, kept


def _merge_by_name(new: Any, old: Any, before: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Entries that are told apart by `config_name`: ours, then those which were not ours before either."""
    ours, theirs, earlier = (_as_list(entries) for entries in (new, old, before))
    names = {entry.get("config_name") for entry in (*ours, *earlier)}
    foreign = [entry for entry in theirs if entry.get("config_name") not in names]
    return [*ours, *foreign], [str(entry.get("config_name")) for entry in foreign]


def _is_alike(first: Any, second: Any) -> bool:
    """Whether two metadata say the same; the order of keys and of list entries does not matter."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_is_alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(any(_is_alike(mine, other) for other in second) for mine in first)
    return first == second


def _as_list(entries: Any) -> list[dict[str, Any]]:
    """One entry may stand without a list around it, and without a name, which is then `default`."""
    listed = entries if isinstance(entries, list) else [entries] if entries else []
    return [{"config_name": "default"} | entry for entry in listed]
