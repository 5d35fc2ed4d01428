"""Scenarios: questions told as scenes by a storyteller, then answered by the personas.

Both stages are runs, so that either can be killed and continued and no reply is bought twice: RUN/scenarios/stories has
the storyteller's replies, RUN/scenarios the personas' answers, and RUN/scenarios/scenarios.parquet between them is the
question table that the second one asks. `tell_and_answer` and `rebuild_scenarios` make the table anew from the stories: one
counts if it passes the checks of today, whatever its status in the journal says.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from fairpp_hf.generation.budget import check_max_cost
from fairpp_hf.generation.estimate import Estimate, estimate
from fairpp_hf.generation.options import DEFAULT_OPTIONS, RunOptions
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.generation.prices import Prices
from fairpp_hf.generation.runner import generate
from fairpp_hf.generation.summary import RunSummary
from fairpp_hf.personas import PersonaSet
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.base import HasAddress, Respondent
from fairpp_hf.runs.database import FIELDS
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import JOURNAL, check_directory, scenarios_folder, stories_folder
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.runs.records import open_run
from fairpp_hf.runs.shards import Shard
from fairpp_hf.runs.spending import dollars
from fairpp_hf.scenarios.files import SET_ASIDE, CheckedStories, read_stories, write_checked
from fairpp_hf.scenarios.rebuild import ask_for
from fairpp_hf.scenarios.stories import Names, Story, persona_names, scenario_row, story_requests, wording
from fairpp_hf.schema import QUESTION_FEATURES

if TYPE_CHECKING:
    from fairpp_hf.scenarios.storyteller import StorytellerRespondent

logger = logging.getLogger(__name__)

_USUAL_SCENE = 400  # characters of four sentences
_LETTER_TOKENS = 3
_RETRY = "retry_set_aside"
"""In the journal's table `meta`: when the retry began that no call has brought to its end yet."""


class _Storyteller(tuple[SimpleNamespace, ...]):
    id = "storyteller"


def _teller() -> Any:
    """Stands in the place of a persona set in a storyteller's run: one that tells, its instructions being its portrait."""
    return _Storyteller([SimpleNamespace(id="storyteller", portrait=wording()["system"])])


class ScenarioSummary(NamedTuple):
    """What a run's scenarios have, after `tell_and_answer`."""

    checked: CheckedStories
    """The stories, those of the shard where there is one: what passed the checks is answered."""
    stories: RunSummary
    answers: RunSummary | None
    """None where there is no story to answer."""
    path: Path

    @property
    def told(self) -> int:
        """Stories that passed the checks."""
        return len(self.checked.scenarios)

    def table(self) -> str:
        """What was told and set aside, then the answers by persona and status."""
        failed = f", {self.checked.failed:,} failed" if self.checked.failed else ""
        lines = [f"Stories: {self.told:,} told, {len(self.checked.set_aside):,} set aside{failed}."]
        if self.checked.set_aside:
            why = ", ".join(f"{kind} {count:,}" for kind, count in self.checked.counts().items())
            lines.append(f"Set aside for: {why} (a story may count twice). See {self.path / SET_ASIDE}.")
        if spent := self.stories.spending.words():
            lines.append(f"Spent on stories: {spent}")
        lines.append("" if self.answers is None else self.answers.table())
        return "\n".join(lines).rstrip()


def tell_and_answer(
    run: str | Path,
    storyteller: "StorytellerRespondent",
    respondent: Respondent,
    personas: PersonaSet,
    questions: pa.Table | None = None,
    options: RunOptions = DEFAULT_OPTIONS,
    *,
    story_prices: Prices | None = None,
    retry_set_aside: bool = False,
) -> ScenarioSummary:
    """Have questions told as scenarios, and each scenario answered in the role of each persona.

    Called again it continues, in whichever stage it was; stories and answers are kept as in `generate`. More stories only
    add to the table, and the answers to earlier ones stay. A story that does not pass the checks is set aside: it is
    counted, listed in RUN/scenarios/set_aside.jsonl, and never answered.

    Args:
        run: Directory of a run, or a new one; the scenarios go into `scenarios` in it.
        storyteller: Whoever tells.
        respondent: Whoever answers; it must read what it is asked, which the survey respondent does not.
        personas: Persona set.
        questions: Rows of `load_questions`; all of the test split by default.
        options: How both stages are asked. `samples`, `swap` and `prices` are the respondent's; `shard` divides the stories;
            `max_cost` is one cap on all that stories and answers have ever cost together.
        story_prices: Prices of the storyteller's model.
        retry_set_aside: Whether to tell again what the checks of today set aside of earlier calls' stories, except for
            refusals. After an interruption, the same call continues and tells nothing a third time.

    Returns:
        `ScenarioSummary`.

    Raises:
        ValueError: Something about the arguments is wrong; nothing has been asked.
        RespondentStopped: As `generate` does, in either stage; so do RunInterrupted, RuntimeError and OSError.
    """
    run = Path(run)
    folder, told_in = scenarios_folder(run), stories_folder(run)
    questions = load_questions("test") if questions is None else questions
    _check_reader(respondent)
    # The second stage's plan with the questions in the place of the scenarios: what is wrong is said before any spending.
    RequestPlan(personas, questions, samples=options.samples, swap=options.swap)
    for asked, prices in ((storyteller, story_prices), (respondent, options.prices)):
        # A local model costs nothing.
        if isinstance(asked, HasAddress):
            check_max_cost(options.max_cost, prices, asked.name)
    if options.max_cost is not None and (spent := spent_in(folder) + spent_in(told_in)) > options.max_cost:
        raise ValueError(
            f"max_cost must be at least what stories and answers have cost so far, {dollars(spent)}; got "
            f"{dollars(options.max_cost)} for {folder}. Raise max_cost."
        )
    options = replace(options, selection=options.selection or {"split": "test"}, part_of_scenarios=True)
    names = persona_names(personas)
    requests = story_requests(questions)
    # A machine answers the stories of its own part, whoever told them.
    mine = _keys_of_shard(options.shard, requests, storyteller)
    if retry_set_aside:
        _begin_retry(told_in, questions, mine, names)
    telling = replace(options, samples=1, swap=False, prices=story_prices, spent_elsewhere=spent_in(folder))
    stories = generate(told_in, storyteller, _teller(), requests, telling)
    with open_run(told_in) as (journal, _):
        checked = read_stories(journal, questions, mine, names)
    with RunLock(folder):
        write_checked(folder, checked)
        if not len(checked.scenarios) and (manifest := read_manifest(folder)) is not None:
            ask_for(folder, manifest, personas, checked.scenarios)
    answers = None
    if len(checked.scenarios):
        answering = replace(options, shard=None, spent_elsewhere=spent_in(told_in))
        if not isinstance(respondent, HasAddress):
            answering = replace(answering, max_cost=None, batch=None)
        answers = generate(folder, respondent, personas, checked.scenarios, answering)
    _end_retry(told_in)
    return ScenarioSummary(checked, stories, answers, folder)


def estimate_scenarios(
    run: str | Path,
    storyteller: "StorytellerRespondent",
    respondent: Respondent,
    personas: PersonaSet,
    questions: pa.Table,
    options: RunOptions = DEFAULT_OPTIONS,
    *,
    story_prices: Prices | None = None,
    retry_set_aside: bool = False,
    give_up_batches: bool = False,
) -> tuple[Estimate, Estimate | None]:
    """Count what `tell_and_answer` with the same arguments would ask, and price it; asks and writes nothing.

    A story that is still to be told is thought to pass at the first try, with scenes of `_USUAL_SCENE` characters.

    Returns:
        The estimates of the stories and of the answers; None where there is no story to answer, since all are set aside.
    """
    folder = stories_folder(Path(run))
    _check_reader(respondent)
    requests = story_requests(questions)
    mine = _keys_of_shard(options.shard, requests, storyteller)
    before, again = CheckedStories(questions.slice(0, 0), ()), set[str]()
    if (folder / JOURNAL).is_file():
        with Journal(folder, read_only=True) as journal, journal.snapshot():
            before = read_stories(journal, questions, mine, persona_names(personas))
            if retry_set_aside and journal.noted(_RETRY) is None:
                again = set(before.to_retry())
    stories = estimate(
        *(folder, storyteller, _teller(), requests),
        replace(options, samples=1, swap=False, prices=story_prices),
        again={mine[question_id] for question_id in again},
        give_up_batches=give_up_batches,
    )
    told = {row["question_id"]: row for row in before.scenarios.to_pylist()}
    out = {story.question_id for story in before.set_aside} - again
    usual = Story(
        (f"{'a' * _USUAL_SCENE}.", f"{'b' * _USUAL_SCENE}.", wording()["option_c"]), wording()["closing_question"]
    )
    rows = [
        told.get(row["question_id"]) or scenario_row(usual, row)
        for row in questions.to_pylist()
        if row["question_id"] in mine and row["question_id"] not in out
    ]
    if not rows:
        return stories, None
    scenarios = pa.Table.from_pylist(rows, QUESTION_FEATURES.arrow_schema)
    answers = estimate(
        *(scenarios_folder(Path(run)), respondent, personas, scenarios),
        replace(options, shard=None),
        give_up_batches=give_up_batches,
    )
    return stories, _with_letters(answers)


def _with_letters(found: Estimate) -> Estimate:
    """A letter is asked for, not an option written out, which an estimate takes for granted without earlier replies."""
    if found.measured is not None:
        return found
    written = found.calls * _LETTER_TOKENS
    batch, plain = (
        found.prices.of_tokens(found.input_tokens, written, batch=by_batch) if found.prices else None
        for by_batch in (True, False)
    )
    return found._replace(output_tokens=written, cost_usd=plain, batch_cost_usd=batch)


def spent_in(run: Path) -> float:
    """USD that all replies of a run have cost whose price is known; 0 where there is no run."""
    if not (run / JOURNAL).is_file():
        return 0.0
    with Journal(run, read_only=True) as journal:
        return journal.spending().cost_usd


def _keys_of_shard(shard: Shard | None, requests: pa.Table, storyteller: "StorytellerRespondent") -> dict[str, str]:
    """Question id to key of each story that is told here."""
    plan = RequestPlan(_teller(), requests)
    asked = zip(plan.questions["question_id"].to_pylist(), plan.keys(storyteller.settings), strict=True)
    return {question_id: key for question_id, key in asked if shard is None or shard.has(key)}


def _begin_retry(stories: Path, questions: pa.Table, keys: Mapping[str, str], names: Names) -> None:
    """Make room for another reply where the checks of today set a story aside; what the earlier ones cost stays counted.

    Until `_end_retry`, a further call goes on with this retry and makes no more room, so that an interrupted one does not
    tell again what it has told. The other arguments are those of `read_stories`.
    """
    check_directory(stories)
    stories.mkdir(parents=True, exist_ok=True)
    with RunLock(stories), Journal(stories, stories=True) as journal:
        if journal.noted(_RETRY) is not None:
            logger.warning(
                "What was set aside in %s is being told again already: the earlier call is continued.", stories
            )
            return
        chosen = [(keys[each],) for each in read_stories(journal, questions, keys, names).to_retry()]
        with journal.transaction() as connection:
            connection.execute("INSERT INTO meta VALUES (?, ?)", (_RETRY, str(time.time())))
            connection.executemany(
                f"INSERT INTO replaced ({FIELDS}) SELECT {FIELDS} FROM replies WHERE key = ?", chosen
            )
            connection.executemany("DELETE FROM replies WHERE key = ?", chosen)


def _end_retry(stories: Path) -> None:
    """Note that all has been told and answered: the next retry is another one."""
    with RunLock(stories), Journal(stories, stories=True) as journal:
        if journal.noted(_RETRY) is not None:
            journal.note(_RETRY, None)


def _check_reader(respondent: Respondent) -> None:
    if respondent.settings.get("kind") == "survey":
        raise ValueError(
            f"Scenarios must be answered by a respondent that reads them; got {respondent.name!r}, which answers by the "
            "question's labels alone. Use an openai or a transformers respondent."
        )
