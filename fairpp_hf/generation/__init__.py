"""Runs: ask a respondent every question in the role of every persona, and keep each reply for good."""

from fairpp_hf.generation.batch import BatchLimits
from fairpp_hf.generation.budget import BudgetReached
from fairpp_hf.generation.merge import MergeSummary, merge_runs
from fairpp_hf.generation.prices import Prices, load_prices
from fairpp_hf.generation.records import load_replies, load_run, run_fingerprint
from fairpp_hf.generation.reparse import ParseSummary, parse_run
from fairpp_hf.generation.runner import RunInterrupted, RunSummary, generate
from fairpp_hf.generation.shards import Shard, parse_shard

__all__ = [
    "BatchLimits",
    "BudgetReached",
    "MergeSummary",
    "ParseSummary",
    "Prices",
    "RunInterrupted",
    "RunSummary",
    "Shard",
    "generate",
    "load_prices",
    "load_replies",
    "load_run",
    "merge_runs",
    "parse_run",
    "parse_shard",
    "run_fingerprint",
]
