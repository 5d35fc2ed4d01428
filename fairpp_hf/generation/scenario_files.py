"""The files of a run's scenarios: stories as the storyteller's run has them, checked, and the table of those that passed."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairpp_hf.generation.journal import FILE_NAME as JOURNAL
from fairpp_hf.generation.manifest import FILE_NAME as MANIFEST
from fairpp_hf.generation.records import load_replies
from fairpp_hf.generation.stories import Names, Story, StoryProblem, check_story, scenario_row
from fairpp_hf.schema import QUESTION_FEATURES

TABLE = "scenarios.parquet"
SET_ASIDE = "set_aside.jsonl"
_STORY_STATUSES = ("ok", "invalid", "truncated")


class SetAside(NamedTuple):
    """A question without a story to answer."""

    question_id: str
    status: str
    """Of the storyteller's reply; `invalid` where there is a text that is no story."""
    problems: tuple[StoryProblem, ...]
    """Empty where there is no text to check."""
    raw: str | None


class CheckedStories(NamedTuple):
    """The storyteller's replies of a run, read."""

    scenarios: pa.Table
    """A row a story that passed, with the columns of `QUESTION_FEATURES`; `question_id` is that of the question told."""
    set_aside: tuple[SetAside, ...]

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
            self.scenarios.filter(mine), tuple(story for story in self.set_aside if story.question_id in wanted)
        )


def scenarios_folder(run: Path) -> Path:
    """The run of the personas' answers to a run's scenarios."""
    return run / "scenarios"


def stories_folder(run: Path) -> Path:
    """The storyteller's run of a run's scenarios."""
    return scenarios_folder(run) / "stories"


def has_answered_scenarios(run: Path) -> bool:
    """Whether a run's scenarios have been put to the personas; read off the names of files."""
    return all((scenarios_folder(run) / name).is_file() for name in (MANIFEST, JOURNAL, TABLE))


def load_scenario_questions(run: Path) -> pa.Table:
    """The scenarios of a run, with the columns of `QUESTION_FEATURES`.

    Raises:
        FileNotFoundError: it has none.
    """
    path = scenarios_folder(run) / TABLE
    if not path.is_file():
        raise FileNotFoundError(
            f"A run with scenarios must have their table; got none at {path}. Run `fairpp scenarios --run {run}`."
        )
    return pq.read_table(path).select(list(QUESTION_FEATURES)).cast(QUESTION_FEATURES.arrow_schema)


def checked_stories(run: Path, questions: pa.Table, names: Names) -> CheckedStories:
    """Read and check the replies of a run's storyteller.

    Args:
        run: a run with stories.
        questions: those that were told, among others; columns of `QUESTION_FEATURES`.
        names: of personas that no story may name, of `persona_names`.

    Raises:
        FileNotFoundError: the run has no stories.
        ValueError: the stories are of other questions.
    """
    folder = stories_folder(run)
    replies = load_replies(folder).select(["question_id", "status", "raw"])
    at = pc.index_in(replies["question_id"].combine_chunks(), questions["question_id"].combine_chunks())
    if at.null_count:
        unknown = replies["question_id"].filter(pc.is_null(at))[0].as_py()
        raise ValueError(
            f"Stories must be of these questions; got one of {unknown!r} in {folder}. Pass the questions that were told as "
            "`questions`."
        )
    rows, set_aside = [], []
    # A text at a time: to parse it is no column operation.
    for reply, question in zip(replies.to_pylist(), questions.take(at).to_pylist(), strict=True):
        found = check_story(reply["raw"], question, names) if reply["status"] in _STORY_STATUSES else []
        if isinstance(found, Story):
            rows.append(scenario_row(found, question))
        else:
            status = "invalid" if reply["status"] == "ok" else reply["status"]
            set_aside.append(SetAside(reply["question_id"], status, tuple(found), reply["raw"]))
    return CheckedStories(pa.Table.from_pylist(rows, QUESTION_FEATURES.arrow_schema), tuple(set_aside))


def write_scenarios(folder: Path, scenarios: pa.Table) -> None:
    """Write the table of scenarios, whole or not at all."""
    scratch = folder / f"{TABLE}.new"
    pq.write_table(scenarios, scratch, compression="zstd")
    _into_place(scratch, folder / TABLE)


def write_set_aside(folder: Path, set_aside: Iterable[SetAside]) -> None:
    """Write the stories that were set aside, a JSON object a line; no file where there are none."""
    path = folder / SET_ASIDE
    lines = [
        json.dumps(story._asdict() | {"problems": [problem._asdict() for problem in story.problems]})
        for story in set_aside
    ]
    if not lines:
        path.unlink(missing_ok=True)
        return
    scratch = folder / f"{SET_ASIDE}.new"
    scratch.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    _into_place(scratch, path)


def _into_place(scratch: Path, path: Path) -> None:
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(path)
