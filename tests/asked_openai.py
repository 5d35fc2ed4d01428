"""Requests for an OpenAI respondent, and its replies to them."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from loopback_openai import Call, LoopbackServer, Served

from fairpp_hf.respondents import OpenAIRespondent
from fairpp_hf.respondents.base import Reply, Request, Respondent

OPTIONS = ("Merit.", "Need.", "Neither.")
USAGE = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}


def requests(count: int) -> list[Request]:
    """q0, q1 and so on, each with a portrait as its system message."""
    return [
        Request(f"q{n}", "p", [{"role": "system", "content": "You."}, {"role": "user", "content": f"q{n}"}], OPTIONS)
        for n in range(count)
    ]


def serve(
    answer: Callable[[Call], Served], asked: int | Sequence[Request] = 1, **options: Any
) -> tuple[LoopbackServer, OpenAIRespondent, dict[int, Reply]]:
    """Ask a server; returns it, closed again, the respondent with these options, and the replies."""
    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, **options)
        return server, respondent, ask(respondent, asked)


def ask(
    respondent: Respondent, asked: int | Sequence[Request] = 1, received: dict[int, Reply] | None = None
) -> dict[int, Reply]:
    """Index to reply, in the order of the requests; those of before an error are in `received`."""
    replies = {} if received is None else received

    async def collect() -> None:
        async for index, reply in respondent.answer(requests(asked) if isinstance(asked, int) else asked):
            replies[index] = reply

    asyncio.run(collect())
    return dict(sorted(replies.items()))
