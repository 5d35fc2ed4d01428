"""Runs: ask a respondent every question in the role of every persona, and keep each reply for good."""

from fairpp_hf.generation.records import load_run, run_fingerprint
from fairpp_hf.generation.runner import RunInterrupted, RunSummary, generate

__all__ = ["RunInterrupted", "RunSummary", "generate", "load_run", "run_fingerprint"]
