"""Runs: directories with a manifest of what was asked and a journal of every reply that came."""

from fairpp_hf.runs.merge import MergeSummary, merge_runs
from fairpp_hf.runs.records import load_replies, load_run, run_fingerprint
from fairpp_hf.runs.reparse import ParseSummary, parse_run
from fairpp_hf.runs.shards import Shard, parse_shard

__all__ = [
    "MergeSummary",
    "ParseSummary",
    "Shard",
    "load_replies",
    "load_run",
    "merge_runs",
    "parse_run",
    "parse_shard",
    "run_fingerprint",
]
