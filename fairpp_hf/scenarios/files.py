"""The files of a run's scenarios: stories as the storyteller's run has them, checked, and the table of those that passed."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairpp_hf.runs.database import FIELDS
from fairpp_hf.runs.journal import Journal, text_of
from fairpp_hf.runs.layout import JOURNAL, MANIFEST, SCENARIO_TABLE, scenarios_folder, stories_folder, write_whole
from fairpp_hf.runs.records import check_set_up, manifest_of
from fairpp_hf.scenarios.stories import Names, Story, StoryProblem, check_story, scenario_row
from fairpp_hf.schema import QUESTION_FEATURES

logger = logging.getLogger(__name__)

SET_ASIDE = "set_aside.jsonl"
_STORY_STATUSES = ("ok", "invalid", "truncated")
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
    failed: tuple[str, ...] = ()
    """Ids of the questions whose request failed: it is asked again anyway."""

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

    def only(self, ids: Sequence[str]) -> "CheckedStories":
        """Those of these questions."""
        mine = pc.is_in(self.scenarios["question_id"], value_set=pa.array(ids, pa.string()))
        wanted = set(ids)
        return CheckedStories(
            self.scenarios.filter(mine),
            tuple(story for story in self.set_aside if story.question_id in wanted),
            tuple(question_id for question_id in self.failed if question_id in wanted),
        )


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
    return pq.read_table(path).select(list(QUESTION_FEATURES)).cast(QUESTION_FEATURES.arrow_schema)


def checked_stories(run: Path, questions: pa.Table, names: Names) -> CheckedStories:
    """Read and check the replies of a run's storyteller to what the run asks now; see `read_stories`.

    Args:
        run: A run with stories.
        questions: Those that were told, among others; columns of `QUESTION_FEATURES`.
        names: Names of personas that no story may name, by `persona_names`.

    Raises:
        FileNotFoundError: The run has no stories.
        ValueError: The stories are of other questions, or their run's set-up was interrupted.
        OSError: The journal is damaged.
    """
    folder = stories_folder(run)
    manifest = manifest_of(folder)
    with Journal(folder, read_only=True) as journal, journal.snapshot():
        check_set_up(journal, manifest)
        keys = {request.question_id: request.key for request in journal.requests()}
        known = set(questions["question_id"].to_pylist())
        if unknown := next((question_id for question_id in keys if question_id not in known), None):
            raise ValueError(
                f"Stories must be of these questions; got one of {unknown!r} in {folder}. Pass the questions that were told "
                "as `questions`."
            )
        return read_stories(journal, questions, keys, names)


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
    told = {reply.question_id: reply for reply in _told(journal, "replies", wanted)}
    before: dict[str, list[str]] = {question_id: [] for question_id in told}
    for reply in _told(journal, "replaced", wanted):
        if reply.question_id in told:
            before[reply.question_id] += [*reply.earlier, *reply.texts]
    rows_of = {row["question_id"]: row for row in questions.to_pylist() if row["question_id"] in told}
    # In the order of the requests, whenever the replies came.
    in_order = (told[question_id] for question_id in keys if question_id in told)
    whole = (reply._replace(earlier=before[reply.question_id] + reply.earlier) for reply in in_order)
    return _checked(((reply, rows_of[reply.question_id]) for reply in whole), names)


class _Told(NamedTuple):
    """A storyteller's reply."""

    question_id: str
    status: str
    raw: str | None
    cut_off: bool
    earlier: list[str]
    """Texts of earlier tries, the first one first."""

    @property
    def texts(self) -> list[str]:
        """What may be a story: no text, or one. A refusal is none."""
        return [self.raw] if self.raw is not None and self.status != "refusal" else []


def _told(journal: Journal, table: str, wanted: Mapping[str, str]) -> Iterator[_Told]:
    fields = FIELDS.split(", ")
    at = [fields.index(name) for name in ("key", "status", "raw", "detail")]
    damaged = 0
    for rows in journal.records(table):
        for *record, is_intact in rows:
            key, status, raw, found = (record[place] for place in at)
            if key not in wanted:
                continue
            if not is_intact:
                damaged += 1
                continue
            detail = json.loads(found) if found else {}
            cut_off = detail.get("finish_reason") == "length"
            yield _Told(wanted[key], status, text_of(raw), cut_off, detail.get("earlier", []))
    if damaged:
        logger.warning("%d damaged stories of %s are left out; they will be told again.", damaged, journal.path)


def _checked(told: Iterable[tuple[_Told, Mapping[str, Any]]], names: Names) -> CheckedStories:
    rows: list[dict[str, Any]] = []
    set_aside: list[SetAside] = []
    failed: list[str] = []
    # A text at a time: to parse it is no column operation.
    for reply, question in told:
        if reply.status == "failed":
            failed.append(reply.question_id)
            continue
        for text in (*reply.texts, *reversed(reply.earlier)):
            found = check_story(text, question, names)
            if isinstance(found, Story):
                rows.append(scenario_row(found, question))
                break
        else:
            set_aside.append(_set_aside(reply, question, names))
    return CheckedStories(pa.Table.from_pylist(rows, QUESTION_FEATURES.arrow_schema), tuple(set_aside), tuple(failed))


def _set_aside(reply: _Told, question: Mapping[str, Any], names: Names) -> SetAside:
    status, problems = reply.status, []
    if reply.cut_off and status != "refusal":
        status, problems = "truncated", [_CUT_OFF]  # what else is wrong with half a story follows from that
    elif status in _STORY_STATUSES:
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
