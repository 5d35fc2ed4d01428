"""The reference's log-probabilities computed before training, from disk where they are known."""

import logging
from typing import Any, cast

import numpy as np
from accelerate.utils import broadcast_object_list, is_peft_model
from datasets import Dataset, IterableDataset
from torch import nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from trl import DPOTrainer
from trl.models import prepare_deepspeed

from fairpp_hf.training.collator import DataCollatorForWeightedPreference
from fairpp_hf.training.reference_cache import ReferenceCache, model_digest, pair_keys
from fairpp_hf.training.sampler import prompt_groups

logger = logging.getLogger(__name__)


class PrecomputedReference(DPOTrainer):
    """`DPOTrainer` whose `precompute_ref_log_probs=True` keeps what it computes by completion, for other pairs to find.

    TRL keeps the log-probabilities of a dataset's pairs as a whole. The options of a question are the same for every
    target persona, though, and only which is chosen differs.
    """

    _reference_digest: str | None = None

    def _set_up_forward(self) -> None:
        """Get ready for `compute_ref_log_probs`, which TRL calls before its own `__init__` is through."""

    def _way_of_reference(self) -> str:
        """How `compute_ref_log_probs` lays completions out: log-probabilities of one way are not found for another."""
        raise NotImplementedError

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Add `ref_chosen_logps` and `ref_rejected_logps`, from disk where the reference has scored a completion before."""
        if isinstance(dataset, IterableDataset):
            return super()._precompute_ref_logps(dataset, name, batch_size)  # has the error for it
        self._set_up_forward()
        keys = {side: pair_keys(dataset, side, by_pair=self.ld_alpha is not None) for side in ("chosen", "rejected")}
        main = self.accelerator.is_main_process
        cache = ReferenceCache(self._digest_of_reference()) if main and self._can_be_known_again() else None
        known = broadcast_object_list([cache.read() if cache else {}], from_process=0)[0]
        unknown = np.array(
            [
                pair[0] not in known or pair[1] not in known
                for pair in zip(keys["chosen"], keys["rejected"], strict=True)
            ]
        )
        rows = np.flatnonzero(unknown)
        # Pairs of a prompt one after the other, so that a batch has them together.
        rows = rows[np.argsort(prompt_groups(dataset)[rows], kind="stable")]
        if len(rows):
            loader = DataLoader(
                dataset.select(rows),
                batch_size=batch_size,
                collate_fn=self.data_collator,
                num_workers=self.args.dataloader_num_workers,
                pin_memory=self.args.dataloader_pin_memory,
            )
            model = self._reference_before_training()
            done = 0
            title = f"Reference log-probabilities, {name} pairs"
            for batch in tqdm(self.accelerator.prepare(loader), desc=title, disable=self.args.disable_tqdm or not main):
                chosen, rejected = self.accelerator.gather_for_metrics(self.compute_ref_log_probs(model, batch))
                of_batch = rows[done : done + len(chosen)].tolist()
                done += len(chosen)
                found: dict[bytes, float] = {}
                for side, logps in (("chosen", chosen), ("rejected", rejected)):
                    found |= {keys[side][row]: logp for row, logp in zip(of_batch, logps.tolist(), strict=True)}
                known |= found
                if cache is not None:
                    cache.write(found)
        if main:
            where = "nowhere" if cache is None else str(cache.path)
            taken = len(dataset) - len(rows)
            logger.info(
                "Reference log-probabilities: %d pairs computed, %d taken; kept in %s.", len(rows), taken, where
            )
        # A dataset that comes here again, as through `evaluate`, has them already.
        columns = [f"ref_{side}_logps" for side in keys]
        dataset = dataset.remove_columns([name for name in columns if name in dataset.column_names])
        for side, of_side in keys.items():
            dataset = dataset.add_column(
                f"ref_{side}_logps", np.array([known[key] for key in of_side], dtype=np.float32)
            )
        return dataset

    def _reference_before_training(self) -> nn.Module:
        """The reference model while the policy is not yet prepared for training; placed by DeepSpeed where it is used."""
        if self.ref_model is None and self.is_deepspeed_enabled:
            if self._precompute_engine is None:
                self._precompute_engine = prepare_deepspeed(cast(nn.Module, self.model), self.accelerator)
            return cast(nn.Module, self._precompute_engine)
        return cast(nn.Module, self.model if self.ref_model is None else self.ref_model)

    def _can_be_known_again(self) -> bool:
        """Whether the model can be told from others: of what ZeRO-3 divides, a process sees nothing."""
        plugin = self.args.deepspeed_plugin
        return plugin is None or plugin.zero_stage != 3

    def _digest_of_reference(self) -> str:
        if self._reference_digest is None:
            # Truncation is the collator's, which may be a user's.
            collator = cast(DataCollatorForWeightedPreference, self.data_collator)
            settings = {
                "bf16": self.args.bf16,
                "fp16": self.args.fp16,
                "max_length": collator.max_length,
                "truncation_mode": collator.truncation_mode,
                "ld_alpha": self.ld_alpha,
                "way": self._way_of_reference(),
            }
            # A reference of its own may be sharded by now, and TRL has hashed its weights before; a policy whose adapters
            # are switched off is hashed without them, so that every persona's training finds the same reference.
            own = self.ref_model is None and is_peft_model(self.model)
            model = self.model if self.ref_model is None else self.accelerator.unwrap_model(self.ref_model)
            weights = None if own else cast(str, self._precompute_model_hash)
            self._reference_digest = model_digest(cast(Any, model), settings, weights)
        return self._reference_digest
