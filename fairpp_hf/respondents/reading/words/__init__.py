"""The phrases by which replies announce a choice, in the languages that models answer in.

They are data: `english.yaml`, `european.yaml` and `world.yaml` hold a table a language, with a row for each role below. No
phrase stands for an option, not even "neither" for the third: an option is chosen by its letter or by its text, so that
every letter is read by the same rules.

These are closed lists on purpose: a phrase that is not there announces nothing, so that "the worst option", "most
people's choice" and "I refuse to pick" need no rules of their own. A reply in any of the languages is read with the
phrases of all of them.

Phrases are divided by ` | ` or by a line break; a line that is indented further goes on with the phrase before it. A
phrase is a regular expression in which

- `@` is the letter of an option, and `…` a few words within a clause,
- `'` stands for any apostrophe, or for none: "I'd", "id",
- `(a|b)` groups without capturing,
- `{name}` is any phrase of the row `name` of the same language.

A phrase of one letter, such as "a", is meant in lower case: "A" may be an option. As an article that begins a sentence
(`which`) it stands for any letter in upper case, since no rule may know which letter it reads.

The roles:

| role | where it stands | example |
|---|---|---|
| `answer` | what a choice is called, before a colon or a copula | **answer**: B |
| `option` | what a single option is called, right before its letter | the answer is **option** B |
| `which` | before an `answer` | **my final** answer |
| `of_answer` | after an `answer` | the answer **to this question** is B |
| `is` | between an `answer` and the letter | the answer **would be** B |
| `choose`, `persona_chooses` | whoever chooses, and the verb, before the letter | **I would go with** B |
| `choose_after` | the same, after the letter | B**を選びます** |
| `choose_around` | a verb at the end of the clause that a `choose` begins | Ich würde B **wählen** |
| `nearest` | what is nearest to the respondent, before the letter | **closest to my view** is B |
| `it_is` | before a letter that is a clause of its own | ..., **so it's** B |
| `lead` | before any of these, within the clause | **in short,** my answer is B |
| `whereas` | the same in words that are not known, up to a comma | **given who I am,** I choose B |
| `opening` | before a letter that opens the reply | **Got it.** B |
| `i` | says that the respondent speaks for itself | **I** choose B |
| `or` | between letters that are chosen from | A **or** B |
| `column` | heads of a table's other columns | Answer **Reason** |
| `emphatic` | after a letter that is a sentence of its own | B, **any day** |
| `because` | after a letter that was announced, without a mark between; never after an article | I pick B **because** ... |
| `chosen` | a predicate that says of an option that it is chosen | B **is my pick** |
| `praised` | one that says so if no other option is spoken of | B **reflects my view** |
| `tentative` | says of a clause that its choice is not the last word | **at first** I chose B |
| `if`, `even_if` | ... is for another case; is for any case | **if** I were rich, B |
| `if_forced` | a condition that is no other case; ` _ ` is the letter | **if I must choose**, B |
| `not`, `but` | turn a clause or a sentence round | I do **not** choose B |
| `said` | before or after a choice that is quoted | my boss **said**: B |
| `retract`, `correct` | between two choices, of which the later one then counts | B. **Wait**, C. |
| `take_back` | after a choice: none is left | B. But **I can't decide** |
| `decline`, `disclaim` | a respondent who will not answer, or says that it has no answer to give | **I cannot choose** |
| `not_but` | before the letter that is chosen | the answer is **not B but** C |
| `contrast` | after a letter that opens the reply, before others | B **rather than** C |
| `affirm` | after a letter that was asked about | B? **Yes** |
| `picking` | a choice without its "I", before a letter that ends its clause | **going with** B |
| `lowercase_because` | a `because` that may follow "option b" | option b **because** ... |
| `thinks` | begins a reply that was cut off: a thought, not an answer | **Okay, so** I choose B |
| `example` | says of a sentence that it shows how an answer could look | **format**: B |
"""

import re
import unicodedata
from functools import cache
from importlib.resources import files

JOINS = r"0-9A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u052f"
"""Characters that make one word with a Latin letter beside them; scripts that put no blanks between words have none."""

_TABLES = ("english", "european", "world")
_WITHOUT_BLANKS = ("Chinese", "Japanese", "Korean", "Thai, Lao, Khmer, Burmese, Mongolian")
_SIGNS = {"@": r"(?-i:[A-Z])\ue200?", "…": r"(?:[^.,:!?;\n]{1,60}?)", "'": "['’]?"}


@cache
def _languages() -> dict[str, dict[str, str]]:
    """Each language's rows, by role, as alternations."""
    import yaml

    languages: dict[str, dict[str, str]] = {}
    for table in _TABLES:
        languages |= yaml.safe_load(files(__name__).joinpath(f"{table}.yaml").read_text(encoding="utf-8"))
    return {language: _alternations(rows) for language, rows in languages.items()}


def _phrases(row: str) -> list[str]:
    return re.split(r"\s+\|\s+|\n", re.sub(r"\n  ", "", row).strip())


def _alternations(rows: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}

    def alternation(role: str) -> str:
        if role not in found:
            patterns = (pattern(phrase, role) for phrase in _phrases(rows[role]))
            found[role] = f"(?:{'|'.join(patterns)})"
        return found[role]

    def pattern(phrase: str, role: str) -> str:
        phrase = re.sub(r"(?<!\\)\((?!\?)", "(?:", phrase.strip())
        phrase = re.sub("|".join(_SIGNS), lambda sign: _SIGNS[sign.group()], phrase)
        phrase = re.sub(r"\{([a-z_]+)\}", lambda name: alternation(name[1]), phrase)
        if not re.fullmatch("[a-z]", phrase):
            return phrase
        begins = "|(?<=^)(?-i:[A-Z])|(?<=^ )(?-i:[A-Z])" if role == "which" else ""
        return f"(?:(?-i:{phrase}){begins})"

    return {role: alternation(role) for role in rows}


@cache
def phrases(role: str) -> str:
    """A regular expression for any phrase of a role, for use where something else says what stands beside it."""
    return _unified("(?:" + "|".join(rows[role] for rows in _languages().values() if role in rows) + ")")


@cache
def whole(role: str) -> str:
    """The same for whole words, where the language has blanks between words."""
    divided, others = _by_blanks(role)
    return _unified(rf"(?:(?:{'|'.join(divided)})(?![{JOINS}])|{'|'.join(others)})")


@cache
def anywhere(role: str) -> re.Pattern[str]:
    """A pattern that finds any phrase of a role: as whole words, where the language has blanks between words."""
    divided, others = _by_blanks(role)
    words = rf"(?<!\w)(?:{'|'.join(divided)})(?!\w)"
    return re.compile(_unified("|".join([words, *others])), re.IGNORECASE)


def _by_blanks(role: str) -> tuple[list[str], list[str]]:
    """A role's rows of languages with blanks between words, and of those without."""
    rows = {name: language[role] for name, language in _languages().items() if role in language}
    divided = [row for name, row in rows.items() if name not in _WITHOUT_BLANKS]
    return divided, [row for name, row in rows.items() if name in _WITHOUT_BLANKS]


def _unified(pattern: str) -> str:
    """In the form of Unicode that replies have when they are compared with it."""
    return unicodedata.normalize("NFKC", pattern)
