"""A simulated respondent: a documented, seeded choice model with parameters from published survey figures.

It is a stand-in for development, for teaching, and for testing estimators against a known truth. It is no survey:
nobody was asked these questions, and segment averages on other questions stand behind every answer. It must not be used
to infer what real people, or the members of any segment or group, think or would choose, nor to compare real groups.

Model. For persona p and a question with problem m, group g of group type t, dimension d and form f:

    s   = KAPPA x[p,d] + GAMMA y[p,t] standing(g) generous(d) + SIGMA z(p,m,g,d) + SIGMA_FORM z(p,m,g,d,f)
    u_A = -s / 2        u_B = s / 2
    u_C = log(2 a[p] / (1 - a[p])) + RHO max(0, -y[p,t] standing(g)) [f is explanation]
    P   = softmax(u_A, u_B, u_C)

- x: position on the dimension, a: abstention, y: sympathy with the group type; from the persona set, each with its
  basis (`prior` marks those that no survey figure bears on). At s = 0 the constant of u_C makes P(C) = a: with
  k = e^u_C, k / (2 + k) = a gives k = 2 a / (1 - a). The clearer a view, the further P(C) falls below a.
- generous(d): 1 for dimensions 1 to 4, where pole B is the one that gives more to a group in need, and 0 for 5, where
  neither pole is. RHO: the explanation form supposes that the group receives more; whoever resents that finds neither
  explanation fair.
- standing(g): see `STANDING`. z: standard normal, from hashes of the names alone. The first is shared by the two forms
  of a (problem, group, dimension) and stands for whatever is particular to it; the second is for the form. Both are the
  persona's own: given the parameters, personas answer independently of each other.

An answer is the inverse CDF of P at a uniform number that depends on (set, persona, question_id) alone: the same
question gets the same answer on every machine, whatever is asked beside it.

The constants are choices of this model, not estimates. With them, averaged over the noise: at x = 0, y = 0 options A
and B share evenly what C leaves; at x = 0.75 (the strongest position in the default set), y = 0 and a = 0.08, pole B is
chosen 84% of the time.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import ndtri, softmax

from fairpp_hf.naming import check_name, nearest
from fairpp_hf.personas import ChoiceParameters, PersonaSet
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.base import SIMULATED, Reply, Request
from fairpp_hf.stable_hash import as_uniforms, hash_words, utf8_words

KAPPA = 3.0
"""Log-odds of B against A per unit of position: 0.75 gives 2.25, which is 88% of A and B after the noise, about as clear
a majority as segments show on the items behind such a position."""

GAMMA = 1.0
"""Log-odds per unit of sympathy: a third of KAPPA, so that whom a question is about shifts a view but seldom turns it."""

SIGMA = 0.8
"""Standard deviation, in log-odds, of what is particular to a (problem, group, dimension)."""

SIGMA_FORM = 0.4
"""Standard deviation of what is particular to a form: half of SIGMA, so that the noise in s correlates 0.8 between the
two forms of a (problem, group, dimension)."""

RHO = 1.5
"""Log-odds of C per unit of resentment: at the default set's strongest, 0.75, the odds of C are multiplied by 3."""

GENEROUS = {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 0.0}
"""Whether pole B of a dimension is the one that gives more to a group in need."""

STANDING = {"men": -1.0, "white people": -1.0, "christian people": -1.0, "heterosexual people": -1.0, "adults": 0.0}
"""How a sympathy with the group type bears on a group: +1 where the group is usually named as disadvantaged, which
holds for every group not listed; -1 for the majority of its type; 0 for neither. An assumption of the model about how
groups are spoken of, not a statement about them."""


class SurveyAnswers(NamedTuple):
    """What one persona answers to n questions."""

    answer: NDArray[np.int8]
    """(n,), 0..2 for A, B, C."""
    probabilities: NDArray[np.float64]
    """(n, 3), over A, B, C: the truth that the answers are drawn from."""


def survey_answers(questions: pa.Table, personas: PersonaSet, persona_id: str) -> SurveyAnswers:
    """Simulated answers of one persona, by the equations at the top of this module.

    Args:
        questions: N questions; of the columns, `question_id`, `problem`, `group_type`, `group`, `dimension` and `form`
            are read.
        personas: The persona set.
        persona_id: One of its personas, with `choice` parameters.

    Returns:
        Answers and their probabilities, in the order of `questions`. Each depends on its own row only.

    Raises:
        ValueError: The persona is unknown or has no `choice`, or a group type or dimension is not in the taxonomy.
    """
    return _answers(_Columns.of(questions), personas, persona_id)


def all_survey_answers(questions: pa.Table, personas: PersonaSet) -> dict[str, SurveyAnswers]:
    """`survey_answers` of every persona of a set, by id; what they share is computed once."""
    columns = _Columns.of(questions)
    return {persona.id: _answers(columns, personas, persona.id) for persona in personas}


class _Codes(NamedTuple):
    """A column as indices into its different values."""

    of_row: NDArray[np.int32]
    values: pa.Array

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "_Codes":
        encoded = column.combine_chunks().dictionary_encode()
        return cls(encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary)

    def look_up(self, values: dict[Any, float], default: float | None = None) -> NDArray[np.float64]:
        """The value of each row's key, float64 (n,); a key that is not there is an error unless there is a default."""
        keys = self.values.to_pylist()
        for key in keys:
            if default is None and key not in values:
                check_name("a question's group_type or dimension", key, values)
        return np.array([values.get(key, default) for key in keys], dtype=np.float64)[self.of_row]


class _Columns(NamedTuple):
    """What the model reads of n questions, whoever answers."""

    dimension: _Codes
    group_type: _Codes
    group: _Codes
    explains: NDArray[np.bool_]
    unit: NDArray[np.int32]
    """(n,): which (problem, group, dimension)."""
    unit_words: NDArray[np.uint64]
    question_words: NDArray[np.uint64]

    @classmethod
    def of(cls, questions: pa.Table) -> "_Columns":
        dimension = pc.cast(questions["dimension"], pa.string())
        units = _Codes.of(pc.binary_join_element_wise(questions["problem"], questions["group"], dimension, "|"))
        return cls(
            dimension=_Codes.of(questions["dimension"]),
            group_type=_Codes.of(questions["group_type"]),
            group=_Codes.of(questions["group"]),
            explains=pc.equal(questions["form"], "explanation").to_numpy(zero_copy_only=False),
            unit=units.of_row,
            unit_words=utf8_words(units.values),
            question_words=utf8_words(questions["question_id"]),
        )


def _answers(columns: _Columns, personas: PersonaSet, persona_id: str) -> SurveyAnswers:
    choice = _choice_of(personas, persona_id)
    if not len(columns.unit):
        return SurveyAnswers(np.empty(0, np.int8), np.empty((0, 3)))
    position = columns.dimension.look_up({key: item.value for key, item in choice.positions.items()})
    sympathy = columns.group_type.look_up({key: item.value for key, item in choice.sympathies.items()})
    standing = columns.group.look_up(STANDING, default=1.0)
    generous = columns.dimension.look_up(GENEROUS)

    noise, form_noise, draw = _random_numbers(columns, f"{personas.id}/{persona_id}")
    s = KAPPA * position + GAMMA * sympathy * standing * generous + SIGMA * noise + SIGMA_FORM * form_noise
    abstention = choice.abstention.value
    with np.errstate(divide="ignore"):  # an abstention of 0 is u_C = -inf, and P(C) = 0 exactly
        u_c = np.log(2 * abstention / (1 - abstention)) + RHO * np.maximum(0.0, -sympathy * standing) * columns.explains
    probabilities = softmax(np.column_stack([-s / 2, s / 2, u_c]), axis=1)
    is_not_a = draw >= probabilities[:, 0]
    # Not P(A) + P(B), whose rounding could let through a C that has probability 0.
    is_c = draw >= 1 - probabilities[:, 2]
    return SurveyAnswers(is_not_a.astype(np.int8) + is_c.astype(np.int8), probabilities)


class SurveyRespondent:
    """The simulated personas of a set behind the protocol of all respondents; answers by `question_id`.

    Args:
        personas: The set; every persona needs `choice` parameters.

    Raises:
        ValueError: A persona has none.
    """

    def __init__(self, personas: PersonaSet) -> None:
        for persona in personas:
            _choice_of(personas, persona.id)
        self._personas = personas
        self._answers: dict[str, SurveyAnswers] = {}

    @property
    def name(self) -> str:
        """Such as `"survey:britains_choice_2020 (simulated)"`."""
        return f"survey:{self._personas.id}{SIMULATED}"

    @property
    def settings(self) -> dict[str, Any]:
        """The constants of the model and a digest of the persona set."""
        return {
            "kind": "survey",
            "personas": self._personas.id,
            "personas_digest": self._personas.digest,
            "kappa": KAPPA,
            "gamma": GAMMA,
            "sigma": SIGMA,
            "sigma_form": SIGMA_FORM,
            "rho": RHO,
            "standing": dict(STANDING),
            "generous": list(GENEROUS.values()),
        }

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        """Yield (index, reply) for each request, in order; the messages are not read.

        Raises:
            ValueError: A question or a persona is unknown, or a request asks for a further sample or swapped options.
        """
        for index, request in enumerate(requests):
            if index % 256 == 0:
                await asyncio.sleep(0)  # nothing here waits, and the caller's loop must see signals now and then
            if request.sample or request.swapped:
                raise ValueError(
                    f"The survey respondent must be asked each question once, in its own order; got sample "
                    f"{request.sample}{' of the swapped order' if request.swapped else ''} at request {index}. It gives "
                    "its option probabilities whole, and no order sways it."
                )
            row = self._rows.get(request.question_id)
            if row is None:
                close = nearest(request.question_id, self._rows)
                hint = f" Did you mean {close!r}?" if close else ""
                raise ValueError(
                    f"question_id must be one of the {len(self._rows)} of load_questions(); got "
                    f"{request.question_id!r} at request {index}.{hint}"
                )
            if request.persona not in self._answers:
                self._answers[request.persona] = survey_answers(load_questions(), self._personas, request.persona)
            answers = self._answers[request.persona]
            in_a, in_b, in_c = answers.probabilities[row].tolist()
            yield index, Reply(int(answers.answer[row]), (in_a, in_b, in_c), "ok", None, None, 0.0)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {question_id: row for row, question_id in enumerate(load_questions()["question_id"].to_pylist())}


def _choice_of(personas: PersonaSet, persona_id: str) -> ChoiceParameters:
    choice = personas.get(persona_id).choice
    if choice is None:
        raise ValueError(
            f"persona {persona_id!r} must have choice parameters for the survey respondent; got none in the persona "
            f"set {personas.id!r}. Add `choice` to it, or use another respondent, which needs only a portrait."
        )
    return choice


def _random_numbers(columns: _Columns, seed: str) -> tuple[NDArray, NDArray, NDArray]:
    """Normal per (problem, group, dimension), normal per question, uniform per question; each float64 (n,)."""
    per_unit = ndtri(as_uniforms(hash_words(columns.unit_words, f"survey/unit/{seed}")))
    # Hashing is much of the cost, so that the two halves of one hash serve as two numbers of 32 bits.
    hashes = hash_words(columns.question_words, f"survey/question/{seed}")
    upper, lower = ((half.astype(np.float64) + 0.5) / 2.0**32 for half in (hashes >> np.uint64(32), hashes & _LOWER))
    return per_unit[columns.unit], ndtri(lower), upper


_LOWER = np.uint64(2**32 - 1)
