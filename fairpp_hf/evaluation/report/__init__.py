"""The report: one page to read and pictures to show, from what `fairpp evaluate` and `fairpp position` wrote."""

from fairpp_hf.evaluation.report.page import write_report

__all__ = ["write_report"]
