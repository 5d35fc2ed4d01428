"""Generation: ask a respondent every question in the role of every persona, within a budget, and keep each reply."""

from fairpp_hf.generation.options import BatchLimits, RunOptions
from fairpp_hf.generation.prices import Prices, load_prices
from fairpp_hf.generation.runner import generate
from fairpp_hf.generation.summary import BudgetReached, RunInterrupted, RunSummary

__all__ = [
    "BatchLimits",
    "BudgetReached",
    "Prices",
    "RunInterrupted",
    "RunOptions",
    "RunSummary",
    "generate",
    "load_prices",
]
