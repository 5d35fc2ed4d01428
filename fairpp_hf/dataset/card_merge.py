"""Merges a card made anew with one that people may have edited: what they wrote is kept, what was generated is renewed.

A card is a YAML header and sections, each from a heading of the second level to the next; the text before the first heading
is the introduction. A history of all that was generated for a card, kept in the folder's manifest, tells a section that was
ever generated from one that somebody wrote or edited.
"""

import datetime
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

INTRODUCTION = ""
"""Title of what stands before the first heading."""

NOTICE = "<!-- fairpp:notice -->"
"""Stands above the block quote of the introduction that says what is simulated."""

_NAMED = ("configs", "dataset_info")
"""Metadata with an entry for each config: ours describe the data files, and are always as made from the data."""
_COMPUTED = "size_categories"

_BACKTICKS = re.compile(r" {0,3}(`{3,})[^`]*$")
_TILDES = re.compile(r" {0,3}(~{3,})")
_NOTICE_BLOCK = re.compile(re.escape(NOTICE) + r"[ \t]*(?:\n>[^\n]*)*")
_LOAD_LINE = re.compile(r'load_dataset\("[^"/\s]+/[^"\s]+"')

# The same loader in C, where it was built in: a card's header has hundreds of lines.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_ABSENT = object()
"""For a value that is not there, where None is a value."""


class MergedCard(NamedTuple):
    """A merged card."""

    text: str
    kept: tuple[str, ...]
    """What people wrote and what stays, in words, such as `section 'Our study'`."""
    renewed: tuple[str, ...]
    """What people changed and what was renewed all the same."""


class _Card(NamedTuple):
    metadata: dict[str, Any]
    sections: dict[str, str]
    """Title to text, heading included; a title that occurs again gets a number, as in `Notes #2`."""


def card_history(text: str, earlier: Mapping[str, Any] | None = None) -> dict[str, dict[str, list[Any]]]:
    """What was ever generated for a card: digests of sections, of its notice and of its configs' entries, and metadata.

    Args:
        text: of a generated card.
        earlier: the history up to it.

    Returns:
        JSON: part, then name, to all different values, the newest last.
    """
    card = _parse(text, "the generated card")
    now: dict[str, dict[str, Any]] = {
        "sections": {title: _generated_digest(text) for title, text in card.sections.items()},
        "notice": {INTRODUCTION: _digest(_notice(card.sections[INTRODUCTION]))},
        "metadata": {name: value for name, value in _plain(card.metadata).items() if name not in (*_NAMED, _COMPUTED)},
        **{key: _entry_digests(card.metadata.get(key)) for key in _NAMED},
    }
    return joined_histories(
        earlier or {}, {part: {name: [value] for name, value in all_.items()} for part, all_ in now.items()}
    )


def joined_histories(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """All that is in either of two histories."""
    joined: dict[str, dict[str, list[Any]]] = {}
    for history in (first, second):
        for part, names in history.items():
            for name, values in names.items():
                known = joined.setdefault(part, {}).setdefault(name, [])
                known += [value for value in values if value not in known]
    return joined


def card_contents(text: str, where: str = "the card") -> dict[str, dict[str, Any]]:
    """What a card says, as JSON: its metadata, and digests of its sections; for `merge_cards` as `sent`.

    Args:
        text: of the card.
        where: its place, for error messages.

    Raises:
        ValueError: the YAML header cannot be read.
    """
    card = _parse(text, where)
    return {
        "metadata": _plain(card.metadata),
        "sections": {title: _digest(text) for title, text in card.sections.items()},
    }


def merge_cards(
    new: str,
    existing: str,
    history: Mapping[str, Any],
    *,
    sent: Mapping[str, Any] | None = None,
    where: str = "the card",
) -> MergedCard:
    """Renew an existing card, and keep what people wrote.

    A section of the existing card is kept, in its place, if it was never generated; but for one that is still as it was sent
    there, and that people have written anew where the new card comes from. Metadata are kept alike: foreign keys, values
    that were edited, and entries that were added to a list or, by name, to `configs` and `dataset_info`. The block quote of
    the introduction that says what is simulated, and our entries in `configs` and `dataset_info`, are renewed in any case.
    What people deleted from either card comes back, and comments in the YAML header are lost.

    Merging the result again changes nothing; nor does merging a card that says all of this already, in whatever order and
    layout.

    Args:
        new: the card to bring in: as generated, or with what people wrote into it where it comes from.
        existing: the card as it is.
        history: `card_history` of both cards; empty where nothing is known, and then all of `existing` counts as written by
            people.
        sent: `card_contents` of the card that was last brought in from there; None where none was.
        where: place of the existing card, for error messages.

    Raises:
        ValueError: a YAML header cannot be read.
    """
    mine, theirs = _parse(new, "the new card"), _parse(existing, where)
    metadata, kept, renewed = _merge_metadata(mine.metadata, theirs.metadata, history, sent or {})
    sections = dict(mine.sections)
    generated, sent_sections = history.get("sections", {}), (sent or {}).get("sections", {})
    for title, text in theirs.sections.items():
        own, ever = mine.sections.get(title, ""), generated.get(title, [])
        is_anew = own.strip() and _generated_digest(own) not in ever and _digest(text) == sent_sections.get(title)
        if not text.strip() or _digest(text) == _digest(own) or _generated_digest(text) in ever or is_anew:
            continue
        sections[title] = text if title != INTRODUCTION else _with_notice(text, own)
        if _digest(sections[title]) != _digest(own):
            kept.append("the introduction" if title == INTRODUCTION else f"section {title!r}")
    if _is_edited(_notice(theirs.sections[INTRODUCTION]), _notice(mine.sections[INTRODUCTION]), history):
        renewed.append("the notice on what is simulated")
    ordered = _in_order(sections, list(mine.sections), list(theirs.sections))
    if _is_alike(metadata, theirs.metadata) and [(title, _digest(sections[title])) for title in ordered] == [
        (title, _digest(text)) for title, text in theirs.sections.items()
    ]:
        return MergedCard(existing, tuple(kept), tuple(renewed))
    header = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    body = _body(sections[title] for title in ordered)
    return MergedCard(f"---\n{header}---\n\n{body}", tuple(kept), tuple(renewed))


def config_patterns(text: str) -> list[tuple[str, list[str]]]:
    """The configs of a card, and the patterns of their data files; empty for a config that has none of its own.

    Args:
        text: of a card whose YAML header can be read.
    """
    configs = _as_list(_parse(text, "the card").metadata.get("configs"))
    return [(str(config["config_name"]), list(_patterns(config.get("data_files")))) for config in configs]


def _patterns(files: Any) -> Iterator[str]:
    """The texts in `data_files`: a pattern, a list of them, a mapping by split, or a list of splits with their paths."""
    if isinstance(files, str):
        yield files
    elif isinstance(files, Mapping):
        for key, value in files.items():
            if key != "split":
                yield from _patterns(value)
    elif isinstance(files, list):
        for value in files:
            yield from _patterns(value)


# Reading


def _parse(text: str, where: str) -> _Card:
    # An editor in a browser may end lines with CRLF, and put a byte order mark first.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    header, body = "", text
    if match := re.match(r"\s*---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", text, flags=re.DOTALL | re.MULTILINE):
        header, body = match[1], text[match.end() :]
    rule = "The YAML header of a card must be"
    try:
        metadata = yaml.load(header, Loader=_YamlLoader) or {}
    except (yaml.YAMLError, ValueError) as error:  # such as a thirteenth month
        problem = " ".join(str(error).split())
        raise ValueError(f"{rule} valid; got an error in {where}: {problem}. Mend it there.") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{rule} a mapping; got {type(metadata).__name__} in {where}. Mend it there.")
    for key in _NAMED:
        entries = metadata.get(key) or []
        if not all(
            isinstance(entry, dict) and isinstance(entry.get("config_name", ""), str)
            for entry in (entries if isinstance(entries, list) else [entries])
        ):
            raise ValueError(
                f"{key} of a card must be a list of mappings with a config_name; got {entries!r} in {where}. Mend it there."
            )
    return _Card(metadata, _sections(body))


def _sections(body: str) -> dict[str, str]:
    sections = {INTRODUCTION: ""}
    title = INTRODUCTION
    # Not splitlines, which takes more characters for the end of a line than Markdown does.
    lines = re.findall(r"[^\n]*\n|[^\n]+\Z", body)
    end = -1
    for number, line in enumerate(lines):
        if number > end:
            end = _block_end(lines, number)
            if end == number and line.startswith("## "):
                title = name = line[3:].strip().rstrip("#").strip()
                occurrence = 2
                while title in sections:
                    title = f"{name} #{occurrence}"
                    occurrence += 1
                sections[title] = ""
        sections[title] += line
    return sections


def _block_end(lines: Sequence[str], start: int) -> int:
    """Number of the last line of the code block or comment that begins at a line; of the line itself if none does.

    What begins and never ends is taken for text, so that a slip does not swallow the rest of the card.
    """
    line = lines[start]
    if fence := _BACKTICKS.match(line) or _TILDES.match(line):
        closing = re.compile(rf" {{0,3}}{re.escape(fence[1][0])}{{{len(fence[1])},}}[ \t]*$")
        return next((end for end in range(start + 1, len(lines)) if closing.match(lines[end])), start)
    if "<!--" in line and "-->" not in line.rpartition("<!--")[2]:
        return next((end for end in range(start + 1, len(lines)) if "-->" in lines[end]), start)
    return start


def _digest(text: str) -> str:
    """Of the text without blank lines around it and spaces at line ends, which editors change unasked."""
    lines = "\n".join(line.rstrip() for line in text.strip().split("\n"))
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


def _generated_digest(text: str) -> str:
    """Of a text as it was generated, whatever repo or folder its load lines name, which depends on where the card stands,
    and whatever notice is in it, which is renewed by itself.
    """
    return _digest(_NOTICE_BLOCK.sub("", _LOAD_LINE.sub('load_dataset("', text)))


def _entry_digests(entries: Any) -> dict[str, str]:
    """Digests by `config_name`, without `default`, which goes where another config is the default."""
    return {
        entry["config_name"]: _digest(repr(sorted(item for item in _plain(entry).items() if item[0] != "default")))
        for entry in _as_list(entries)
    }


def _plain(value: Any) -> Any:
    """Metadata as JSON has them, so that a date is the same here and in a manifest."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _as_list(entries: Any) -> list[dict[str, Any]]:
    """One entry may stand without a list around it, and without a name, which is then `default`."""
    listed = entries if isinstance(entries, list) else [entries] if entries else []
    return [{"config_name": "default"} | entry for entry in listed]


# Sections


def _notice(introduction: str) -> str:
    block = _NOTICE_BLOCK.search(introduction)
    return block[0] if block else ""


def _is_edited(notice: str, new: str, history: Mapping[str, Any]) -> bool:
    """Whether there is a notice, and one that was never generated."""
    return bool(notice) and _digest(notice) not in (_digest(new), *history.get("notice", {}).get(INTRODUCTION, []))


def _with_notice(edited: str, new: str) -> str:
    """The edited introduction with the new one's notice."""
    notice, old = _notice(new), _notice(edited)
    if old or not notice:
        return edited.replace(old, notice) if old else edited
    heading, _, rest = edited.lstrip("\n").partition("\n")
    if heading.startswith("# "):
        return f"{heading}\n\n{notice}\n\n{rest.lstrip(chr(10))}"
    return f"{notice}\n\n{edited.lstrip(chr(10))}"


def _in_order(sections: Mapping[str, str], new: list[str], old: list[str]) -> list[str]:
    """Titles in the order of the new card; a foreign one behind that which it stood behind."""
    ordered = [title for title in new if title in sections]
    for place, title in enumerate(old):
        if title in sections and title not in ordered:
            before = next((other for other in reversed(old[:place]) if other in ordered), INTRODUCTION)
            ordered.insert(ordered.index(before) + 1, title)
    return ordered


def _body(sections: Iterable[str]) -> str:
    """Sections one after the other, with at least one blank line between them."""
    body = ""
    for text in sections:
        if body and not body.endswith("\n\n"):
            body = f"{body.rstrip()}\n\n"
        body += text.lstrip("\n")
    return f"{body.rstrip()}\n"


# Metadata


def _merge_metadata(
    new: Mapping[str, Any], old: Mapping[str, Any], history: Mapping[str, Any], sent: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str], list[str]]:
    merged, kept, renewed = dict(new), list[str](), list[str]()
    generated, brought = history.get("metadata", {}), sent.get("metadata", {})
    for key, value in old.items():
        name, ours = str(key), new.get(key, _ABSENT)
        if key in _NAMED:
            merged[key], foreign, edited = _merge_by_name(new.get(key), value, history.get(key, {}))
            kept += [f"{key} {entry!r}" for entry in foreign]
            renewed += [f"{key} {entry!r}" for entry in edited]
            if not merged[key]:
                del merged[key]
        elif key == _COMPUTED:
            continue
        elif isinstance(ours, list):
            known = [_plain(entry) for entry in ours]
            for earlier in generated.get(name, []):
                known += earlier if isinstance(earlier, list) else [earlier]
            # One entry may stand without a list around it.
            added = [entry for entry in (value if isinstance(value, list) else [value]) if _plain(entry) not in known]
            merged[key] = [*ours, *added]
            kept += [f"{_plain(entry)!r} in {key}" for entry in added]
        else:
            own, there, ever = (ours if ours is _ABSENT else _plain(ours)), _plain(value), generated.get(name, [])
            is_anew = own is not _ABSENT and own not in ever and there == brought.get(name, _ABSENT)
            if there != own and there not in ever and not is_anew:
                merged[key] = value
                kept.append(f"{key}: {there!r}" + ("" if own is _ABSENT else f" (instead of {own!r})"))
    _leave_one_default(merged, {config["config_name"] for config in _as_list(new.get("configs"))})
    return merged, kept, renewed


def _merge_by_name(
    new: Any, old: Any, generated: Mapping[str, list[str]]
) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Entries by `config_name`: ours, then those that were never generated; with the names of these, and of edited ones."""
    ours, theirs = _as_list(new), _as_list(old)
    names = {entry["config_name"] for entry in ours} | set(generated)
    foreign = [entry for entry in theirs if entry["config_name"] not in names]
    now = _entry_digests(new)
    edited = [
        name
        for name, digest in _entry_digests([entry for entry in theirs if entry["config_name"] in generated]).items()
        if digest not in (now.get(name), *generated[name])
    ]
    return [*ours, *foreign], [entry["config_name"] for entry in foreign], edited


def _leave_one_default(metadata: dict[str, Any], ours: set[str]) -> None:
    """Of two default configs, the one that people declared; `datasets` takes one that is called so for a default, too."""
    configs = _as_list(metadata.get("configs"))
    if sum(config.get("default") is True or config["config_name"] == "default" for config in configs) > 1:
        metadata["configs"] = [
            {name: value for name, value in config.items() if name != "default"}
            if config["config_name"] in ours
            else config
            for config in configs
        ]


def _is_alike(first: Any, second: Any) -> bool:
    """Whether two metadata say the same; the order of keys and of list entries does not matter."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_is_alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(any(_is_alike(mine, other) for other in second) for mine in first)
    return bool(first == second)
