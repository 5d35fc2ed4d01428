"""Whoever answers the questions: a server's model, a local model, or the survey simulation, behind one protocol."""

from fairpp_hf.respondents.base import SIMULATED, Reply, Request, Respondent, RespondentStopped
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.respondents.reading import parse_answer
from fairpp_hf.respondents.survey import SurveyRespondent
from fairpp_hf.respondents.transformers import TransformersRespondent

__all__ = [
    "SIMULATED",
    "OpenAIRespondent",
    "Reply",
    "Request",
    "Respondent",
    "RespondentStopped",
    "SurveyRespondent",
    "TransformersRespondent",
    "parse_answer",
]
