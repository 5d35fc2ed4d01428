"""Merges a new card with one that people may have edited: a three-way merge, whose bases are cards that were generated.

A card is a YAML header and sections, each from a heading of the second level to the next; the text before the first heading
is the introduction. A part that is as in a base is renewed, and everything else is taken for people's own words and stays.
"""

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

# A code block or a comment as a whole, in which no heading begins a section, or a heading.
_BLOCK_OR_HEADING = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^`\n]*\n(?:.*?\n)?? {0,3}(?P=fence)[`~]*[ \t]*$|<!--.*?-->|^## (?P<title>[^\n]*)",
    re.DOTALL | re.MULTILINE,
)
_NOTICE_BLOCK = re.compile(re.escape(NOTICE) + r"[ \t]*(?:\n>[^\n]*)*")
_LOAD_LINE = re.compile(r'load_dataset\("[^"/\s]+/[^"\s]+"')

# The same loader in C, where it was built in: a card's header has hundreds of lines.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_ABSENT = object()
"""For a value that is not there, where None is a value."""


class MergedCard(NamedTuple):
    """A merged card."""

    text: str
    edited: tuple[str, ...]
    """What people wrote and what stays, in words, such as `section 'Our study'`."""
    renewed: tuple[str, ...]
    """What people changed and what was renewed all the same."""


class _Card(NamedTuple):
    metadata: dict[str, Any]
    sections: dict[str, str]
    """Title to text, heading included; a title that occurs again gets a number, as in `Notes #2`."""


def merge_cards(new: str, existing: str, bases: Sequence[str] = (), *, where: str = "the card") -> MergedCard:
    """Renew an existing card, and keep what people wrote.

    A section of the existing card stays, in its place, unless it is as in a base. Metadata are merged alike: foreign keys,
    values that were edited, and entries that were added to a list or, by name, to `configs` and `dataset_info`, stay. The
    block quote of the introduction that says what is simulated, and our entries in `configs` and `dataset_info`, are
    renewed in any case. What people deleted comes back, and comments in the YAML header are lost.

    Merging the result again changes nothing.

    Args:
        new: The card to bring in: as generated, or with what people wrote into it where it comes from.
        existing: The card as it is.
        bases: Cards that were brought in before. Without any, all of `existing` counts as written by people.
        where: Place of the existing card, for error messages.

    Raises:
        ValueError: A YAML header cannot be read.
    """
    mine, theirs = _parse(new, "the new card"), _parse(existing, where)
    before = [_parse(base, "the card generated before") for base in bases]
    metadata, edited, renewed = _merge_metadata(mine.metadata, theirs.metadata, [card.metadata for card in before])
    sections = dict(mine.sections)
    for title, text in theirs.sections.items():
        own = mine.sections.get(title, "")
        generated = [_essence(card.sections[title]) for card in before if title in card.sections]
        if not text.strip() or _tidy(text) == _tidy(own) or _essence(text) in generated:
            continue
        sections[title] = text if title != INTRODUCTION else _with_notice(text, own)
        if _tidy(sections[title]) != _tidy(own):
            edited.append("the introduction" if title == INTRODUCTION else f"section {title!r}")
    notice = _notice(theirs)
    if notice and notice not in map(_notice, (mine, *before)):
        renewed.append("the notice on what is simulated")
    ordered = _in_order(sections, list(mine.sections), list(theirs.sections))
    if _is_alike(metadata, theirs.metadata) and [(title, _tidy(sections[title])) for title in ordered] == [
        (title, _tidy(text)) for title, text in theirs.sections.items()
    ]:
        return MergedCard(existing, tuple(edited), tuple(renewed))
    header = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    body = _body(sections[title] for title in ordered)
    return MergedCard(f"---\n{header}---\n\n{body}", tuple(edited), tuple(renewed))


def check_card(text: str, where: str) -> None:
    """Check that a card's YAML header can be read."""
    _parse(text, where)


def config_patterns(text: str) -> list[tuple[str, list[str]]]:
    """The configs of a card, and the patterns of their data files; empty for a config that has none of its own."""
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
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, dict) or not isinstance(entry.get("config_name", ""), str):
                raise ValueError(
                    f"{key} of a card must be a list of mappings with a config_name; got {entry!r} in {where}. Mend it."
                )
    return _Card(metadata, _sections(body))


def _sections(body: str) -> dict[str, str]:
    headings = [match for match in _BLOCK_OR_HEADING.finditer(body) if match["title"] is not None]
    ends = [*(match.start() for match in headings), len(body)]
    sections = {INTRODUCTION: body[: ends[0]]}
    for match, end in zip(headings, ends[1:], strict=True):
        name = match["title"].strip().rstrip("#").strip()
        occurrence, title = 1, name
        while title in sections:
            occurrence += 1
            title = f"{name} #{occurrence}"
        sections[title] = body[match.start() : end]
    return sections


def _tidy(text: str) -> str:
    """A text without blank lines around it and spaces at line ends, which editors change unasked."""
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def _essence(text: str) -> str:
    """A generated text whatever repo or folder its load lines name, which depends on where the card stands, and whatever
    notice is in it, which is renewed by itself.
    """
    return _tidy(_NOTICE_BLOCK.sub("", _LOAD_LINE.sub('load_dataset("', text)))


def _as_list(entries: Any) -> list[dict[str, Any]]:
    """One entry may stand without a list around it, and without a name, which is then `default`."""
    listed = entries if isinstance(entries, list) else [entries] if entries else []
    return [{"config_name": "default"} | entry for entry in listed]


# Sections


def _notice(card: _Card) -> str:
    block = _NOTICE_BLOCK.search(card.sections[INTRODUCTION])
    return _tidy(block[0]) if block else ""


def _with_notice(edited: str, new: str) -> str:
    """The edited introduction with the new one's notice."""
    notice, old = _NOTICE_BLOCK.search(new), _NOTICE_BLOCK.search(edited)
    if old or not notice:
        return edited.replace(old[0], notice[0]) if old and notice else edited
    heading, _, rest = edited.lstrip("\n").partition("\n")
    if heading.startswith("# "):
        return f"{heading}\n\n{notice[0]}\n\n{rest.lstrip(chr(10))}"
    return f"{notice[0]}\n\n{edited.lstrip(chr(10))}"


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
    new: Mapping[str, Any], old: Mapping[str, Any], bases: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[str], list[str]]:
    merged, edited, renewed = dict(new), list[str](), list[str]()
    for key, value in old.items():
        ours, before = new.get(key, _ABSENT), [base.get(key, _ABSENT) for base in bases]
        if key in _NAMED:
            generated = _as_list(new.get(key)) + [entry for base in bases for entry in _as_list(base.get(key))]
            names = {entry["config_name"] for entry in generated}
            foreign = [entry for entry in _as_list(value) if entry["config_name"] not in names]
            merged[key] = [*_as_list(new.get(key)), *foreign]
            edited += [f"{key} {entry['config_name']!r}" for entry in foreign]
            known = [_without_default(entry) for entry in generated]
            changed = [
                entry for entry in _as_list(value) if entry not in foreign and _without_default(entry) not in known
            ]
            renewed += [f"{key} {entry['config_name']!r}" for entry in changed]
            if not merged[key]:
                del merged[key]
        elif key == _COMPUTED:
            continue
        elif isinstance(ours, list):
            known = ours + [entry for base in before for entry in (base if isinstance(base, list) else [base])]
            # One entry may stand without a list around it.
            added = [entry for entry in (value if isinstance(value, list) else [value]) if entry not in known]
            merged[key] = [*ours, *added]
            edited += [f"{entry!r} in {key}" for entry in added]
        elif value != ours and value not in before:
            merged[key] = value
            edited.append(f"{key}: {value!r}" + ("" if ours is _ABSENT else f" (instead of {ours!r})"))
    _leave_one_default(merged, {config["config_name"] for config in _as_list(new.get("configs"))})
    return merged, edited, renewed


def _without_default(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry without `default`, which goes where another config is the default."""
    return {name: value for name, value in entry.items() if name != "default"}


def _leave_one_default(metadata: dict[str, Any], ours: set[str]) -> None:
    """Of two default configs, the one that people declared; `datasets` takes one that is called so for a default, too."""
    configs = _as_list(metadata.get("configs"))
    if sum(config.get("default") is True or config["config_name"] == "default" for config in configs) > 1:
        metadata["configs"] = [
            _without_default(config) if config["config_name"] in ours else config for config in configs
        ]


def _is_alike(first: Any, second: Any) -> bool:
    """Whether two metadata say the same; the order of keys and of list entries does not matter."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_is_alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(any(_is_alike(mine, other) for other in second) for mine in first)
    return bool(first == second)
