import asyncio
import hashlib
import itertools
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_models import CHAT_TEMPLATE

from fairpp_hf.respondents import Reply, Request, Respondent, TransformersRespondent
from fairpp_hf.respondents.transformers import CHUNK


class Scores(NamedTuple):
    logprobs: np.ndarray
    probabilities: np.ndarray


class FakeScorer:
    """Scores by the number in the prompt: option n % 3 gets 0.5, the others 0.25; gives the sizes of its calls.

    The last of a call come first, in batches of up to 100.
    """

    rule = "line"
    template_hash = "0" * 64

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
        return Scores(logprobs, shifted / shifted.sum(axis=1, keepdims=True))


def requests(count: int) -> list[Request]:
    return [Request(f"q{n}", "p", [{"role": "user", "content": str(n)}], ("x", "y", "z")) for n in range(count)]


def ask(respondent: Respondent, asked: list[Request]) -> dict[int, Reply]:
    async def collect() -> dict[int, Reply]:
        return {index: reply async for index, reply in respondent.answer(asked)}

    return asyncio.run(collect())


def test_the_answer_is_the_likeliest_option_with_its_probabilities() -> None:
    scorer = FakeScorer()
    respondent = TransformersRespondent("org/Some-Model", scorer=scorer)
    replies = ask(respondent, requests(CHUNK + 2))
    assert isinstance(respondent, Respondent)
    assert sorted(replies) == list(range(CHUNK + 2))
    assert [replies[n].answer for n in range(CHUNK + 2)] == [n % 3 for n in range(CHUNK + 2)]
    assert replies[1].probabilities == pytest.approx((0.25, 0.5, 0.25))
    assert (replies[1].status, replies[1].raw, replies[1].usage) == ("ok", None, None)
    assert replies[1].detail == {"logprobs": pytest.approx([math.log(p) - 3 for p in (0.25, 0.5, 0.25)])}
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
        "probabilities off, which are the same every time. Leave out --samples."
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


def test_replies_come_batch_by_batch() -> None:
    """What is scored is given, and kept by a run, before the next batch is begun."""
    begun = []

    class Watched(FakeScorer):
        def score(self, messages: Sequence[Any]) -> Scores:
            begun.append(len(messages))
            return super().score(messages)

    async def first() -> list[int]:
        stream = TransformersRespondent("m", scorer=Watched()).answer(requests(250))
        found = [(await anext(stream))[0] for _ in range(100)]
        assert begun == [100]
        await stream.aclose()
        return found

    assert asyncio.run(first()) == list(range(249, 149, -1))


def test_a_stopped_run_finishes_its_batch_and_begins_no_other() -> None:
    class Stoppable(list[Request]):
        stopped = False

    async def stopped_after(replies: int) -> list[int]:
        asked, found = Stoppable(requests(250)), []
        async for index, _ in TransformersRespondent("m", scorer=FakeScorer()).answer(asked):
            found.append(index)
            asked.stopped = len(found) >= replies
        return found

    assert asyncio.run(stopped_after(130)) == list(range(249, 49, -1))


def test_an_error_of_the_scorer_comes_through() -> None:
    class Broken(FakeScorer):
        def score(self, messages: Sequence[Any]) -> Scores:
            raise RuntimeError("Memory must hold one question at a time.")

    with pytest.raises(RuntimeError, match=r"^Memory must hold one question at a time\.$"):
        ask(TransformersRespondent("m", scorer=Broken()), requests(2))


def test_the_template_is_told_by_its_hash(tiny_model_path: Path) -> None:
    assert TransformersRespondent("m", scorer=FakeScorer()).template_hash == "0" * 64
    expected = hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()
    assert TransformersRespondent(tiny_model_path).template_hash == expected


def test_the_name_says_model_adapter_and_simulated() -> None:
    assert TransformersRespondent("org/Model-1B", scorer=FakeScorer()).name == "transformers:Model-1B (simulated)"
    respondent = TransformersRespondent("/models/Model-1B", adapter="out/dpo", scorer=FakeScorer())
    assert respondent.name == "transformers:Model-1B+dpo (simulated)"


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
