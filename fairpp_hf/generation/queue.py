"""The requests of a run as a respondent takes them: one by one, while nobody has stopped it and the budget has room."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from fairpp_hf.generation.budget import Budget
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.respondents.base import Reply, Request
from fairpp_hf.runs.journal import AskedRequest


class RequestQueue(Sequence[Request]):
    """Some requests of a plan, handed out one by one as the respondent is ready for them.

    Iterating ends early once `stopped` is set, or where the next one is over the budget. What is in flight may turn out
    cheaper than it was counted, and make room: a respondent that has something in flight therefore asks `has_room` before it
    takes a request, and waits for a reply where there is none.

    Args:
        plan: All requests of the run.
        positions: Positions in the plan of those to ask, such as an int64 array.
        keys: Keys of all requests of the plan.
        budget: What they may cost together; None for no limit.
    """

    def __init__(
        self, plan: RequestPlan, positions: Sequence[int], keys: Sequence[str], budget: Budget | None = None
    ) -> None:
        self._plan = plan
        self._positions = positions
        self._keys = keys
        self._budget = budget
        self.stopped = False
        self.handed_out = 0
        """How many requests have been iterated over."""

    @property
    def over_budget(self) -> bool:
        """Whether the iteration ended because the budget had no room for the next request."""
        return self._budget is not None and self._budget.reached

    def has_room(self) -> bool:
        """Whether taking a request would give one, as far as the budget goes; True also where there is none to give."""
        return self.stopped or self._budget is None or self._budget.fits()

    def fitting(self, count: int) -> int:
        """For how many requests the budget has room, at most `count`, where no others are in flight."""
        return count if self._budget is None else self._budget.fitting(count)

    def pay(self, replies: Iterable[Reply]) -> None:
        """Count what came in the budget; before the next request is taken, so that it has the room which is left."""
        if self._budget is not None:
            for reply in replies:
                self._budget.pay(reply)

    def set_aside(self, usage: Mapping[str, Any]) -> bool:
        """Whether the budget has room for a further try with so many tokens; it is kept for it."""
        return self._budget is None or self._budget.set_aside(usage)

    def give_back(self, usage: Mapping[str, Any]) -> None:
        """Free what was set aside."""
        if self._budget is not None:
            self._budget.give_back(usage)

    def asked(self, index: int) -> AskedRequest:
        """What the journal keeps of a request, with its key."""
        position = int(self._positions[index])
        return self._plan.asked_at(position, self._keys[position])

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Request: ...

    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...

    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        if isinstance(index, slice):
            return [self._plan[int(position)] for position in self._positions[index]]
        return self._plan[int(self._positions[index])]

    def __iter__(self) -> Iterator[Request]:
        for position in self._positions:
            if self.stopped or (self._budget is not None and not self._budget.take()):
                return
            self.handed_out += 1
            yield self._plan[int(position)]
