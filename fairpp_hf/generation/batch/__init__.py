"""Runs through the OpenAI Batch API: half the price, an answer within a day, and nothing bought twice."""

from fairpp_hf.generation.batch.asking import ask_in_batches

__all__ = ["ask_in_batches"]
