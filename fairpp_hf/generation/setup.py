"""Before a run asks anything: its directory is checked, and journal and manifest are brought in line with what is asked."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fairpp_hf.generation import journal as journal_module
from fairpp_hf.generation import manifest as manifest_module
from fairpp_hf.generation.journal import Journal, served_model_in
from fairpp_hf.generation.manifest import differences, new_manifest, read_manifest, ways_in, ways_key, write_manifest
from fairpp_hf.generation.plan import Keys, RequestPlan, questions_digest
from fairpp_hf.generation.run_folder import BATCHES, SCENARIO_TABLE, SCENARIOS, STORIES
from fairpp_hf.generation.run_lock import HOLDER_NAME, LOCK_NAME
from fairpp_hf.generation.salvage import is_half_salvaged
from fairpp_hf.generation.shards import Shard
from fairpp_hf.personas import PersonaSet
from fairpp_hf.respondents.base import HasAddress, HasWays, Reply, Respondent
from fairpp_hf.respondents.ladder import Way

logger = logging.getLogger(__name__)

# Beside a run's manifest, journal and lock: its batches' input files, and the parts of its scenarios.
_OTHER_PARTS = {BATCHES, SCENARIOS, SCENARIO_TABLE, STORIES}


def set_up(
    run: Path,
    journal: Journal,
    plan: RequestPlan,
    respondent: Respondent,
    personas: PersonaSet,
    selection: Mapping[str, Any],
    shard: Shard | None,
    previous: dict[str, Any] | None,
) -> tuple[Keys, str]:
    """Bring journal and manifest in line with what is asked for now.

    Args:
        run: the run's directory.
        journal: of the run, open for writing.
        plan: all requests, those of other shards included.
        respondent: whoever answers.
        personas: the persona set of the plan.
        selection: how the questions were chosen.
        shard: the part of the requests that is asked here; None for all.
        previous: the run's manifest, or None where there is none yet.

    Returns:
        The key of each request, and the run's own key.
    """
    settings = respondent.settings
    keys = plan.keys(settings)
    digest = keys.digest()
    address = respondent.address if isinstance(respondent, HasAddress) else None
    servers = (previous or {}).get("servers", {})
    ways = (previous or {}).get("ways", {})
    if isinstance(respondent, HasWays):
        respondent.begin_with(ways.get(ways_key(respondent.name, settings), {}))
    manifest = new_manifest(
        respondent=respondent.name,
        settings=settings,
        persona_set=personas.id,
        # Anything with ids and portraits can be asked; only a whole set can be recorded.
        persona_record=personas.as_dict() if isinstance(personas, PersonaSet) else None,
        portraits=plan.portraits,
        question_count=len(plan.questions),
        question_digest=questions_digest(plan.questions),
        selection=selection,
        requests_digest=digest,
        servers={**servers, respondent.name: address} if address else servers,
        samples=plan.samples,
        swap=plan.swap,
        shard=shard,
        # The journal's counts: it alone is read and written under the run's lock.
        run_key=journal.run_key((previous or {}).get("run_key")),
        ways=ways,
    )
    changes = differences(previous, manifest) if previous else []
    if changes:
        logger.warning("The run %s now asks for something else: %s.", run, "; ".join(changes))
    if journal.requests_digest() != digest:
        journal.set_requests((plan.asked_at(position, key) for position, key in enumerate(keys)), digest)
    if address and servers.get(respondent.name, address) != address:
        _warn_of_another_server(run, journal, respondent.name, servers[respondent.name], address)
    # After the journal: a manifest whose digest the journal lacks is how a reader tells that this was cut short.
    if not previous or any(previous.get(name) != value for name, value in manifest.items()):
        write_manifest(run, manifest)
    return keys, manifest["run_key"]


def _warn_of_another_server(run: Path, journal: Journal, name: str, before: str, now: str) -> None:
    """Once a call; nothing where no reply of the earlier server is kept."""
    kept = sum(
        number for counts in journal.counts().values() for status, number in counts.items() if status != "failed"
    )
    if kept:
        logger.warning(
            "The run %s now asks %s at %s, and asked it at %s before. Replies are kept by the model's name, so the %s "
            "that it has stay. If another model answers there, use another --run, or serve it under a name of its own.",
            run,
            name,
            now,
            before,
            f"{kept:,}",
        )


class ServedModel:
    """Says once a call if the server names another model than in the run's first reply.

    Args:
        run: the run's directory.
        model: the name in the first reply; None where it is still to come.
    """

    def __init__(self, run: Path, model: str | None) -> None:
        self._run, self._model, self._said = run, model, False

    def compare(self, replies: Iterable[Reply]) -> None:
        """Compare the names in some replies with the first one."""
        for reply in replies:
            model = served_model_in(reply.detail)
            if model is None or self._said:
                continue
            self._model = self._model or model
            if model != self._model:
                self._said = True
                logger.warning(
                    "The server now names its model %r, and named it %r in the first reply of the run %s: its answers may "
                    "come from two models. Use another --run for one of them.",
                    model,
                    self._model,
                    self._run,
                )


class SettledWays:
    """Writes into the manifest how each server is asked as soon as it has settled, and says so where that has changed.

    Args:
        run: the run's directory, with a manifest.
        respondent: whoever answers.
        journal: of the run. Ways in which none of the replies that count was asked for are none that it mixes.
    """

    def __init__(self, run: Path, respondent: Respondent, journal: Journal) -> None:
        self._run = run
        self._respondent = respondent if isinstance(respondent, HasWays) else None
        manifest = read_manifest(run)
        self._known = {} if manifest is None else ways_in(manifest)
        counting = [_without_room(way) for way in journal.ways()] if self._known else []
        self._before = next((way for way in self._known.values() if _without_room(way) in counting), None)
        self._said = False

    def compare(self) -> None:
        """Compare with what is known, and write what is new."""
        if self._respondent is None:
            return
        now = self._respondent.ways
        ways = {**self._known, **now}
        if ways == self._known:
            return
        self._known = ways
        manifest = read_manifest(self._run)
        assert manifest is not None  # written by `set_up`
        manifest["ways"][ways_key(self._respondent.name, manifest["respondent"]["settings"])] = ways
        write_manifest(self._run, manifest)
        self._before = self._before or next(iter(now.values()))
        other = next((way for way in now.values() if way != self._before), None)
        if other and not self._said:
            self._said = True
            logger.warning(
                "The replies of the run %s are asked for in more than one way: %s; and %s. `fairpp show` counts them. Where "
                "that matters, fix one with --ask, --no-logprobs or --system-as-user: all questions are then asked anew.",
                self._run,
                *(found.words() if (found := Way.of(way)) else way for way in (self._before, other)),
            )


def _without_room(way: Any) -> Any:
    """Room to think is given reply by reply."""
    return {name: value for name, value in way.items() if name != "room"} if isinstance(way, Mapping) else way


def check_directory(run: Path) -> None:
    """Check that a run can be in a directory.

    Raises:
        ValueError: it is a file, or holds other files than a run's.
    """
    if run.exists() and not run.is_dir():
        raise ValueError(f"run must be a directory; got the file {run}. Pass another --run.")
    ours = {manifest_module.FILE_NAME, journal_module.FILE_NAME, LOCK_NAME, HOLDER_NAME, *_OTHER_PARTS}
    if run.is_dir():
        names = {path.name for path in run.iterdir()}
        if names and not names & ours:
            raise ValueError(
                f"run must be a new directory or one of an earlier run; got {run}, which holds other files such as "
                f"{min(names)!r}. Pass another --run."
            )


def check_journal_exists(run: Path, previous: dict[str, Any] | None) -> None:
    """Check that a run with a manifest has the file of its journal, or one whose repair is to be finished.

    Raises:
        OSError: it has none.
    """
    path = run / journal_module.FILE_NAME
    if previous is not None and not path.exists() and not is_half_salvaged(path):
        raise _journal_gone(run)


def check_journal_filled(journal: Journal, previous: dict[str, Any] | None) -> None:
    """Check that the journal of a run with a manifest was ever written.

    Raises:
        OSError: it is empty.
    """
    # A salvaged journal has no requests either, but has said so.
    if previous is not None and journal.requests_digest() is None and not journal.salvaged:
        raise _journal_gone(journal.path.parent)


def _journal_gone(run: Path) -> OSError:
    return OSError(
        f"A run with a manifest must have its journal; got none, or an empty one, at {run / journal_module.FILE_NAME}. "
        f"Restore it from a copy, or remove {run / manifest_module.FILE_NAME} to ask every question again."
    )
