"""Before a run asks anything, journal and manifest are brought in line with what is asked; and what its servers change."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fairpp_hf.generation.options import RunOptions
from fairpp_hf.generation.plan import RequestPlan, keys_digest
from fairpp_hf.personas import PersonaSet
from fairpp_hf.respondents.base import HasAddress, Reply, Respondent
from fairpp_hf.respondents.ladder import Way
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.runs.journal import Journal, served_model_in
from fairpp_hf.runs.manifest import (
    differences,
    new_manifest,
    read_manifest,
    ways_in,
    ways_key,
    write_manifest,
)

logger = logging.getLogger(__name__)


def set_up(
    run: Path,
    journal: Journal,
    plan: RequestPlan,
    respondent: Respondent,
    personas: PersonaSet,
    options: RunOptions,
    previous: dict[str, Any] | None,
) -> list[str]:
    """Bring journal and manifest in line with what is asked for now; returns the key of each request."""
    settings = respondent.settings
    keys = plan.keys(settings)
    digest = keys_digest(keys)
    address = respondent.address if isinstance(respondent, HasAddress) else None
    servers = (previous or {}).get("servers", {})
    ways = (previous or {}).get("ways", {})
    if isinstance(respondent, OpenAIRespondent):
        respondent.begin_with(ways.get(ways_key(respondent.name, settings), {}))
    manifest = new_manifest(
        respondent,
        personas,
        plan.questions,
        samples=plan.samples,
        swap=plan.swap,
        selection=options.selection,
        shard=options.shard,
        requests_digest=digest,
        run_key=journal.run_key((previous or {}).get("run_key")),
        servers={**servers, respondent.name: address} if address else servers,
        ways=ways,
    )
    changes = differences(previous, manifest) if previous else []
    earlier = journal.size() - journal.remaining() if changes else 0
    if journal.requests_digest() != digest:
        journal.set_requests((plan.asked_at(position, key) for position, key in enumerate(keys)), digest)
    if changes:
        logger.warning(
            "The run %s now asks for something else: %s. Of its %s replies, %s count for that; the others stay in its "
            "journal, and count again when the earlier command is given.",
            *(run, "; ".join(changes), f"{earlier:,}", f"{journal.size() - journal.remaining():,}"),
        )
    if address and servers.get(respondent.name, address) != address:
        replies = journal.size() - journal.remaining()
        if replies:
            logger.warning(
                "The run %s now asks %s at %s, and asked it at %s before. Replies are kept by the model's name, so the %s "
                "that it has stay. If another model answers there, use another run, or serve it under a name of its own.",
                *(run, respondent.name, address, servers[respondent.name], f"{replies:,}"),
            )
    # After the journal: a manifest whose digest the journal lacks is how a reader tells that this was cut short.
    if not previous or any(previous.get(name) != value for name, value in manifest.items()):
        write_manifest(run, manifest)
    return keys


class ServerWatch:
    """Warns once a call if a server names another model, or is asked in another way, than for the run's first reply.

    How each server is asked goes into the manifest as soon as it has settled. A way in which none of the journal's present
    replies was asked for does not count.
    """

    def __init__(self, run: Path, respondent: Respondent, journal: Journal) -> None:
        self._run = run
        self._model = journal.served_model()
        self._respondent = respondent if isinstance(respondent, OpenAIRespondent) else None
        self._ways = ways_in(read_manifest(run) or {}) if self._respondent else {}
        counting = [_without_room(way) for way in journal.ways()] if self._ways else []
        self._first_way = next((way for way in self._ways.values() if _without_room(way) in counting), None)
        self._said: set[str] = set()

    def compare(self, replies: Iterable[Reply]) -> None:
        """Compare some replies that have just come with the first one."""
        for reply in replies:
            model = served_model_in(reply.detail)
            self._model = self._model or model
            if model not in (None, self._model):
                self._warn(
                    "The server now names its model %r, and named it %r in the first reply of the run %s: its answers may "
                    "come from two models. Use another run for one of them.",
                    *(model, self._model, self._run),
                )
        if self._respondent is None or (now := self._respondent.ways).items() <= self._ways.items():
            return
        self._ways = {**self._ways, **now}
        manifest = read_manifest(self._run)
        assert manifest is not None  # written by `set_up`
        manifest["ways"][ways_key(self._respondent.name, manifest["respondent"]["settings"])] = self._ways
        write_manifest(self._run, manifest)
        self._first_way = self._first_way or next(iter(now.values()))
        if other := next((way for way in now.values() if way != self._first_way), None):
            words = (found.words() if (found := Way.of(way)) else way for way in (self._first_way, other))
            self._warn(
                "The replies of the run %s are asked for in more than one way: %s; and %s. Where that matters, fix one with "
                "the respondent's ask, logprobs or system_as_user: all questions are then asked anew.",
                *(self._run, *words),
            )

    def _warn(self, message: str, *values: Any) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning(message, *values)


def _without_room(way: Any) -> Any:
    """A way without its room to think, which is given reply by reply."""
    return {name: value for name, value in way.items() if name != "room"} if isinstance(way, Mapping) else way
