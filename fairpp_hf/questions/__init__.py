"""The 28,420 questions: 98 problems, 29 groups, 5 dimensions and 2 forms, in the project's own words."""

from fairpp_hf.questions.heldout import HELDOUT, heldout_labels, is_held_out
from fairpp_hf.questions.rendering import option_lines, render_prompt
from fairpp_hf.questions.sampling import sample_questions
from fairpp_hf.questions.split import SPLITS, divided_unit, load_questions, split_of

__all__ = [
    "HELDOUT",
    "SPLITS",
    "divided_unit",
    "heldout_labels",
    "is_held_out",
    "load_questions",
    "option_lines",
    "render_prompt",
    "sample_questions",
    "split_of",
]
