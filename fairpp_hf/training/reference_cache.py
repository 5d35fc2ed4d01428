"""Log-probabilities under the reference model, kept on disk by completion: the same for every target persona and epoch."""

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel

from fairpp_hf.cache import cache_folder
from fairpp_hf.training.pair_columns import column_parts
from fairpp_hf.training.token_hash import token_hashes


class ReferenceCache:
    """A table from completion to log-probability, for one reference model.

    A database file for each model. Several runs may fill it at once, and what is written stays when one is stopped.

    Args:
        model_digest: of everything that the log-probabilities depend on besides the tokens.
        folder: where the file goes; made if need be.

    Raises:
        ValueError: the folder cannot be written to.
    """

    def __init__(self, model_digest: str, folder: Path | None = None) -> None:
        self.path = (folder or cache_folder() / "reference_logps") / f"{model_digest[:32]}.sqlite"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except (OSError, sqlite3.Error) as error:
            raise ValueError(
                f"The cache of reference log-probabilities must be a database that can be written to; got {self.path}: "
                f"{error}. Set FAIRPP_HOME to a folder of yours, or delete a file that is damaged."
            ) from error

    def read(self) -> dict[bytes, float]:
        """Everything that is known, by the 16 bytes of a completion's key."""
        with self._connection() as connection:
            return dict(connection.execute("SELECT key, logp FROM reference_logps"))

    def write(self, logps: Mapping[bytes, float]) -> None:
        """Add entries durably; one that is there already stays.

        Raises:
            ValueError: a log-probability is not finite, which would be found again ever after.
        """
        wrong = [logp for logp in logps.values() if not math.isfinite(logp)]
        if wrong:
            raise ValueError(
                f"Reference log-probabilities must be finite; got {wrong[0]} ({len(wrong)} such of {len(logps)}). "
                "The reference model computes no probability there: try dtype float32."
            )
        with self._connection() as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO reference_logps VALUES (?, ?)", logps.items())

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=60)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS reference_logps (key BLOB PRIMARY KEY, logp REAL) WITHOUT ROWID"
            )
            yield connection
        finally:
            connection.close()


def pair_keys(dataset: Dataset, side: str, *, by_pair: bool) -> list[bytes]:
    """Keys of one side's completions of n pairs, 16 bytes each, from the tokens of prompt and completion.

    Args:
        dataset: with `prompt_ids`, `chosen_ids` and `rejected_ids`.
        side: `"chosen"` or `"rejected"`.
        by_pair: the log-probability also depends on the length that both completions reach (`ld_alpha`).
    """
    columns = [
        np.concatenate([token_hashes(part, seed) for part in column_parts(dataset, name)])
        for name in ("prompt_ids", f"{side}_ids")
        for seed in (0, 1)
    ]
    if by_pair:
        lengths = [
            np.concatenate([pc.list_value_length(part).to_numpy() for part in column_parts(dataset, name)])
            for name in ("chosen_ids", "rejected_ids")
        ]
        columns.append(np.minimum(*lengths).astype(np.uint64))
    rows, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    return [keys[number] for number in inverse.reshape(-1)]


def model_digest(model: PreTrainedModel | PeftModel, settings: Mapping[str, Any], weights: str | None = None) -> str:
    """SHA-256 of everything that a reference model's log-probabilities depend on besides the tokens.

    Args:
        model: the reference; or a policy whose adapters are switched off for it. Their weights do not count, and those of
            one named "ref", which is switched on instead, do.
        settings: more that matters, of JSON types.
        weights: the hash of the weights, where they cannot be read any more.
    """
    adapters = getattr(model, "peft_config", {})
    reference = adapters.get("ref")
    base = cast(Any, model).get_base_model() if adapters else model
    told = {
        **settings,
        # Rotary base, scaling, soft caps, quantisation: the same weights with others say something else.
        "config": {name: value for name, value in base.config.to_dict().items() if name not in _NOT_OF_THE_MODEL},
        "attention": base.config._attn_implementation,
        "adapter": None if reference is None else {**reference.to_dict(), "base_model_name_or_path": None},
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=_in_words).encode())
    if weights is not None:
        digest.update(weights.encode())
        return digest.hexdigest()
    prefix = getattr(cast(Any, model).base_model, "prefix", None) if adapters else None
    # A prompt-learning adapter stands beside its base model, others within it.
    counted = model if prefix else base
    for name, tensor in sorted(counted.state_dict().items()):
        of_adapter = prefix is not None and (prefix in name or ".modules_to_save." in name)
        if of_adapter and ".ref" not in name:
            continue
        # A layer that an adapter wraps has another name than the same layer without one.
        plain_name = (
            name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".original_module.", ".")
        )
        digest.update(f"{plain_name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "architectures", "use_cache", "torch_dtype", "dtype")


def _in_words(value: Any) -> Any:
    """JSON of what configurations hold besides plain types; sets in a fixed order."""
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)
