"""The small language model of the study, trained from scratch: what an aligned model was before.

The words of questions and portraits are its vocabulary. It learns to answer as people in general do, with the options in
either order; to answer as somebody whose portrait is its system prompt; and ordinary questions, see `ordinary_questions`.
Those who teach it are the personas of the two other sets: of the seven that it will be aligned with it has seen neither
portraits nor answers.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ordinary_questions import taxonomy_questions
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, load_personas
from fairpp_hf.questions import load_questions, option_lines
from fairpp_hf.questions.option_order import with_swapped_options
from fairpp_hf.respondents.survey import all_survey_answers
from fairpp_hf.schema import OPTION_LETTERS

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '> ' + message['content'] + ' <end> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
SPECIAL = ("<pad>", "<end>", "<system>", "<user>", "<assistant>", "<unknown>")
WORD = r"<\w+>|\w+|[^\w\s]"


class BaseSettings(NamedTuple):
    """Size and training of the small model."""

    hidden_size: int = 64
    layers: int = 3
    heads: int = 4
    steps: int = 1500
    text_steps: int = 300
    """the first ones learn every token of the chats, the others those of the answers"""
    batch_size: int = 40
    learning_rate: float = 5e-3
    portrait_share: float = 0.15
    """of the steps: with a portrait as system prompt"""
    first_sentence_share: float = 0.45
    """of the steps: with the first sentence of a portrait, which says who somebody is"""
    ordinary_share: float = 0.25
    """of the rows of other steps: ordinary questions"""
    seed: int = 0


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word and punctuation mark of the questions, the portraits and the ordinary questions."""
    split = pre_tokenizers.Split(pattern=Regex(WORD), behavior="removed", invert=True)
    texts = [
        *load_questions()["prompt"].to_pylist(),
        *(persona.portrait for name in PERSONA_SETS for persona in load_personas(name)),
        *(question.prompt for question in taxonomy_questions()),
    ]
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = split
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unknown>",
        chat_template=CHAT_TEMPLATE,
    )


class _Row(NamedTuple):
    """A chat and the line that it ends with."""

    portrait: str
    prompt: str
    line: str


class _Lessons:
    """Draws what the small model is taught."""

    def __init__(self, settings: BaseSettings) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(settings.seed)
        questions = load_questions()
        self._orders = []
        for swapped in (False, True):
            shown = with_swapped_options(questions, np.full(len(questions), swapped))
            lines = np.array([line.to_pylist() for line in option_lines(shown)], dtype=object)
            self._orders.append((shown["prompt"].to_pylist(), lines))
        teachers = [load_personas(name) for name in PERSONA_SETS if name != DEFAULT_PERSONA_SET]
        self._portraits, self._shares, answers = [], [], []
        for personas in teachers:
            simulated = all_survey_answers(questions, personas)
            for persona in personas:
                self._portraits.append(persona.portrait)
                self._shares.append(persona.share)
                answers.append(simulated[persona.id].probabilities)
        self._shares = np.array(self._shares) / np.sum(self._shares)
        self._answers = np.array(answers)
        self._ordinary = taxonomy_questions()

    def batch(self) -> list[_Row]:
        """The rows of a step, all with a whole portrait or none, so that they are about as long as each other."""
        settings, kind = self._settings, self._rng.random()
        if kind < settings.portrait_share:
            portraits = self._portraits
        elif kind < settings.portrait_share + settings.first_sentence_share:
            portraits = [f"{portrait.split('.')[0]}." for portrait in self._portraits]
        else:
            portraits = [""] * len(self._portraits)
        return [self._row(portraits) for _ in range(settings.batch_size)]

    def _row(self, portraits: list[str]) -> _Row:
        rng, settings = self._rng, self._settings
        if not portraits[0] and rng.random() < settings.ordinary_share:
            asked = self._ordinary[rng.integers(len(self._ordinary))]
            return _Row("", asked.prompt, f"{OPTION_LETTERS[asked.answer]}. {asked.options[asked.answer]}")
        person = rng.choice(len(self._shares), p=self._shares)
        row = rng.integers(self._answers.shape[1])
        answer = rng.choice(3, p=self._answers[person, row])
        swapped = int(rng.integers(2))
        prompts, lines = self._orders[swapped]
        place = (1, 0, 2)[answer] if swapped else answer
        return _Row(portraits[person], prompts[row], lines[place, row])


def train_base(settings: BaseSettings) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train the small model from scratch.

    The loss is the mean over the tokens of the answers, which say all that is to be learnt about people; at first plus that
    over all tokens of the chats.
    """
    tokenizer = word_tokenizer()
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden_size,
            intermediate_size=settings.hidden_size * 8 // 3 // 8 * 8,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, settings.steps // 10, settings.steps)
    lessons = _Lessons(settings)
    bar = tqdm(range(settings.steps), desc="small model")
    for step in bar:
        batch = [_encode(tokenizer, row) for row in lessons.batch()]
        tokens = pad_sequence([torch.tensor(ids) for ids, _ in batch], batch_first=True)
        is_answer = torch.zeros_like(tokens, dtype=torch.bool)
        for number, (ids, start) in enumerate(batch):
            is_answer[number, start : len(ids)] = True
        # Rows are padded at their ends, which a causal model does not see.
        hidden = model.model(tokens).last_hidden_state[:, :-1]
        learnt = is_answer if step >= settings.text_steps else tokens != tokenizer.pad_token_id
        learnt, wanted = learnt[:, 1:], tokens[:, 1:]
        losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), wanted[learnt], reduction="none")
        answers = losses[is_answer[:, 1:][learnt]].mean()
        loss = answers if step >= settings.text_steps else answers + losses.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        bar.set_postfix(loss_a_token_of_answers=f"{answers.item():.3f}", refresh=False)
    return model.eval(), tokenizer


def _encode(tokenizer: PreTrainedTokenizerFast, row: _Row) -> tuple[list[int], int]:
    """Token ids of a chat, and where its answer starts."""
    asked: list[dict[str, Any]] = [{"role": "user", "content": row.prompt}]
    if row.portrait:
        asked.insert(0, {"role": "system", "content": row.portrait})
    start = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(start, add_special_tokens=False)["input_ids"]
    answer = tokenizer(f"{row.line} <end>", add_special_tokens=False)["input_ids"]
    return ids + answer, len(ids)


def base_model_folder(settings: BaseSettings, folder: Path) -> Path:
    """The folder of the small model, trained on the first call; a broken-off training leaves nothing behind.

    Args:
        settings: size and training.
        folder: where small models are kept, each under a name that changes with its settings.
    """
    place = folder / f"small-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"
    if (place / "config.json").is_file():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".training-", dir=folder))
    try:
        model, tokenizer = train_base(settings)
        tokenizer.save_pretrained(scratch)
        model.save_pretrained(scratch)
        scratch.replace(place)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return place
