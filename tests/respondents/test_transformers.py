import asyncio
import itertools
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from asked_openai import ask
from numpy.typing import NDArray
from tiny_models import CHAT_TEMPLATE

from fairpp_hf.respondents import Reply, Request, Respondent, TransformersRespondent
from fairpp_hf.respondents.transformers import CHUNK
from fairpp_hf.scoring import OptionScorer


class Scores(NamedTuple):
    logprobs: np.ndarray
    probabilities: np.ndarray
    letter_logprobs: np.ndarray
    tokens: np.ndarray


class FakeScorer:
    """Scores by the number in the prompt: option n % 3 gets 0.5, the others 0.25; gives the sizes of its calls.

    The last of a call come first, in batches of up to 100.
    """

    rule = "line"

    def __init__(self, broken: Sequence[int] = (), value: float = math.nan) -> None:
        self.broken, self.value, self.sizes = broken, value, []

    def iterate(
        self, messages: Sequence[Any], options: Sequence[Sequence[str]]
    ) -> Iterator[tuple[NDArray[np.int64], Scores]]:
        assert len(messages) == len(options)
        self.sizes.append(len(messages))
        rows = np.arange(len(messages))[::-1]
        for batch in np.split(rows, range(100, len(rows), 100)):
            yield batch, self.score([messages[row] for row in batch])

    def score(self, messages: Sequence[Any]) -> Scores:
        numbers = [int(chat[-1]["content"]) for chat in messages]
        probabilities = np.full((len(numbers), 3), 0.25)
        probabilities[np.arange(len(numbers)), np.asarray(numbers) % 3] = 0.5
        logprobs = np.log(probabilities) - 3
        logprobs[[number in self.broken for number in numbers], 1] = self.value
        shifted = np.exp(logprobs - logprobs.max(axis=1, keepdims=True))
        tokens = np.tile([5, 6, 7], (len(numbers), 1))
        return Scores(logprobs, shifted / shifted.sum(axis=1, keepdims=True), np.log(probabilities), tokens)


def requests(count: int) -> list[Request]:
    return [Request(f"q{n}", "p", [{"role": "user", "content": str(n)}], ("x", "y", "z")) for n in range(count)]


class Stoppable(list[Request]):
    stopped = False


def test_the_answer_is_the_likeliest_option_with_its_probabilities() -> None:
    scorer = FakeScorer()
    respondent = TransformersRespondent("org/Some-Model", scorer=scorer)
    replies = ask(respondent, requests(CHUNK + 2))
    assert isinstance(respondent, Respondent)
    assert sorted(replies) == list(range(CHUNK + 2))
    assert [replies[n].answer for n in range(CHUNK + 2)] == [n % 3 for n in range(CHUNK + 2)]
    assert replies[1].probabilities == pytest.approx((0.25, 0.5, 0.25))
    assert (replies[1].status, replies[1].raw, replies[1].usage) == ("ok", None, None)
    letters = [math.log(p) for p in (0.25, 0.5, 0.25)]
    assert replies[1].detail == {
        "logprobs": pytest.approx([letter - 3 for letter in letters]),
        "letter_logprobs": pytest.approx(letters),
        "tokens": [5, 6, 7],
    }
    assert scorer.sizes == [CHUNK, 2]


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_log_probabilities_that_are_no_numbers_fail_their_request_alone(value: float) -> None:
    with np.errstate(invalid="ignore"):
        replies = ask(TransformersRespondent("m", scorer=FakeScorer(broken=[1], value=value)), requests(3))
    assert [(replies[n].answer, replies[n].status) for n in range(3)] == [(0, "ok"), (-1, "failed"), (2, "ok")]
    assert replies[1].probabilities is None
    assert replies[1].detail is not None
    assert replies[1].detail["error"].startswith("log-probabilities must be finite; got [")


def test_swapped_options_are_scored_as_shown_and_further_samples_are_refused() -> None:
    class OptionsScorer(FakeScorer):
        """Prefers the option that says "y", wherever it stands."""

        def iterate(
            self, messages: Sequence[Any], options: Sequence[Sequence[str]]
        ) -> Iterator[tuple[NDArray[np.int64], Scores]]:
            preferred = [tuple(texts).index("y") for texts in options]
            return super().iterate([[{"content": str(number)}] for number in preferred], options)

    plain = requests(1)[0]
    swapped = plain._replace(options=("y", "x", "z"), swapped=True)
    replies = ask(TransformersRespondent("m", scorer=OptionsScorer()), [plain, swapped])
    assert [replies[n].answer for n in range(2)] == [1, 0]
    with pytest.raises(ValueError, match="asked each question once") as error:
        ask(TransformersRespondent("m", scorer=FakeScorer()), [plain, plain._replace(sample=2)])
    assert str(error.value) == (
        "The transformers respondent must be asked each question once; got sample 2 at request 1. It reads the option "
        "probabilities off, which are the same every time. Ask for one sample."
    )


def test_requests_are_taken_a_chunk_at_a_time() -> None:
    taken = itertools.count()

    class Watched(list[Request]):
        def __iter__(self):
            for request in super().__iter__():
                next(taken)
                yield request

    async def first() -> None:
        stream = TransformersRespondent("m", scorer=FakeScorer()).answer(Watched(requests(3 * CHUNK)))
        await anext(stream)
        await stream.aclose()

    asyncio.run(first())
    assert next(taken) == CHUNK


def test_a_stopped_run_finishes_its_batch_and_begins_no_other() -> None:
    async def stopped_after(replies: int) -> list[int]:
        asked, found = Stoppable(requests(250)), []
        async for index, _ in TransformersRespondent("m", scorer=FakeScorer()).answer(asked):
            found.append(index)
            asked.stopped = len(found) >= replies
        return found

    assert asyncio.run(stopped_after(130)) == list(range(249, 49, -1))


def test_a_stopped_run_keeps_what_other_processes_have_scored() -> None:
    """Of 250 requests, process 0 has the first 150; it is stopped after its first batch, the last 100 of them."""

    class Shared(FakeScorer):
        processes = 2
        owed: tuple[list[Any], Sequence[Any]] | None = None

        def iterate(self, messages: Sequence[Any], options: Sequence[Sequence[str]]) -> Any:
            self.owed = (list(range(150, len(messages))), messages)
            yield from super().iterate(messages[:150], options[:150])
            yield from self.leave()

        def leave(self) -> Any:
            if self.owed is not None:
                (rows, messages), self.owed = self.owed, None
                yield np.array(rows), self.score([messages[row] for row in rows])

    async def collect() -> dict[int, Reply]:
        asked, found = Stoppable(requests(250)), {}
        async for index, reply in TransformersRespondent("m", scorer=Shared()).answer(asked):
            found[index] = reply
            asked.stopped = True
        return found

    found = asyncio.run(collect())
    assert sorted(found) == list(range(50, 250))
    assert all(reply.answer == index % 3 for index, reply in found.items())


def test_a_request_beyond_the_context_fails_alone(tiny_model_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scorer = OptionScorer.from_pretrained(tiny_model_path)
    asked = requests(4)
    for number in (1, 3):
        asked[number] = asked[number]._replace(messages=[{"role": "user", "content": "fair " * 200}])
    expected = scorer.score([asked[n].messages for n in (0, 2)], [asked[n].options for n in (0, 2)]).probabilities
    tokens = scorer.encode([asked[1].messages], [asked[1].options])[0].longest
    scorer.model.config.max_position_embeddings = 100
    replies = ask(TransformersRespondent(tiny_model_path, scorer=scorer), asked)
    np.testing.assert_allclose([replies[n].probabilities for n in (0, 2)], expected, rtol=1e-4)
    reason = f"a prompt with its longest option must have at most 100 tokens, the model's context; got {tokens}"
    for number in (1, 3):
        assert replies[number][:3] == (-1, None, "failed")
        assert replies[number].detail == {"error": reason}
    assert f"Question q1 and 1 more cannot be asked: {reason}." in caplog.messages


def test_settings_tell_contents_apart_and_not_paths(tmp_path: Path) -> None:
    adapter = tmp_path / "a" / "dpo"
    adapter.mkdir(parents=True)
    (adapter / "weights").write_bytes(b"one")

    def settings(path: Path) -> dict[str, Any]:
        return TransformersRespondent("m", adapter=path, scorer=FakeScorer()).settings

    first = settings(adapter)
    shutil.copytree(adapter, tmp_path / "b" / "dpo")
    assert settings(tmp_path / "b" / "dpo") == first
    (adapter / "weights").write_bytes(b"two")
    assert settings(adapter) != first
    assert settings(adapter)["model"] == "m"
    assert settings(adapter)["rule"] == "line"


def test_a_real_tiny_model_answers(tiny_model_path: Path) -> None:
    """The loaded scorer and the respondent agree, question by question."""
    respondent = TransformersRespondent(tiny_model_path)
    asked = requests(5)
    replies = ask(respondent, asked)
    expected = respondent.scorer.score([r.messages for r in asked], [r.options for r in asked]).probabilities
    np.testing.assert_allclose([replies[n].probabilities for n in range(5)], expected, rtol=1e-9)
    assert [replies[n].answer for n in range(5)] == expected.argmax(axis=1).tolist()
    assert respondent.name == "transformers:tiny-llama (simulated)"


REFUSING = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
DROPPING = "{% set messages = messages[1:] if messages[0].role == 'system' else messages %}"


@pytest.mark.parametrize("template", [REFUSING + CHAT_TEMPLATE, DROPPING + CHAT_TEMPLATE])
def test_a_portrait_without_a_system_role_begins_the_users_message(
    template: str, tiny_model_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The oracle is a request that is written so to begin with, on the same model."""
    usual = TransformersRespondent(tiny_model_path)
    chat = [{"role": "system", "content": "You."}, {"role": "user", "content": "Which?"}]
    asked = requests(1)[0]._replace(messages=chat)
    by_hand = requests(1)[0]._replace(messages=[{"role": "user", "content": "You.\n\nWhich?"}])
    expected = ask(usual, [by_hand])[0].probabilities
    assert expected is not None
    scorer = OptionScorer.from_pretrained(tiny_model_path)
    scorer.tokenizer.chat_template = template
    respondent = TransformersRespondent(tiny_model_path, scorer=scorer)
    assert ask(respondent, [asked])[0].probabilities == pytest.approx(expected)
    assert (usual.settings["system_as_user"], respondent.settings["system_as_user"]) == (False, True)
    assert caplog.messages == [
        f"The chat template of {tiny_model_path} takes no system message: portraits are put into the user's message."
    ]
    fixed = TransformersRespondent(tiny_model_path, scorer=usual.scorer, system_as_user=True)
    assert ask(fixed, [asked])[0].probabilities == pytest.approx(expected)
    assert fixed.settings == respondent.settings
    assert ask(usual, [asked])[0].probabilities != pytest.approx(expected)


def test_an_adapter_on_the_hub_is_told_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was trained further has the same name, and gives new replies."""

    def adapter() -> str:
        return TransformersRespondent("m", adapter="org/lora", scorer=FakeScorer()).settings["adapter"]

    cache = tmp_path / "models--org--lora"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert adapter() == "org/lora"
    commit = "0123456789" * 4
    (cache / "snapshots" / commit).mkdir(parents=True)
    (cache / "snapshots" / commit / "adapter_config.json").write_text("{}")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    assert adapter() == f"org/lora@{commit}"
    assert TransformersRespondent("m", adapter="../a b", scorer=FakeScorer()).settings["adapter"] == "../a b"


def test_the_type_of_the_weights_tells_replies_apart(tiny_model_path: Path) -> None:
    scorer = OptionScorer.from_pretrained(tiny_model_path, dtype=torch.bfloat16)
    usual = TransformersRespondent(tiny_model_path).settings
    assert TransformersRespondent(tiny_model_path, scorer=scorer).settings == {**usual, "dtype": "bfloat16"}
