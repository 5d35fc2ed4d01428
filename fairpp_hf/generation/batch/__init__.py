"""Runs through the OpenAI Batch API: half the price, an answer within a day, and nothing bought twice."""

from fairpp_hf.generation.batch.asking import ask_in_batches
from fairpp_hf.generation.batch.forget import forget_batches
from fairpp_hf.generation.batch.ledger import Unfinished, unfinished_batches
from fairpp_hf.generation.batch.work import BatchLimits

__all__ = ["BatchLimits", "Unfinished", "ask_in_batches", "forget_batches", "unfinished_batches"]
