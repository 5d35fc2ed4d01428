"""The storyteller: a model on a server that tells the options of a question as scenes."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from fairpp_hf.respondents.base import SIMULATED, Reply, Request
from fairpp_hf.respondents.ladder import Way
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.scenarios.stories import STORY_SCHEMA, Story, check_story, persona_names, wording_digest
from fairpp_hf.schema import NO_ANSWER

TRIES = 3
"""How often a story is told, at most, until it passes the checks. At temperature 0, the second would be the first again."""


class StorytellerRespondent(OpenAIRespondent):
    """Asks a chat model over the OpenAI API for stories, and checks each with `check_story`.

    A server with structured output is asked for the JSON schema of a story; one that rejects it gets the same request
    without, since the prompt describes the JSON as well. A reply that holds no fit story is asked for again. When the tries
    are used up, its status is `invalid`, or `truncated` where the reply was cut off, and `detail["problems"]` has the
    sentences on what is wrong with it. An `ok` reply has no answer: it is a story.

    Args:
        model: The model's name on the server.
        questions: Those that will be told, with the columns of `QUESTION_FEATURES`.
        personas: Personas of the run, whom no story may name; those of the shipped sets never may be.
        tries: How often a story is told at most; at least 1, and no more at temperature 0. Each is paid for. `TRIES` by
            default, or 1 at temperature 0.
        temperature: Sampling temperature; at least 0.
        max_tokens: Enough for three scenes in JSON; at least 1. It is no part of the settings: a whole story stays the
            one that it is, whatever the limit was.
        server: Arguments of `OpenAIRespondent`: `base_url`, `api_key`, `concurrency`, `max_retries` and `timeout_s`.

    Raises:
        ValueError: An argument out of range, or neither a key nor a base URL.
    """

    response_format: Mapping[str, Any] = {
        "type": "json_schema",
        "json_schema": {"name": "story", "strict": True, "schema": STORY_SCHEMA},
    }
    tells_stories = True

    def __init__(
        self,
        model: str,
        questions: pa.Table,
        *,
        personas: Iterable[Any] = (),
        tries: int | None = None,
        temperature: float = 0.7,
        max_tokens: int = 1_500,
        **server: Any,
    ) -> None:
        if tries is not None and tries < 1:
            raise ValueError(f"tries must be at least 1; got {tries}.")
        if tries is not None and tries > 1 and temperature == 0:
            raise ValueError(
                f"tries must be 1 at temperature 0; got {tries}, which would be paid for one by one and all alike. Raise "
                "--storyteller-temperature, or leave out --tries."
            )
        super().__init__(model, temperature=temperature, max_tokens=max_tokens, **server)
        self.further_tries = (TRIES if temperature else 1) - 1 if tries is None else tries - 1
        self._names = persona_names(personas)
        self._questions = {row["question_id"]: row for row in questions.drop(["prompt"]).to_pylist()}

    @property
    def name(self) -> str:
        """`storyteller:` and the model."""
        return f"storyteller:{self.model}{SIMULATED}"

    @property
    def settings(self) -> dict[str, Any]:
        """Model, temperature, and a digest of what it is told."""
        told = {name: super(StorytellerRespondent, self).settings[name] for name in ("model", "temperature")}
        return {**told, "kind": "storyteller", "wording": wording_digest()}

    @property
    def top_way(self) -> Way:
        """How a server is asked first: for the JSON schema of a story."""
        return Way(ask="schema", top_logprobs=0)

    def read(self, completion: Mapping[str, Any], request: Request, latency_s: float, way: Way | None = None) -> Reply:
        """Turn a chat completion, as it stands in JSON, into a reply without an answer: `ok` is a fit story.

        Raises:
            ValueError: It is not a chat completion with a choice.
        """
        reply = super().read(completion, request, latency_s, way)
        if reply.status in ("refusal", "empty"):
            return reply
        detail = dict(reply.detail or {})
        found = check_story(reply.raw, self._questions[request.question_id], self._names)
        if isinstance(found, Story):
            return reply._replace(answer=NO_ANSWER, probabilities=None, status="ok", detail=detail)
        status = "truncated" if detail.get("finish_reason") == "length" else "invalid"
        detail["problems"] = [problem.sentence for problem in found]
        return reply._replace(answer=NO_ANSWER, probabilities=None, status=status, detail=detail)

    def worth_another_try(self, reply: Reply) -> bool:
        """Whether a reply that was paid for is asked for again: one without a fit story, unless it is a refusal."""
        return reply.status in ("empty", "invalid", "truncated")
