"""A storyteller for the loopback server: good stories, and bad ones to order."""

import hashlib
import json

from loopback_openai import Call, Served

from fairpp_hf.scenarios.stories import wording

NAMES = ("Maria", "Joan", "Ruth", "Priya", "Owen", "Tariq", "Elsie", "Huw")


def is_story_call(call: Call) -> bool:
    return call.system == wording()["system"]


def good_story(user: str) -> dict[str, str | None]:
    """A fit story for a storyteller's prompt, the same in every process; every fourth has a third scene."""
    digest = hashlib.sha256(user.encode()).digest()
    first, second, third = (NAMES[digest[place] % 8] for place in range(3))
    number = int.from_bytes(digest[:4])
    return {
        "first": f"{first} keeps shop number {number} in Leeds. She has to settle it by tonight, and lets each of them keep "
        "what they have. She feels relieved.",
        "second": f"{second} runs the kitchen at number {number} in Hull. At noon he puts it all on one table for everyone. "
        "Nobody complains. He feels calm.",
        "third": f"{third} holds the keys of hall {number} in Bath. She is asked to settle it. She feels unsure and waits."
        if digest[4] % 4 == 0
        else None,
        "closing_question": "Which of these is fairer to you?",
    }


def tell(call: Call) -> Served:
    """A fit story to a storyteller's prompt, a letter to any other."""
    if is_story_call(call):
        return Served(content=json.dumps(good_story(call.user)))
    digest = hashlib.sha256(f"{call.system}\n{call.user}".encode()).digest()
    return Served(content="ABC"[digest[0] % 3])


def bad_for(call: Call, share: int) -> bool:
    """Whether this prompt is one of about 1 in `share`."""
    return hashlib.sha256(call.user.encode()).digest()[5] % share == 0
