"""Models are scored once each, kept reply by reply, and read back in the order of the poles."""

import hashlib
import json
import multiprocessing
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from loopback_openai import Call, LoopbackServer, Served
from tiny_models import save_tiny_adapter, save_tiny_model, tiny_model
from transformers import LlamaForCausalLM

from fairpp_hf.evaluation import model_scores
from fairpp_hf.evaluation.model_scores import ApiOptions, check_models, prompt_hash, score_models
from fairpp_hf.evaluation.models import ModelSpec
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.runs.journal import Journal
from fairpp_hf.scoring import OptionScorer

PERSONAS = load_personas()
TARGET = "loyal_nationals"


@pytest.fixture(scope="module")
def questions():
    return load_questions("test").take([0, 700, 1400, 2100, 2800])


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def scored(specs, questions, out, **others):
    return score_models(specs, questions, out, personas=PERSONAS, progress=False, **others)


@pytest.fixture(scope="module")
def two(tiny_model_path, questions, tmp_path_factory):
    """A model as it is and in a role, in both orders; its folder."""
    specs = [
        ModelSpec("plain", str(tiny_model_path), region="nowhere"),
        ModelSpec("role-play", str(tiny_model_path), persona=TARGET, before="plain"),
    ]
    out = tmp_path_factory.mktemp("scores")
    return specs, scored(specs, questions, out), out


@pytest.fixture(scope="module")
def oracle(tiny_model_path, questions):
    """Log-probabilities as the scorer itself gives them for hand-made messages: (system prompt, swapped) to (n, 3)."""
    scorer = OptionScorer.from_pretrained(tiny_model_path)

    def score(system: str | None, swapped: bool) -> np.ndarray:
        chats, options = [], []
        for row in questions.to_pylist():
            texts = [row["option_a"], row["option_b"], row["option_c"]]
            prompt = row["prompt"]
            if swapped:
                texts[:2] = texts[1::-1]
                prompt = prompt.replace(
                    f"A. {row['option_a']}\nB. {row['option_b']}", f"A. {row['option_b']}\nB. {row['option_a']}"
                )
            head = [{"role": "system", "content": system}] if system else []
            chats.append([*head, {"role": "user", "content": prompt}])
            options.append(texts)
        return scorer.score(chats, options)

    return score


def test_scores_are_those_of_the_scorer_in_both_orders(two, oracle):
    """Of the swapped order, the first two are exchanged back, so that 0 is pole A throughout."""
    for scores, system in zip(two[1], (None, PERSONAS.get(TARGET).portrait), strict=True):
        found = [oracle(system, swapped) for swapped in (False, True)]
        for name in ("letter_logprobs", "tokens"):
            both = [getattr(found[0], name), getattr(found[1], name)[:, [1, 0, 2]]]
            np.testing.assert_allclose(getattr(scores, name), np.stack(both, axis=1), atol=1e-3)
        written, swapped = found[0].logprobs, found[1].logprobs[:, [1, 0, 2]]
        np.testing.assert_allclose(scores.logprobs, np.stack([written, swapped], axis=1), atol=1e-3)
        shares = [np.exp(part) / np.exp(part).sum(axis=1, keepdims=True) for part in (written, swapped)]
        np.testing.assert_allclose(scores.by_order, np.stack(shares, axis=1), atol=1e-3)
        np.testing.assert_allclose(scores.probabilities, np.mean(shares, axis=0), atol=1e-3)
        assert scores.answers.tolist() == scores.by_order.argmax(axis=2).tolist()
        assert (scores.statuses == "ok").all()


def test_facts_and_hashes_say_how_a_system_was_asked(two, tiny_model_path, questions):
    plain, role_play = two[1]
    template = hashlib.sha256(
        OptionScorer.from_pretrained(tiny_model_path).tokenizer.chat_template.encode()
    ).hexdigest()
    assert plain.facts == {
        "kind": "model",
        "model": str(tiny_model_path),
        "adapter": None,
        "revision": None,
        "base_url": None,
        "respondent": f"transformers:{tiny_model_path.name} (simulated)",
        "settings": plain.facts["settings"],
        "ways": None,
        "constrained": 0,
        "template_hash": template,
        "persona": None,
        "region": "nowhere",
        "before": None,
    }
    assert plain.facts["settings"]["rule"] == "line"
    assert (role_play.facts["persona"], role_play.facts["before"]) == (TARGET, "plain")
    prompt = questions["prompt"][0].as_py()
    assert plain.prompt_hashes[0, 0] == prompt_hash([{"role": "user", "content": prompt}])
    text = json.dumps([{"content": "x", "role": "user"}]).replace(": ", ":").replace(", ", ",")
    assert prompt_hash([{"role": "user", "content": "x"}]) == hashlib.sha256(text.encode()).hexdigest()
    assert len({*plain.prompt_hashes.ravel(), *role_play.prompt_hashes.ravel()}) == 4 * len(questions)


def counted_forwards(monkeypatch):
    """Questions that scorers are asked from now on."""
    asked = []
    answer = model_scores.generate

    def counting(run, respondent, *rest, **others):
        summary = answer(run, respondent, *rest, **others)
        asked.append(summary.asked)
        return summary

    monkeypatch.setattr(model_scores, "generate", counting)
    return asked


def test_what_was_scored_is_not_scored_again(two, questions, monkeypatch):
    """In the same folder, whatever the entries are called and whoever else is asked beside them."""
    specs, first, out = two
    asked = counted_forwards(monkeypatch)
    again = scored(specs, questions, out)
    assert asked == [0, 0]
    np.testing.assert_array_equal(again[1].logprobs, first[1].logprobs)
    renamed = scored([ModelSpec("another name", specs[0].model)], questions, out)
    assert asked == [0, 0, 0]
    np.testing.assert_array_equal(renamed[0].by_order, first[0].by_order)
    one_order = scored(specs[:1], questions.slice(1, 2), out, swap=False)
    assert asked == [0, 0, 0, 0]
    np.testing.assert_array_equal(one_order[0].by_order, first[0].by_order[1:3, :1])
    assert scored(specs[:1], questions, out, rule="letter")[0].facts["settings"]["rule"] == "letter"
    assert asked == [0, 0, 0, 0, 10]


def test_a_model_is_loaded_once_for_all_its_entries(two, questions, tmp_path, monkeypatch):
    """Entries of two models, in turn: results are in their order all the same."""
    specs, first, out = two
    other = save_tiny_model(tmp_path / "other", seed=3)
    loaded = []
    load = OptionScorer.from_pretrained.__func__

    def counting(cls, model, **others):
        loaded.append(model)
        return load(cls, model, **others)

    monkeypatch.setattr(OptionScorer, "from_pretrained", classmethod(counting))
    mixed = [specs[0], ModelSpec("other", str(other)), specs[1]]
    found = scored(mixed, questions, out)
    assert loaded == [specs[0].model, str(other)]
    assert [scores.name for scores in found] == ["plain", "other", "role-play"]
    np.testing.assert_array_equal(found[2].logprobs, first[1].logprobs)
    assert not np.allclose(found[1].logprobs, first[0].logprobs)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (
            ModelSpec("a", "./no/model"),
            OSError,
            "model must be the path or Hub name of a causal language model; got './no/model' at 'a'. ",
        ),
        (
            ModelSpec("a", "MODEL", adapter="./no/adapter"),
            ValueError,
            "adapter must be the path or Hub name of a PEFT adapter; got './no/adapter' at 'a'. ",
        ),
        (
            ModelSpec("a", "MODEL", persona="loyal_national"),
            ValueError,
            "persona of britains_choice_2020 must be one of ",
        ),
    ],
)
def test_everything_is_checked_before_a_model_is_loaded(spec, error, message, tiny_model_path, questions, tmp_path):
    fine = ModelSpec("fine", str(tiny_model_path))
    spec = ModelSpec(**{**vars(spec), "model": spec.model.replace("MODEL", str(tiny_model_path))})
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        scored([fine, spec], questions, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def adapter_of(path, base=None, model=None):
    save_tiny_adapter(path, model)
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    return path


def test_an_adapter_of_another_model_is_warned_of(tiny_model_path, tmp_path, caplog):
    """A copy of the model under a name that ends alike is taken for the same, as is one that says nothing."""
    link = tmp_path / "link"
    link.symlink_to(tiny_model_path)
    name = tiny_model_path.name
    for base in (None, f"org/{name}", str(tiny_model_path), str(link)):
        adapter = adapter_of(tmp_path / "p", base)
        check_models([ModelSpec("a", str(tiny_model_path), adapter=str(adapter))], None)
        assert caplog.messages == []
    adapter = adapter_of(tmp_path / "p", "org/other")
    check_models([ModelSpec("a", str(tiny_model_path), adapter=str(adapter))], None)
    assert caplog.messages == [
        f"The adapter {str(adapter)!r} of 'a' says that it was trained on 'org/other', and is scored on "
        f"{str(tiny_model_path)!r}. Unless the two are the same model, its scores mean nothing."
    ]


def test_an_adapter_of_other_shapes_is_an_error_that_names_the_entry(tiny_model_path, questions, tmp_path):
    config = tiny_model().config
    config.hidden_size *= 2
    adapter = adapter_of(tmp_path / "p", model=LlamaForCausalLM(config))
    message = (
        f"adapter must be trained on its model; got {str(adapter)!r} with {str(tiny_model_path)!r} at 'wide'. Their weights "
        "differ in shape (size mismatch for "
    )
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}.*\)\. Name the model that it was trained on\.$"):
        scored([ModelSpec("wide", str(tiny_model_path), adapter=str(adapter))], questions, tmp_path / "out")


def test_role_play_without_a_persona_set_and_a_model_without_a_template(tiny_model_path, tmp_path):
    with pytest.raises(ValueError, match=r"^personas must be given to role-play 'loyal_nationals'; got none for 'a'\."):
        check_models([ModelSpec("a", str(tiny_model_path), persona=TARGET)], None)
    bare = save_tiny_model(tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match=r"^model must have a chat template; got none in .* Use an instruction-tuned"):
        check_models([ModelSpec("a", str(bare))], None)


def test_a_model_on_a_server_answers_in_text(questions, tmp_path):
    """In the role always B, without it A: each is 1 for its option in each order, and so 0.5 for each pole. Two of the
    five questions are refused without the role."""
    refused = np.array([True, False, True, False, False])
    asked = set(questions.filter(refused)["question"].to_pylist())

    def says(call: Call) -> Served:
        if not call.system and call.user.split("\n")[0] in asked:
            return Served(content=None, refusal="I would rather not.")
        return Served(content="B" if call.system else "A")

    with LoopbackServer(says) as server:
        specs = [
            ModelSpec("plain", "m", base_url=server.base_url),
            ModelSpec("role-play", "m", base_url=server.base_url, persona=TARGET),
        ]
        plain, role_play = scored(specs, questions, tmp_path)
        assert server.total == 4 * len(questions)
        again = scored(specs, questions, tmp_path)
        assert server.total == 4 * len(questions)
    assert (plain.statuses[refused] == "refusal").all()
    assert np.isnan(plain.probabilities[refused]).all()
    np.testing.assert_array_equal(plain.by_order[~refused], np.tile([[1, 0, 0], [0, 1, 0]], ((~refused).sum(), 1, 1)))
    np.testing.assert_array_equal(plain.probabilities[~refused], np.tile([0.5, 0.5, 0], ((~refused).sum(), 1)))
    np.testing.assert_array_equal(role_play.by_order, np.tile([[0, 1, 0], [1, 0, 0]], (len(questions), 1, 1)))
    assert role_play.answers.tolist() == [[1, 0]] * len(questions)
    assert (plain.logprobs, plain.letter_logprobs, plain.tokens) == (None, None, None)
    assert plain.facts["template_hash"] is None
    assert plain.facts["settings"]["model"] == "m"
    assert plain.facts["base_url"] == server.base_url
    np.testing.assert_array_equal(again[1].by_order, role_play.by_order)


def test_an_order_without_an_answer_leaves_the_question_without_one(questions, tmp_path):
    """The other order alone would carry the bias of the places."""
    first = questions["option_a"][0].as_py()

    def only_as_written(call: Call) -> Served:
        return Served(content="neither of them" if f"B. {first}" in call.user else "A")

    with LoopbackServer(only_as_written) as server:
        (scores,) = scored([ModelSpec("m", "m", base_url=server.base_url)], questions.slice(0, 1), tmp_path)
    assert scores.statuses.tolist() == [["ok", "invalid"]]
    assert scores.by_order[0, 0].tolist() == [1, 0, 0]
    assert np.isnan(scores.probabilities).all()


def test_one_cap_holds_for_all_models_on_servers(questions, tmp_path):
    """10 requests a model at 500 tokens of one dollar a million each: 0.005 USD. 0.0075 do for one model and a half."""
    api = ApiOptions(price=(1.0, 1.0), respondent={"concurrency": 1})
    usage = {"prompt_tokens": 490, "completion_tokens": 10}
    with LoopbackServer(lambda _: Served(usage=usage)) as server:
        specs = [ModelSpec(name, name, base_url=server.base_url) for name in ("a", "b")]
        with pytest.raises(RuntimeError, match=r"^max_cost must have room for the next request; got \$0.00"):
            scored(specs, questions, tmp_path, api=api, max_cost=0.0075)
        assert 10 < (total := server.total) <= 15
        with pytest.raises(ValueError, match=r"^max_cost must be at least what the run has cost so far"):
            scored(specs, questions, tmp_path, api=api, max_cost=0.0051)
        assert server.total == total
        assert len(scored(specs, questions, tmp_path, api=api, max_cost=1.0)) == 2
        assert server.total == 20


def test_a_cap_needs_a_model_that_costs(tiny_model_path, questions, tmp_path):
    with pytest.raises(ValueError, match=r"^max_cost must come with a model on a server; got 1.0 and none\."):
        scored([ModelSpec("a", str(tiny_model_path))], questions, tmp_path, max_cost=1.0)


def test_after_a_crash_it_goes_on_where_it_was(tiny_model_path, questions, tmp_path, monkeypatch):
    """The third batch of one question never comes; the next call scores it and the others that are left."""
    iterate = OptionScorer.iterate

    def dying(self, messages, options):
        for number, batch in enumerate(iterate(self, messages, options)):
            if number == 2:
                raise RuntimeError("the power is gone")
            yield batch

    spec = [ModelSpec("plain", str(tiny_model_path))]
    with monkeypatch.context() as patch:
        patch.setattr(OptionScorer, "iterate", dying)
        with pytest.raises(RuntimeError, match=r"^the power is gone$"):
            scored(spec, questions, tmp_path, batch_size=1)
    assert replies_in(tmp_path) == 2
    asked = counted_forwards(monkeypatch)
    (scores,) = scored(spec, questions, tmp_path)
    assert asked == [8]
    assert (scores.statuses == "ok").all()


def score_slowly(model: str, out: str) -> None:
    """In a process of its own, to be killed: batches of one, each of which is kept."""
    score_models(
        [ModelSpec("plain", model)], load_questions("test").slice(0, 60), Path(out), personas=None, batch_size=1
    )


@pytest.mark.slow  # imports in a process of its own; see the test before for what a crash leaves
def test_killed_it_goes_on_where_it_was(tiny_model_path, tmp_path, monkeypatch):
    """SIGKILL of a real process; the next call asks what is not kept, and the result is as if nothing had been."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fairpp_hf.evaluation.model_scores", "fairpp_hf.scoring", "peft"])
    out = tmp_path / "killed"
    process = context.Process(target=score_slowly, args=(str(tiny_model_path), str(out)))
    process.start()
    deadline = time.monotonic() + 60
    while replies_in(out) < 20 and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = replies_in(out)
    assert 20 <= before < 120
    asked = counted_forwards(monkeypatch)
    spec = [ModelSpec("plain", str(tiny_model_path))]
    questions = load_questions("test").slice(0, 60)
    (scores,) = scored(spec, questions, out)
    assert asked == [120 - before]
    (whole,) = scored(spec, questions, tmp_path / "whole")
    np.testing.assert_allclose(scores.logprobs, whole.logprobs, atol=1e-3)


def replies_in(out: Path) -> int:
    # The manifest is written when the journal is set up.
    runs = [manifest.parent for manifest in out.glob("scores/*/manifest.json")]
    if not runs:
        return 0
    with Journal(runs[0], read_only=True) as journal:
        return sum(sum(counts.values()) for counts in journal.counts().values())


def test_what_failed_is_asked_again_by_the_next_call(questions, tmp_path):
    broken = True

    def sometimes(call: Call) -> Served:
        return Served(status=400) if broken and "A. " + questions["option_a"][0].as_py() in call.user else Served()

    with LoopbackServer(sometimes) as server:
        spec = [ModelSpec("m", "m", base_url=server.base_url)]
        (scores,) = scored(spec, questions, tmp_path)
        failed = int((scores.statuses == "failed").sum())
        assert failed > 0
        total, broken = server.total, False
        (scores,) = scored(spec, questions, tmp_path)
        assert server.total == total + failed
    assert (scores.statuses == "ok").all()
