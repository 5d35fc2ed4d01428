"""The one protocol behind all respondents: requests in, replies out as they come.

Whoever answers here stands in for a person and is not one, so that every respondent's name ends in `SIMULATED`.
"""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from fairpp_hf.provenance import SIMULATED as SIMULATED  # noqa: PLC0414 (re-exported)
from fairpp_hf.schema import NO_ANSWER, STATUSES


class Request(NamedTuple):
    """One persona is asked one question."""

    question_id: str
    persona: str
    """Persona id."""
    messages: list[dict[str, str]]
    """Chat messages, `role` and `content`: the portrait as system message, the prompt as user message."""
    options: tuple[str, str, str]
    """Texts of options A, B, C as they are shown, without their letters."""
    sample: int = 0
    """Number of the sample, where the same is asked several times."""
    swapped: bool = False
    """Whether the options of pole A and pole B are shown in each other's place: the one of pole B is then option A."""


class Reply(NamedTuple):
    """What came back for one request."""

    answer: int
    """0, 1, 2 for A, B, C as the request shows them; -1 (`NO_ANSWER`) for every status but `ok`."""
    probabilities: tuple[float, float, float] | None
    """Over A, B, C as the request shows them, sum 1; None where the respondent gives none. Never made up from the
    answer."""
    status: str
    """One of `STATUSES`. `failed` is asked again when the run continues; the others are final."""
    raw: str | None
    """The reply's text as it came, whatever its status; None where there is no text."""
    usage: dict[str, Any] | None
    """Tokens, as the server counts them, of all replies that were paid for on the way to this one."""
    latency_s: float
    detail: dict[str, Any] | None = None
    """JSON-able facts for the record, such as `finish_reason` or `error`; `model` is the name that the server gives its
    model, and a run says so when it changes; `tries` is how many replies were paid for."""


def check_reply(reply: Reply, whose: str) -> None:
    """Check that a reply does not contradict itself: its status, its answer and its probabilities.

    Raises:
        ValueError: It does; the message says `whose` it is, such as `"for persona 'p' and question 'q'"`.
    """
    has_answer = reply.answer in (0, 1, 2)
    if (
        reply.status not in STATUSES
        or has_answer != (reply.status == "ok")
        or not (has_answer or reply.answer == NO_ANSWER)
    ):
        raise ValueError(
            "A reply must have an answer in 0..2 with status 'ok', or -1 with another status; "
            f"got {reply.answer} with {reply.status!r} {whose}."
        )
    if reply.probabilities is not None and not (
        min(reply.probabilities) >= 0 and math.isclose(math.fsum(reply.probabilities), 1.0, abs_tol=1e-4)
    ):
        raise ValueError(f"A reply's probabilities must be at least 0 and sum to 1; got {reply.probabilities} {whose}.")


class RespondentStopped(RuntimeError):
    """No further request can succeed until the user changes something, such as a key; the message says what.

    A respondent raises it at the end of `answer`, after yielding every reply that it received.
    """


@runtime_checkable
class Respondent(Protocol):
    """Answers requests, in any order, as fast as it can."""

    @property
    def name(self) -> str:
        """Such as `"openai:gpt-4o-mini (simulated)"`; ends in `SIMULATED`."""

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-able: everything beside the request that decides the reply, such as the model and the temperature.

        It goes into the key under which a reply is kept: other settings mean other replies. Where a reply comes from
        (a server's address) and how fast (concurrency) do not belong here.
        """

    def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        """Yield (index into `requests`, reply) for each request, as replies complete.

        A respondent that pays for replies, in money or in time, takes requests one after the other by iterating, and
        only when it is ready to ask them: the runner builds them on the way, and ends the iteration when the user stops
        the run. What was taken is finished and yielded. A reply counts as kept once the next one is asked for.

        Where requests can wait, for a pause or for a budget, the respondent looks at `is_stopped` and `has_room` as well.
        Once the requests are stopped, it waits only for what is really on its way: a request that waits for its turn, its
        first or a further one, ends without a reply, or as `failed` where it was paid for. While they have no room, it takes
        the next one only when nothing is in flight: what comes may make room, and only the iteration's end is for good.
        """


def tells_stories(respondent: Respondent) -> bool:
    """Whether the replies are stories, whose `ok` has no answer: the respondent's `tells_stories`, where it has it."""
    return bool(getattr(respondent, "tells_stories", False))


# A run's requests are a `generation.queue.RequestQueue`, which can be stopped and has a budget. Any other sequence of
# requests, such as a list, has neither.


def is_stopped(requests: Sequence[Request]) -> bool:
    """Whether nothing more is to be sent: the requests' `stopped`, where they have it."""
    return bool(getattr(requests, "stopped", False))


def has_room(requests: Sequence[Request]) -> bool:
    """Whether the next request could be taken now: the requests' method `has_room`, where they have a budget and so one."""
    of_budget = getattr(requests, "has_room", None)
    return of_budget is None or bool(of_budget())


def set_aside(requests: Sequence[Request], usage: Mapping[str, Any]) -> bool:
    """Whether a further try of a request could be paid that uses so many tokens; if so, their price is set aside."""
    of_budget = getattr(requests, "set_aside", None)
    return of_budget is None or bool(of_budget(usage))


def give_back(requests: Sequence[Request], usage: Mapping[str, Any]) -> None:
    """The reply to a request with a further try was paid, or none comes: what was set aside for it is free."""
    of_budget = getattr(requests, "give_back", None)
    if of_budget is not None:
        of_budget(usage)


@runtime_checkable
class HasAddress(Protocol):
    """A respondent that asks a server."""

    @property
    def address(self) -> str:
        """Where, for the record: without user name, password or key."""
