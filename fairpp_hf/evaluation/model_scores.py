"""Option probabilities of models for questions: each model is asked in a run of its own, kept reply by reply.

A run (`generation.generate`) knows a reply by everything that decides it, so that an interrupted scoring continues, and
what was scored once is never scored again in the same folder: not by the same command, and not by another one.
"""

import gc
import hashlib
import json
import logging
import math
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.evaluation.models import ModelSpec, absolute, check_names
from fairpp_hf.evaluation.results import SystemScores
from fairpp_hf.generation import RunOptions, generate, load_prices
from fairpp_hf.generation.budget import check_max_cost
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.respondents.base import Respondent
from fairpp_hf.respondents.client import public_address
from fairpp_hf.runs.manifest import ways_in
from fairpp_hf.runs.records import load_replies, manifest_of
from fairpp_hf.scenarios.tell_and_answer import spent_in
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

if TYPE_CHECKING:
    from fairpp_hf.generation import BatchLimits
    from fairpp_hf.personas import PersonaSet
    from fairpp_hf.scoring.encoding import Rule

logger = logging.getLogger(__name__)

RUNS = "scores"
"""In the folder of an evaluation: the runs, one a model and prompt."""

PLAIN = "plain"
"""Who is asked where nobody's portrait is the system prompt."""


class ApiOptions(NamedTuple):
    """How models with a `base_url` are asked."""

    respondent: Mapping[str, Any] = {}
    """Arguments of `OpenAIRespondent`, such as `max_tokens`."""
    price: Sequence[float] | None = None
    """USD per million input and output tokens, of every such model."""
    price_file: Path | None = None
    """A table of prices, see `load_prices`."""
    batch: "BatchLimits | None" = None
    """Ask by the OpenAI Batch API, within these limits."""


class Speaker(NamedTuple):
    """Who is asked, in the place of a persona."""

    id: str = PLAIN
    portrait: str = ""
    """The system message; empty for none."""


class _Speakers(tuple[Speaker, ...]):
    """Stands in the place of a persona set in a run: who speaks is a model, as it is or in a role."""

    id = "speakers"


class _Run(NamedTuple):
    """What is asked for one entry."""

    spec: ModelSpec
    path: Path
    speakers: Any
    """`_Speakers`."""
    questions: pa.Table
    swap: bool
    progress: bool

    def generate(self, respondent: Respondent, **others: Any) -> None:
        """`generate` the run."""
        # How the questions were chosen is not known here; how many they are is what the log says when others are asked.
        options = RunOptions(selection={"limit": len(self.questions)}, swap=self.swap, progress=self.progress, **others)
        generate(self.path, respondent, self.speakers, self.questions, options)


def score_models(
    models: Sequence[ModelSpec],
    questions: pa.Table,
    out: Path,
    *,
    personas: "PersonaSet | None",
    rule: "Rule" = "line",
    batch_size: int | None = None,
    dtype: str | None = None,
    system_as_user: bool = False,
    swap: bool = True,
    api: ApiOptions | None = None,
    max_cost: float | None = None,
    progress: bool = True,
) -> list[SystemScores]:
    """Score the options of questions under several models, one model in memory at a time.

    Called again with the same folder, it continues where it stopped; `failed` replies are asked again.

    Under `accelerate launch`, every process calls it with the same arguments: process 0 asks and keeps the replies, the
    others do their share of the forward passes and get an empty list.

    Args:
        models: Entries with unique names; those of one model are scored one after the other, whatever their order.
        questions: N different questions with the columns of `QUESTION_FEATURES`.
        out: Folder; the runs go into `scores` in it.
        personas: The set with the portraits of those whom entries role-play; None where none does.
        rule: Part of an option that a model loaded here scores, see `OptionScorer`.
        batch_size: Largest number of questions a forward pass; None for as many as fit.
        dtype: Type of the weights of a model that is loaded here, such as `"bfloat16"`, or `"auto"` for what it was saved
            in; None for float32 on a CPU and `"auto"` elsewhere.
        system_as_user: Whether the portrait begins the user's message, of a model that is loaded here.
        swap: Whether each question is asked in both orders of its options A and B.
        api: Settings for models with a `base_url`.
        max_cost: USD that all replies of such models in `out` may cost together, those of earlier calls included.
        progress: Whether to show progress bars.

    Returns:
        Scores in the order of `models`.

    Raises:
        ValueError: something about the arguments is wrong; nothing has been scored.
        OSError: a model cannot be found (nothing has been scored), or a run cannot be written.
        RuntimeError: another process writes to a run, a server refuses to go on, or `max_cost` is reached. Replies are kept.
        RunInterrupted: the user stopped; replies are kept, and the same call continues.
    """
    from fairpp_hf.respondents import OpenAIRespondent

    api = api or ApiOptions()
    check_models(models, personas)
    runs = [_run_of(spec, out, personas, questions, swap, progress) for spec in models]
    # What is wrong with the questions is said before a model is loaded.
    RequestPlan(runs[0].speakers, questions, swap=swap)
    servers: dict[Path, Any] = {
        run.path: OpenAIRespondent(run.spec.model, base_url=run.spec.base_url, **api.respondent)
        for run in runs
        if run.spec.base_url is not None
    }
    if max_cost is not None and not servers:
        raise ValueError(f"max_cost must come with a model on a server; got {max_cost} and none. Leave it out.")
    money = {path: load_prices(each.model, api.price_file, api.price, each.address) for path, each in servers.items()}
    for path, respondent in servers.items():
        check_max_cost(max_cost, money[path], respondent.name)
    # Runs of the same model, adapter and server together, so that it is loaded once.
    groups: dict[Any, list[_Run]] = {}
    for run in runs:
        spec = run.spec
        groups.setdefault((spec.model, spec.adapter, spec.revision, spec.base_url), []).append(run)
    scored: dict[str, SystemScores] = {}
    for group in groups.values():
        if group[0].spec.base_url is None:
            loading = {"rule": rule, "batch_size": batch_size, **({} if dtype is None else {"dtype": dtype})}
            scored |= _score_here(group, loading, system_as_user)
        elif is_main_process():
            for run in group:
                spent_elsewhere = math.fsum(spent_in(other) for other in servers if other != run.path)
                run.generate(
                    servers[run.path],
                    prices=money[run.path],
                    max_cost=max_cost,
                    spent_elsewhere=spent_elsewhere,
                    batch=api.batch,
                )
                scored[run.spec.name] = _read(run, servers[run.path], None)
    return [scored[spec.name] for spec in models] if is_main_process() else []


def is_main_process() -> bool:
    """Whether this is process 0, which alone asks, writes and prints; True where there is but one."""
    return int(os.environ.get("RANK", "0")) == 0


def check_models(models: Sequence[ModelSpec], personas: "PersonaSet | None") -> None:
    """Check all that can be wrong with models before the first is loaded: names, portraits, files, chat templates.

    Raises:
        ValueError: names are not unique, a persona is unknown or its set is, an adapter cannot be found or is given as a
            model, or a tokenizer has no chat template.
        OSError: a model cannot be found.
    """
    check_names(models)
    for spec in models:
        if spec.persona is not None:
            if personas is None:
                raise ValueError(
                    f"personas must be given to role-play {spec.persona!r}; got none for {spec.name!r}. The set has the "
                    "portrait. Pass the set."
                )
            personas.get(spec.persona)
    local = [spec for spec in models if spec.base_url is None]
    # What is wrong is said of the first entry that has it.
    adapted = [spec for spec in local if spec.adapter is not None]
    for spec in {(spec.adapter, spec.model): spec for spec in reversed(adapted)}.values():
        _check_adapter(spec)
    for spec in {(spec.model, spec.revision): spec for spec in reversed(local)}.values():
        _check_model(spec)


def _check_adapter(spec: ModelSpec) -> None:
    from peft import PeftConfig

    try:
        base = PeftConfig.from_pretrained(str(spec.adapter)).base_model_name_or_path
    except (OSError, ValueError) as error:
        raise ValueError(
            f"adapter must be the path or Hub name of a PEFT adapter; got {spec.adapter!r} at {spec.name!r}. {error}"
        ) from error
    of_one_name = base and Path(absolute(base)).name == Path(absolute(spec.model)).name
    if base and not of_one_name and os.path.realpath(base) != os.path.realpath(spec.model):
        # Perhaps a copy under another name, and so no error.
        logger.warning(
            "The adapter %r of %r says that it was trained on %r, and is scored on %r. Unless the two are the same model, "
            "its scores mean nothing.",
            *(spec.adapter, spec.name, base, spec.model),
        )


def _check_model(spec: ModelSpec) -> None:
    from transformers import AutoConfig, AutoTokenizer

    from fairpp_hf.scoring.option_scorer import check_whole

    check_whole(spec.model)
    try:
        AutoConfig.from_pretrained(spec.model, revision=spec.revision or "main")
        tokenizer = AutoTokenizer.from_pretrained(spec.model, revision=spec.revision or "main")
    except (OSError, ValueError) as error:
        raise OSError(
            f"model must be the path or Hub name of a causal language model; got {spec.model!r} at {spec.name!r}. {error}"
        ) from error
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            f"model must have a chat template; got none in {spec.model!r} at {spec.name!r}. Use an instruction-tuned model."
        )


def _run_of(spec: ModelSpec, out: Path, personas: "PersonaSet | None", *asked: Any) -> _Run:
    """Where an entry's replies are kept, who speaks, and what is asked."""
    speaker = Speaker()
    if spec.persona is not None:
        assert personas is not None  # by check_models
        speaker = Speaker(spec.persona, personas.get(spec.persona).portrait)
    url = None if spec.base_url is None else public_address(spec.base_url)
    places = [_place(spec.model), _place(spec.adapter), spec.revision, url, spec.persona]
    digest = hashlib.sha256(json.dumps(places).encode()).hexdigest()[:8]
    words = [Path(absolute(part)).name for part in (spec.model, spec.adapter, spec.persona) if part is not None]
    slug = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in "+".join(words))
    return _Run(spec, out / RUNS / f"{slug}-{digest}", _Speakers([speaker]), *asked)


def _place(name: str | None) -> str | None:
    """A Hub name as it is, a local folder by its whole path, however it was given."""
    return str(Path(name).resolve()) if name is not None and Path(name).is_dir() else name


def _score_here(runs: Sequence[_Run], loading: Mapping[str, Any], system_as_user: bool) -> dict[str, SystemScores]:
    """Score the runs of one model, which is loaded for them, with these arguments, and let go of again."""
    from fairpp_hf.respondents import TransformersRespondent
    from fairpp_hf.scoring import OptionScorer
    from fairpp_hf.scoring.distributed import SharedScorer, join_processes

    process, processes = join_processes()
    spec = runs[0].spec
    options: Any = dict(loading) if spec.revision is None else {**loading, "revision": spec.revision}
    try:
        own = OptionScorer.from_pretrained(spec.model, adapter=spec.adapter, **options)
    except (RuntimeError, ValueError) as error:
        reason = _misfit(error)
        if spec.adapter is None or reason is None:
            raise
        raise ValueError(
            f"adapter must be trained on its model; got {spec.adapter!r} with {spec.model!r} at {spec.name!r}. {reason}. "
            "Name the model that it was trained on."
        ) from error
    scorer: Any = own if processes == 1 else SharedScorer(own)
    scored = {}
    if process:
        _serve(scorer)
    else:
        try:
            respondent = TransformersRespondent(
                spec.model, adapter=spec.adapter, scorer=scorer, system_as_user=system_as_user
            )
            for run in runs:
                run.generate(respondent)
                scored[run.spec.name] = _read(run, respondent, scorer.template_hash)
            del respondent
        finally:
            if processes > 1:
                scorer.close()
    del own, scorer
    gc.collect()  # adapters hold on to their models in circles
    return scored


def _misfit(error: Exception) -> str | None:
    """Why an adapter does not go with a model, in one sentence; None for any other error."""
    said = str(error)
    if "arget modules" in said and "not found" in said:
        return "The model has none of the modules that it adapts"
    if "size mismatch" in said:
        line = next(line for line in said.splitlines() if "size mismatch" in line)
        return f"Their weights differ in shape ({line.strip().rstrip('.')})"
    return None


def _serve(scorer: Any) -> None:
    """Do the share of another process than 0, which alone stops when the user says so; then this one does, too."""
    received: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda number, _: received.append(number)) for number in stops}
    try:
        scorer.serve()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt


def _read(run: _Run, respondent: Respondent, template_hash: str | None) -> SystemScores:
    """The replies of a finished run as arrays."""
    spec, replies, orders = run.spec, load_replies(run.path), 2 if run.swap else 1
    if len(replies) != len(run.questions) * orders:
        raise RuntimeError(
            f"A finished run must have a reply to each request; got {len(replies):,} of {len(run.questions) * orders:,} in "
            f"{run.path}. Run the same command again."
        )
    shape = (len(run.questions), orders)
    answers = replies["answer"].to_numpy().astype(np.int8).reshape(shape)
    none = [np.nan] * len(OPTION_LETTERS)
    given = np.array([row or none for row in replies["probabilities"].to_pylist()]).reshape(*shape, len(none))
    # Probabilities where there are some, else 1 for the answer; NaN where there is no answer.
    chosen = (answers[..., None] == np.arange(len(none))).astype(np.float64)
    by_order = np.where(np.isnan(given).any(axis=-1, keepdims=True), chosen, given)
    by_order[answers == NO_ANSWER] = np.nan
    details = [json.loads(detail or "{}") for detail in replies["detail"].to_pylist()]
    swapped = replies["swapped"].to_numpy(zero_copy_only=False)[:, None]

    def of_options(name: str) -> NDArray[np.float64]:
        """Numbers of the options in the details, that of pole A first; NaN for none."""
        shown = np.array([detail.get(name) or none for detail in details], np.float64)
        return np.where(swapped, shown[:, [1, 0, 2]], shown).reshape(*shape, len(none))

    names = () if spec.base_url is not None else ("logprobs", "letter_logprobs", "tokens")
    asked = [
        detail.get("asked", {}) for detail, row in zip(details, replies["probabilities"], strict=True) if row.is_valid
    ]
    plan = RequestPlan(run.speakers, run.questions, swap=run.swap)
    return SystemScores(
        name=spec.name,
        probabilities=by_order.mean(axis=1),
        by_order=by_order,
        statuses=np.array(replies["status"].to_pylist()).reshape(shape),
        facts={
            "kind": "model",
            **{name: getattr(spec, name) for name in ("model", "adapter", "revision")},
            "base_url": None if spec.base_url is None else public_address(spec.base_url),
            "respondent": respondent.name,
            "settings": respondent.settings,
            "ways": ways_in(manifest_of(run.path)) or None,
            "constrained": sum(facts.get("ask") == "choice" for facts in asked),
            "template_hash": template_hash,
            **{name: getattr(spec, name) for name in ("persona", "region", "before")},
        },
        answers=answers,
        prompt_hashes=np.array([prompt_hash(request.messages) for request in plan]).reshape(shape),
        **{name: of_options(name) for name in names},
    )


def prompt_hash(messages: Sequence[Mapping[str, str]]) -> str:
    """SHA-256 of messages as JSON with sorted keys and no spaces, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
