"""Which rows of a model may hold several completions of one prompt: decided here, for training and for scoring.

Such rows (`shared_prefix`) are right where attention takes a mask of its own for each row, positions go by position id,
and nothing else passes from token to token. A configuration does not say so. It is known by name and tested (`KNOWN`), or
found out:

- A fresh model says nearly the same whatever it reads, and would pass any comparison. Others are therefore compared with
  separate sequences while every linear map and embedding is enlarged, and against how much a wrong mask would change.
- What is right in short rows can be wrong in long ones. The check is made again, on rows of twice as many tokens, before a
  row that is longer than what was checked: a handful of times however long the rows become.
- Windows that a configuration names limit the sequences of known architectures, whose mask replaces the model's own, and
  the whole row of others, whose windows may go by the place in the row.

Whatever is not found right is computed as separate sequences, and one line in the log says why.
"""

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fairpp_hf.scoring.prefix_cache import PrefixCache
from fairpp_hf.scoring.shared_prefix import Completion, dropout_silenced, lay_out, model_inputs, only_predictions

logger = logging.getLogger(__name__)

# fmt: off
KNOWN = frozenset((
    "apertus", "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm", "glm4",
    "gpt2", "gpt_neox", "gpt_oss", "granite", "helium", "hunyuan_v1_dense", "internlm3", "llama", "ministral",
    "ministral3", "mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2",
))
# fmt: on
"""`model_type`s that take such rows. Each is tested against `trl.DPOTrainer` and against separate sequences."""
KNOWN_ADAPTERS = frozenset({"LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT"})
"""PEFT's kinds that change each token by itself, so that a known architecture stays known."""
KNOWN_LIBRARIES = frozenset({"torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl"})
"""Whose modules a known architecture is made of; code of a model's own or patches may compute something else."""
ROW_RULE = 1
"""Counts up when `shared_prefix` lays rows out differently, so that no kept value outlives the change."""

FIRST_CHECK = 64
"""Tokens of the shortest rows that are checked."""
ENLARGED = 2.0
"""Root mean square that outputs of maps and embeddings are brought to: attention then tells tokens and places apart."""
TELLING = 0.01
"""Nats a token that a wrong mask and wrong positions must make at least, for a check to count."""
ROUNDING = 1e-3
"""Part of that difference which is rounding in 32 bits. Of 114 architectures right ones had up to 2e-5, wrong ones 0.07 or
more."""
HALF_PRECISION_ROUNDING = 0.05
"""The same in 16 bits, where right ones had up to 0.035 (one had 0.11, and is not shared), wrong ones 0.1 or more."""
COMPARED = 16
"""Tokens of a completion that are compared, its last."""

_ATTENTION_LAYER = re.compile(r"attention|sliding|chunked|^global$|^local$")  # GPT-Neo has names of its own
_RECURRENT_LAYER = re.compile(r"linear|conv|mamba|recurrent|delta|ssm|rwkv")
# Sizes of windows, and what only sounds like one: the number of layers that have it, a state's chunks, another tower's.
_WINDOW = re.compile(r"window|chunk_size|local_attention")
_NO_WINDOW = re.compile(r"layer|pattern|^use_|^num_|kernel|mamba|conv|ssm|prob|vision|audio")


class PrefixSharing:
    """Whether rows of a model may share prompts, and why or why not, said once in the log.

    Args:
        model: A causal language model, with or without an adapter.
        caches: The rows come after tokens whose keys and values are in a cache, as in scoring.
        obstacle: Reason why the caller cannot share prompts, if there is one.
        said: Lines that are in the log already, which several models may have in common.
    """

    def __init__(
        self, model: nn.Module, *, caches: bool = False, obstacle: str | None = None, said: set[str] | None = None
    ) -> None:
        self.model = model
        # PEFT's wrapper has it, also within one of FSDP; a model that loads adapters into itself has none.
        unwrap = getattr(model, "get_base_model", None)
        self.causal_lm = cast(PreTrainedModel, model if unwrap is None else unwrap())
        self._limit, self._row_limit = (_limit(self.causal_lm.config, rows=rows) for rows in (False, True))
        self._name = self.causal_lm.config.model_type
        self._caches = caches
        self._obstacle = obstacle
        # FSDP holds the model as its module.
        own = type(cast(nn.Module, getattr(self.causal_lm, "module", self.causal_lm))).forward.__module__
        self._known_parts = own.startswith("transformers.models.") and all(
            type(module).forward.__module__.partition(".")[0] in KNOWN_LIBRARIES for module in self.causal_lm.modules()
        )
        self._checked = 0
        self._failed: str | None = None
        self._said = set() if said is None else said

    def reason_against(self, width: int, longest: int) -> str | None:
        """Why rows may not hold several completions, or None; an architecture that is not known may be checked first.

        Args:
            width: Tokens of a row, those before it in a cache included.
            longest: Tokens of the longest sequence in it.
        """
        reason, where, known = self.obstacle, "", self.known
        limit, why = self._limit if known else self._row_limit
        if reason is None and (longest if known else width) > limit:
            reason, where = why, f" in {'sequences' if known else 'rows'} of more than {limit} tokens"
        elif reason is None and not known:
            reason = self._check(width)
            where = f" in rows of more than {self._checked} tokens" if self._checked else ""
        if reason is not None:
            self._say(logging.WARNING, f"Prompts are computed for each completion{where}, which is slower: {reason}.")
        elif known:
            self._say(logging.INFO, f"Prompts are shared: {self._name} is known to take such rows.")
        return reason

    @property
    def known(self) -> bool:
        """Whether the architecture and its adapters are among those that are tested."""
        text_config = self.causal_lm.config.get_text_config()
        return (
            self._name in KNOWN
            and self._known_parts
            and not getattr(text_config, "use_bidirectional_attention", False)
            and {config.peft_type.value for config in self._adapters} <= KNOWN_ADAPTERS
        )

    @property
    def obstacle(self) -> str | None:
        """Why no row may share prompts, as far as the configuration tells."""
        text_config = self.causal_lm.config.get_text_config()
        if self._obstacle is not None:
            return self._obstacle
        if any(config.is_prompt_learning for config in self._adapters):
            return "a prompt-learning adapter puts virtual tokens before every row"
        if any(getattr(config, "alora_invocation_tokens", None) for config in self._adapters):
            return "an activated LoRA sets in at a place of the row"
        if getattr(self.causal_lm, "_is_stateful", False):
            return "the model carries a state from token to token"
        if text_config._attn_implementation not in ("sdpa", "eager"):
            return f"attention {text_config._attn_implementation!r} takes no mask of its own for each row"
        carried = {
            layer
            for layer in _layers(text_config)
            if _RECURRENT_LAYER.search(layer) or not _ATTENTION_LAYER.search(layer)
        }
        if carried:
            return f"layers of type {', '.join(sorted(carried))} carry a state from token to token"
        if not self.known and is_divided(self.model):
            return f"{self._name} is not known to take such rows, and a model that processes divide is not checked"
        return None

    @property
    def off(self) -> bool:
        """Whether no row can share prompts, as far as has been found out."""
        return self.obstacle is not None or (self._failed is not None and not self._checked)

    @property
    def way(self) -> str:
        """How log-probabilities are computed, for the key of what is kept of them; decides that if need be."""
        shortest = FIRST_CHECK // 2
        if self.reason_against(shortest, shortest) is not None and self.off:
            return "separate"
        return f"shared rows {ROW_RULE}, {'known' if self.known else 'checked'}"

    @property
    def _adapters(self) -> list[Any]:
        return list(getattr(self.model, "peft_config", {}).values())

    def _say(self, level: int, text: str) -> None:
        if text not in self._said:
            logger.log(level, text)
        self._said.add(text)

    # -- the check -----------------------------------------------------------------------------------------------------

    def _check(self, width: int) -> str | None:
        """Why rows of up to that many tokens are not right, or None; checked where they were not yet."""
        limit, _ = self._row_limit
        size = FIRST_CHECK
        while self._failed is None and self._checked < width:
            while size * 3 // 4 <= self._checked:
                size *= 2
            size = int(min(size, limit))
            found = self._compared(size)
            if isinstance(found, str):
                self._failed = found
                break
            if not self._checked:
                self._say(
                    logging.INFO,
                    f"Prompts are shared: {self._name} passed a check with enlarged weights, which is repeated when rows "
                    f"grow (difference {found.difference:.1g} nats a token, {found.of_wrong:.1g} with a wrong mask).",
                )
            # The longest sequence of the checked rows has 13/16 of their tokens, and that of others nearly all.
            self._checked = size if size == limit else size * 3 // 4
        return self._failed if self._checked < width else None

    def _compared(self, size: int) -> "_Found | str":
        """Compare shared rows of a size with separate sequences."""
        try:
            with torch.no_grad(), dropout_silenced(self.model), _enlarged(self.causal_lm):
                found = self._differences(size)
        except Exception as error:  # whatever an unknown architecture says to a mask of its own for each row
            return f"the model does not take such rows ({type(error).__name__}: {error})"
        exact = (
            self.causal_lm.dtype == torch.float32
            and not torch.is_autocast_enabled(self.causal_lm.device.type)
            and torch.get_float32_matmul_precision() == "highest"
            and not getattr(self.causal_lm, "is_quantized", False)
        )
        if not found.of_wrong >= TELLING:
            return (
                f"{self._name} is not known to take such rows, and too little of what it says depends on what it reads"
            )
        if not found.difference <= found.of_wrong * (ROUNDING if exact else HALF_PRECISION_ROUNDING):
            return (
                f"log-probabilities of {self._name} differ from those of separate sequences by {found.difference:.2g} nats "
                f"a token, with enlarged weights in rows of {size} tokens"
            )
        return found

    def _differences(self, size: int) -> "_Found":
        """Differences of log-probabilities between separate sequences and rows, shared rightly and wrongly."""
        completions = _probe(self.causal_lm.config, size)
        plain = []
        for completion in completions:
            rows = self._laid_out([completion], shared=False)
            plain.append(self._logps(rows, model_inputs(rows, shared=False, eager=False, dtype=torch.float32))[0])
        rows = self._laid_out(completions, shared=True, size=size)
        wrong = self._logps(rows, model_inputs(rows, shared=False, eager=False, dtype=torch.float32))
        config = self.causal_lm.config.get_text_config()
        form: dict[str, Any] = {
            "shared": True,
            "eager": config._attn_implementation == "eager",
            "dtype": self.causal_lm.dtype,
        }
        shared = [self._logps(rows, model_inputs(rows, **form))]
        if self._caches:
            start = completions[0].prompt[: len(completions[0].prompt) // 2]
            prefix = PrefixCache().get(self.causal_lm.base_model, "", start)
            after = self._laid_out(
                [Completion(prompt[len(start) :], completion) for prompt, completion in completions], shared=True
            )
            inputs = model_inputs(after, **form, cached=len(start))
            shared.append(self._logps(after, {**inputs, "past_key_values": prefix.cache(), "use_cache": True}))
        return _Found(
            max(_distance(one, other) for of_way in shared for one, other in zip(of_way, plain, strict=True)),
            # A wrong mask does nothing to the first completion of a row.
            min(_distance(wrong[number], plain[number]) for number in (1, 2)),
        )

    def _laid_out(self, completions: list[Completion], *, shared: bool, size: int | None = None) -> dict[str, Tensor]:
        rows = lay_out(completions, share_prefix=shared, pad_token_id=0, pad_to_multiple_of=size)
        return {name: tensor.to(self.causal_lm.device) for name, tensor in rows.items()}

    def _logps(self, rows: dict[str, Tensor], inputs: dict[str, Any]) -> list[Tensor]:
        """Log-probabilities of the last tokens of each completion."""
        counts = rows["completion_mask"].sum(dim=1).tolist()
        by, targets = (
            torch.cat([of_completion[-COMPARED:] for of_completion in rows[name].split(counts)])
            for name in ("predicted_by", "target_ids")
        )
        with only_predictions(self.causal_lm.get_output_embeddings(), by, rows["input_ids"].size(1)):
            logits = self.model(**{"use_cache": False, **inputs}).logits.squeeze(0)
        logps = torch.log_softmax(logits.float(), dim=-1).gather(1, targets.to(logits.device).unsqueeze(1)).squeeze(1)
        return list(logps.split([min(count, COMPARED) for count in counts]))


class _Found(NamedTuple):
    """Mean differences a token of the completion that differs most, and with a wrong mask of the one that differs least."""

    difference: float
    of_wrong: float


def _distance(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().mean().item()


def _probe(config: PreTrainedConfig, size: int) -> list[Completion]:
    """Completions whose shared row has 15/16 of `size` tokens: a long and two short ones far from their prompt's start.

    A fourth has a prompt of its own that starts like theirs.
    """
    text_config = config.get_text_config()
    # Tokens that stand for something else, such as an image, would need what they stand for.
    named = [value for name, value in text_config.to_dict().items() if name.endswith("token_id")]
    special = {token for value in named for token in (value if isinstance(value, list) else [value])}
    usual = [token for token in range(min(text_config.vocab_size, 10_000)) if token not in special]
    chance = torch.Generator().manual_seed(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(usual[number] for number in torch.randint(len(usual), (count,), generator=chance).tolist())

    sixteenth = max(1, size // 16)
    prompt = tokens(2 * sixteenth)
    other = prompt[:sixteenth] + tokens(sixteenth)
    completions = [Completion(prompt, tokens(parts * sixteenth)) for parts in (11, 1, 1)]
    return [*completions, Completion(other, tokens(sixteenth))]


@contextmanager
def _enlarged(model: nn.Module) -> Iterator[None]:
    """Within this context, linear maps and embeddings give outputs of `ENLARGED` on average (root mean square) or more.

    As if their weights were larger by a power of two, which a module's first output decides. No weight is touched, so
    that nothing has to be put back, and quantised weights may be what they are.
    """
    factors: dict[nn.Module, float] = {}

    def enlarge(module: nn.Module, arguments: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        if module not in factors:
            size = output.float().square().mean().sqrt().item()
            # A map of zeros, such as half of a fresh LoRA, stays one.
            factors[module] = 2.0 ** max(0, round(math.log2(ENLARGED / size))) if size > 0 else 1.0
        return output * factors[module]

    handles = [
        module.register_forward_hook(enlarge)
        for module in model.modules()
        if isinstance(module, (nn.Linear, nn.Embedding, Conv1D))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(config: PreTrainedConfig) -> set[str]:
    return set(getattr(config, "layer_types", None) or getattr(config, "attention_layers", None) or [])


def _limit(config: PreTrainedConfig, *, rows: bool) -> tuple[float, str]:
    """Tokens to which attention reaches back and positions are what they are in short sequences, and what ends there.

    With `rows`, places of a row count, and not positions: their table ends, too. Infinite where nothing is named.
    """
    text_config = config.get_text_config()
    named = text_config.to_dict()
    ends: list[tuple[float, str]] = [(math.inf, "")]
    if _layers(text_config) not in ({"full_attention"}, {"global"}) and named.get("use_sliding_window", True):
        for name, value in named.items():
            if _WINDOW.search(name) and not _NO_WINDOW.search(name):
                sizes = value if isinstance(value, (list, tuple)) else [value]
                ends += [
                    (size, f"attention reaches back {size} tokens") for size in sizes if type(size) is int and size > 0
                ]
    positions = getattr(text_config, "max_position_embeddings", None)
    rope = named.get("rope_parameters") or {}
    for scaling in (rope, *rope.values()):
        if isinstance(scaling, dict) and scaling.get("rope_type") in ("dynamic", "longrope"):
            end = scaling.get("original_max_position_embeddings") or named.get("original_max_position_embeddings")
            ends.append((end or positions or 0, f"positions are scaled beyond {end or positions} tokens"))
    if rows and positions:
        ends.append((positions, f"the model has {positions} positions"))
    return min(ends)


def is_divided(model: nn.Module) -> bool:
    """Whether other processes hold parts of a model, as with FSDP, DeepSpeed ZeRO-3 and tensor parallelism."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules()) or any(
        isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters()
    )
