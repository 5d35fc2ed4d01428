"""Log-probabilities under the reference model, kept on disk by completion: the same for every target persona and epoch."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from fairpp_hf.cache import cache_folder
from fairpp_hf.training.pair_columns import column_of
from fairpp_hf.training.token_hash import token_hashes


class ReferenceCache:
    """A table from completion to log-probability, for one reference model.

    A database file for each model, in write-ahead mode: several runs may fill it at once, and what is written stays when
    one of them is stopped.

    Args:
        model_digest: of everything that the log-probabilities depend on besides the tokens.
        folder: where the file goes; made if need be.
    """

    def __init__(self, model_digest: str, folder: Path | None = None) -> None:
        self.path = (folder or cache_folder() / "reference_logps") / f"{model_digest[:32]}.sqlite"

    def read(self) -> dict[bytes, float]:
        """Everything that is known, by the 16 bytes of a completion's key."""
        if not self.path.is_file():
            return {}
        with self._connection() as connection:
            return dict(connection.execute("SELECT key, logp FROM reference_logps"))

    def write(self, logps: Mapping[bytes, float]) -> None:
        """Add entries durably; one that is there already stays."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO reference_logps VALUES (?, ?)", logps.items())

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=60)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
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
        token_hashes(column_of(dataset, name), seed) for name in ("prompt_ids", f"{side}_ids") for seed in (0, 1)
    ]
    if by_pair:
        lengths = [column_of(dataset, f"{name}_ids").value_lengths().to_numpy() for name in ("chosen", "rejected")]
        columns.append(np.minimum(*lengths).astype(np.uint64))
    rows, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    return [keys[number] for number in inverse.reshape(-1)]


def model_digest(model: nn.Module | str, settings: Mapping[str, Any]) -> str:
    """SHA-256 of a reference model and of settings that its log-probabilities depend on.

    Args:
        model: a policy whose adapters are switched off for the reference, whose weights count without those of adapters,
            unless one is named "ref"; or the hash of a model.
        settings: of plain types.
    """
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    if isinstance(model, str):
        digest.update(model.encode())
        return digest.hexdigest()
    tuner = cast(Any, model).base_model.prefix
    for name, tensor in sorted(model.state_dict().items()):
        of_adapter = tuner in name or ".modules_to_save." in name
        if of_adapter and ".ref" not in name:
            continue
        # A layer that an adapter wraps has another name than the same layer without one.
        plain_name = name.replace(".base_layer.", ".").replace(".original_module.", ".")
        digest.update(f"{plain_name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
