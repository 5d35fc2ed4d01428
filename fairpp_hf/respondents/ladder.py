"""How a server is asked: the best way that it takes, found on the first requests by stepping down.

At the top, a reply is constrained to a JSON object with the letter of an option, by a schema that OpenAI, vLLM, SGLang,
llama.cpp, LM Studio and Ollama know, and log-probabilities come with it. A server may refuse the schema, some or all
log-probabilities, the temperature, or a system message, with an error or by a crash. What its words name is left out;
where they name nothing, each is left out alone, then schema and log-probabilities, then all. Only a success settles
what is left out. What only a crash has ruled out is tried again in the two requests after that, since the crash may have
been a passing one. A way that the server took before, in an earlier call, is taken to be right: a crash is a passing one
then, until there are more in a row than one request has tries.

Nothing here waits, sends or logs.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

TOP_LOGPROBS = (20, 10, 5, 0)
"""How many alternatives of each token are asked for, from the most that the API allows; 0 is no log-probabilities."""

_CRASHES_TO_RULE_OUT = 3
"""Of a way, in as many requests that another way then answers."""
_CRASHES_TO_DOUBT = 6
"""In a row, of a way that the server took before."""

_ASKED = {"choice": "constrained choice", "schema": "JSON schema", "text": "free text"}
_WORDS = {
    "top_logprobs": re.compile(r"log_?prob", re.I),
    "temperature": re.compile(r"\btemperature\b", re.I),
    "system": re.compile(r"system[ _](role|message|prompt|instruction)|role\W+system|roles? must alternate|"
                         r"only user and assistant roles|developer instruction", re.I),
    "ask": re.compile(r"response_?format|json_?schema|structured.?output|guided.?decoding|grammar", re.I),
}  # fmt: skip
"""What a server names when it refuses one thing."""


class Way(NamedTuple):
    """How a request is written."""

    ask: str = "choice"
    """`choice` or, of stories, `schema`: constrained by a JSON schema; `text`: free text."""
    top_logprobs: int = TOP_LOGPROBS[0]
    """Alternatives of each token that are asked for; 0 for no log-probabilities."""
    temperature: bool = True
    """Whether the temperature is said."""
    system: bool = True
    """Whether the portrait is a system message; if not, it begins the user's message."""
    length_parameter: str = "max_tokens"
    """The name of the limit on a reply's length."""
    room: bool = False
    """Whether there is room to think before the answer."""

    def facts(self) -> dict[str, Any]:
        """JSON-able: how it asks, how many alternatives, and everything else that is not as usual."""
        usual = Way()
        shown = {"ask": self.ask, "top_logprobs": self.top_logprobs}
        return shown | {name: value for name, value in self._asdict().items() if value != getattr(usual, name)}

    @classmethod
    def of(cls, facts: Any) -> "Way | None":
        """The way with these `facts`; None where they are none."""
        if not isinstance(facts, Mapping) or not facts.keys() <= set(cls._fields) or facts.get("ask") not in _ASKED:
            return None
        right = all(isinstance(value, type(getattr(cls(), name))) for name, value in facts.items())
        return cls(**facts) if right else None

    def words(self) -> str:
        """In words, such as `constrained choice, 20 alternatives of each token`."""
        parts = [_ASKED[self.ask]]
        if self.ask != "schema":
            tops = self.top_logprobs
            parts.append(f"{tops} alternatives of each token" if tops else "no log-probabilities")
        parts += [] if self.temperature else ["temperature left out"]
        parts += [] if self.system else ["portraits in the user's message"]
        parts += ["room to think"] if self.room else []
        return ", ".join(parts)


class Ladder:
    """What one server takes, as far as it is known. Until it is settled, one request at a time is to ask.

    It begins at the way `top`; what the user has `fixed` is not stepped down from.
    """

    def __init__(self, top: Way, fixed: frozenset[str] = frozenset()) -> None:
        self._top = top
        self._fixed = fixed
        self._best = top
        self.settled = False
        """Whether a success has shown that the server takes `way`."""
        self.answered: Way | None = None
        """How the last request was asked that the server answered."""
        self._refused: set[Way] = set()
        self._crashed: set[Way] = set()
        self._suspected: Counter[Way] = Counter()
        """In how many requests a way crashed where another one then succeeded."""
        self._in_vain = False
        """Whether every way has crashed since the last success."""
        self._trust = 0
        """How many crashes are yet taken to be passing ones."""
        self.refusals = 0
        """Requests since the last answer that were refused in every way."""
        self.roomy = self.roomless = False
        """Whether the server has answered a request with room to think; whether it has refused the first one for it."""

    @property
    def way(self) -> Way:
        """How to ask now."""
        return next(self._left(), self._best)

    def begin_with(self, way: Way) -> None:
        """Begin at a way that the server took before, unless it is settled here."""
        if not self.settled:
            self._best, self._trust = way, _CRASHES_TO_DOUBT

    def learn(self, **fields: Any) -> None:
        """Change what is no step of the ladder: the name of the limit, and the room."""
        self._best = self._best._replace(**fields)
        for ways in (self._refused, self._crashed):
            changed = {way._replace(**fields) for way in ways}
            ways.clear()
            ways.update(changed)
        self._suspected = Counter({way._replace(**fields): times for way, times in self._suspected.items()})

    def named(self, way: Way, message: str) -> str | None:
        """The field of a way that a server's words name and that could be stepped down from; None where there is none."""
        if self.settled:
            return None
        fields = (name for name, words in _WORDS.items() if words.search(message))
        return next((name for name in fields if self._lowered(way, name) != way), None)

    def step_down(self, way: Way, message: str = "", *, crashed: bool = False, at_fault: str | None = None) -> bool:
        """A request failed, and the way may be at fault.

        Args:
            way: The way in which it was asked.
            message: The server's words.
            crashed: Whether it may be a passing fault: a status of 500 or above, or no content.
            at_fault: The field that seems to be at fault, where no words say so.

        Returns:
            Whether another way is to be tried at once. Where every way has crashed, each further one is an ordinary try.
        """
        if self.settled:
            return False
        named = self.named(way, message)
        if crashed and named is None and self._trust:
            self._trust -= 1
            if not self._trust:
                self._restart()
            return False
        if named is not None:
            self._best = self._lowered(self._best, named, to=_fewer(way.top_logprobs, message))
        elif crashed:
            if way in self._suspected:  # and so are the others, which need not be tried
                often = self._suspected[way] + 1 >= _CRASHES_TO_RULE_OUT
                (self._refused if often else self._crashed).update(self._suspected)
            self._crashed.update([way] if at_fault is None else self._alike(way, at_fault))
        else:
            self._refused.add(way)
        if next(self._left(), None) is not None:
            return not (crashed and self._in_vain)
        self._in_vain = self._in_vain or crashed
        self.refusals += not crashed
        self._restart()
        return False

    def succeeded(self, way: Way, asked: Way | None = None) -> bool:
        """The server answered a request that was `asked` in one way in another `way`, without what it has ignored.

        Returns:
            Whether that settles it now.
        """
        if self.settled:
            return False
        self.answered = way
        self.refusals = 0
        self._in_vain = False
        # A server that takes a schema and ignores it has answered in free text.
        if asked is not None and asked.ask != way.ask:
            self._refused |= {step for step in self._steps() if step.ask != "text" and way == step._replace(ask="text")}
        doubtful = self._crashed - self._refused
        if doubtful and way not in doubtful:
            self._suspected.update(doubtful)
            self._crashed.clear()
            return False
        self._best, self.settled = way, True
        return True

    def _restart(self) -> None:
        """Nothing has worked, which says nothing about any way."""
        kept = {name: getattr(self._best, name) for name in ("length_parameter", "room")}
        self._best = self._top._replace(**kept)
        self._refused.clear()
        self._crashed.clear()
        self._suspected.clear()

    def _left(self) -> Iterator[Way]:
        return (step for step in self._steps() if step not in self._refused and step not in self._crashed)

    def _steps(self) -> list[Way]:
        """From the best way down."""
        best = self._best
        if self.settled:
            return [best]
        names = [name for name in _WORDS if self._lowered(best, name) != best]
        alone = [self._lowered(best, name) for name in names]
        form = self._lowered(self._lowered(best, "ask"), "top_logprobs")
        bare = best
        for name in names:
            bare = self._lowered(bare, name)
        return list(dict.fromkeys([best, *alone, form, bare]))

    def _alike(self, way: Way, field: str) -> list[Way]:
        return [step for step in self._steps() if getattr(step, field) == getattr(way, field)]

    def _lowered(self, way: Way, name: str, *, to: int = 0) -> Way:
        """A way without one thing."""
        if name in self._fixed:
            return way
        if name == "top_logprobs":
            return way._replace(top_logprobs=min(to, way.top_logprobs))
        if name == "ask":
            return way._replace(ask="text")
        return way._replace(temperature=False) if name == "temperature" else way._replace(system=False)


def _fewer(top_logprobs: int, message: str) -> int:
    """How many alternatives to ask for next, where a message is about them: what it names, or the next fewer, or none."""
    named = [number for number in map(int, re.findall(r"\b\d{1,2}\b", message)) if number < top_logprobs]
    if not named and "top_logprobs" not in message:
        return 0
    most = max(named, default=top_logprobs - 1)
    return next(number for number in TOP_LOGPROBS if number <= most)


def folded(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Chat messages without a system message: its text begins the first message of the user.

    Example:
        >>> folded([{"role": "system", "content": "You are Ann."}, {"role": "user", "content": "Which?"}])
        [{'role': 'user', 'content': 'You are Ann.\\n\\nWhich?'}]
    """
    texts = [message["content"] for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    if not texts or not others:
        return messages
    first = others[0]
    return [{**first, "content": "\n\n".join([*texts, first["content"]])}, *others[1:]]
