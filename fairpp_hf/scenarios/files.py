"""The files of a run's scenarios: stories as the storyteller's run has them, checked, and the table of those that passed."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fairpp_hf.runs.database import FIELDS
from fairpp_hf.runs.journal import Journal, text_of
from fairpp_hf.runs.layout import JOURNAL, MANIFEST, SCENARIO_TABLE, scenarios_folder, write_whole
from fairpp_hf.runs.records import questions_of
from fairpp_hf.scenarios.stories import Names, Story, StoryProblem, check_story, scenario_row
from fairpp_hf.schema import QUESTION_FEATURES

logger = logging.getLogger(__name__)

SET_ASIDE = "set_aside.jsonl"
_CUT_OFF = StoryProblem(
    "truncated",
    "A story must be whole; got one that was cut off at the limit of tokens. Raise --storyteller-max-tokens.",
)


class SetAside(NamedTuple):
    """A question without a story to answer."""

    question_id: str
    status: str
    """`refusal`, `empty`, `truncated` where the reply was cut off, or `invalid` where there is a text that is no story."""
    problems: tuple[StoryProblem, ...]
    """Of the last text; empty where there is none to check."""
    raw: str | None


class CheckedStories(NamedTuple):
    """The storyteller's replies of a run, read."""

    scenarios: pa.Table
    """A row a story that passed, with the columns of `QUESTION_FEATURES`; `question_id` is that of the question told."""
    set_aside: tuple[SetAside, ...]
    failed: int = 0
    """Questions whose request failed: it is asked again anyway."""

    def to_retry(self) -> list[str]:
        """Ids of the questions worth telling again: all that were set aside but those that the storyteller refused."""
        return [story.question_id for story in self.set_aside if story.status != "refusal"]

    def counts(self) -> dict[str, int]:
        """Why stories were set aside: kind of problem, or status where there was no text, to number, most frequent first.

        A story with problems of two kinds counts for both.
        """
        counts: dict[str, int] = {}
        for story in self.set_aside:
            for kind in dict.fromkeys(problem.kind for problem in story.problems) or (story.status,):
                counts[kind] = counts.get(kind, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def has_answered_scenarios(run: Path) -> bool:
    """Whether a run's scenarios have been put to the personas; read off the names of files."""
    return all((scenarios_folder(run) / name).is_file() for name in (MANIFEST, JOURNAL, SCENARIO_TABLE))


def load_scenario_questions(run: Path) -> pa.Table:
    """The scenarios of a run, with the columns of `QUESTION_FEATURES`.

    Raises:
        FileNotFoundError: It has none.
    """
    path = scenarios_folder(run) / SCENARIO_TABLE
    if not path.is_file():
        raise FileNotFoundError(
            f"A run with scenarios must have their table; got none at {path}. Run `fairpp scenarios --run {run}`."
        )
    return questions_of(path.parent)


def read_stories(journal: Journal, questions: pa.Table, keys: Mapping[str, str], names: Names) -> CheckedStories:
    """Read and check the replies that a journal has to some requests, whether or not they are those of the run.

    A question has the last story that passes. Where the last text does not, an earlier one may by rules that have changed
    since: all were paid for.

    Args:
        journal: The storyteller's.
        questions: Columns of `QUESTION_FEATURES`; those of `keys` and others.
        keys: Question id to the key of the request that tells it.
        names: Names of personas that no story may name, by `persona_names`.
    """
    wanted = {key: question_id for question_id, key in keys.items()}
    texts: dict[str, list[str]] = {question_id: [] for question_id in keys}
    told: dict[str, _Told] = {}
    for table in ("replaced", "replies"):  # the earlier ones first
        for reply in _told(journal, table, wanted):
            texts[reply.question_id] += reply.texts
            if table == "replies":
                told[reply.question_id] = reply
    rows: list[dict[str, Any]] = []
    set_aside: list[SetAside] = []
    asked = {row["question_id"]: row for row in questions.to_pylist() if row["question_id"] in told}
    # In the order of the requests, whenever the replies came. A text at a time: to parse it is no column operation.
    in_order = [told[question_id] for question_id in keys if question_id in told]
    for reply in in_order:
        if reply.status == "failed":
            continue
        question = asked[reply.question_id]
        found = (check_story(text, question, names) for text in reversed(texts[reply.question_id]))
        story = next((story for story in found if isinstance(story, Story)), None)
        if story is None:
            set_aside.append(_set_aside(reply, question, names))
        else:
            rows.append(scenario_row(story, question))
    failed = sum(reply.status == "failed" for reply in in_order)
    return CheckedStories(pa.Table.from_pylist(rows, QUESTION_FEATURES.arrow_schema), tuple(set_aside), failed)


class _Told(NamedTuple):
    question_id: str
    status: str
    raw: str | None
    cut_off: bool
    texts: list[str]
    """What may be a story: the texts of earlier tries, the first one first, and the last one unless it is a refusal."""


def _told(journal: Journal, table: str, wanted: Mapping[str, str]) -> Iterator[_Told]:
    names, damaged = FIELDS.split(", "), 0
    for rows in journal.records(table):
        for *fields, is_intact in rows:
            record = dict(zip(names, fields, strict=True))
            if record["key"] not in wanted:
                continue
            if not is_intact:
                damaged += 1
                continue
            detail = json.loads(record["detail"]) if record["detail"] else {}
            status, raw = record["status"], text_of(record["raw"])
            texts = [*detail.get("earlier", []), *([] if raw is None or status == "refusal" else [raw])]
            yield _Told(wanted[record["key"]], status, raw, detail.get("finish_reason") == "length", texts)
    if damaged:
        logger.warning("%d damaged stories of %s are left out; they will be told again.", damaged, journal.path)


def _set_aside(reply: _Told, question: Mapping[str, Any], names: Names) -> SetAside:
    status, problems = reply.status, []
    if reply.cut_off and status != "refusal":
        status, problems = "truncated", [_CUT_OFF]  # what else is wrong with half a story follows from that
    elif status in ("ok", "invalid", "truncated"):
        found = check_story(reply.raw, question, names)
        status, problems = "invalid", [] if isinstance(found, Story) else found
    return SetAside(reply.question_id, status, tuple(problems), reply.raw)


def story_counts(run: Path) -> tuple[int, int]:
    """How many stories of a run passed the checks and were put to the personas, and how many were set aside."""
    folder = scenarios_folder(run)
    lines = (folder / SET_ASIDE).read_bytes().count(b"\n") if (folder / SET_ASIDE).is_file() else 0
    return pq.read_metadata(folder / SCENARIO_TABLE).num_rows, lines


def write_checked(folder: Path, checked: CheckedStories) -> None:
    """Write the stories that were told, and those that were set aside, a JSON object a line; no first empty files."""
    lines = [
        json.dumps(story._asdict() | {"problems": [problem._asdict() for problem in story.problems]}) + "\n"
        for story in checked.set_aside
    ]
    if lines:
        write_whole(folder / SET_ASIDE, lambda path: path.write_text("".join(lines), "utf-8"))
    else:
        (folder / SET_ASIDE).unlink(missing_ok=True)
    if len(checked.scenarios) or (folder / SCENARIO_TABLE).is_file():
        write_scenarios(folder, checked.scenarios)


def write_scenarios(folder: Path, scenarios: pa.Table) -> None:
    """Write the table of scenarios, whole or not at all."""
    write_whole(folder / SCENARIO_TABLE, lambda path: pq.write_table(scenarios, path, compression="zstd"))
