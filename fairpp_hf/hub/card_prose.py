"""What a dataset card says in words that depend on where the answers come from: how it was made, limits, licence."""

from collections.abc import Iterable, Mapping
from typing import Any

from fairpp_hf.dataset.folder_facts import FolderFacts
from fairpp_hf.dataset.origin import OUR_LICENCE, PUBLISHED_LICENCE
from fairpp_hf.markdown import code
from fairpp_hf.respondents.base import SIMULATED

_COUNTED = "a reply counting with its option probabilities or as one vote"


def by_survey(facts: FolderFacts) -> bool:
    """Whether all answers are the survey respondent's."""
    return all(name.startswith("survey:") for name in facts.respondents)


def published(facts: FolderFacts) -> bool:
    """Whether the answers are the published ones."""
    return facts.origin.kind == "published"


def names(facts: FolderFacts) -> str:
    """The respondents, listed."""
    return ", ".join(code(name) for name in facts.respondents)


def where(facts: FolderFacts) -> str:
    """The published tables that were imported."""
    origin = facts.origin
    name = code(origin.repo or "the published tables")
    return f"{name} at commit {code(origin.commit[:12])}" if origin.commit else name


def banner(facts: FolderFacts) -> tuple[str, str]:
    """The words at the top on what is simulated: the first ones, and the rest."""
    if by_survey(facts):
        return (
            "Simulated answers.",
            "Nobody was asked these questions, neither a person nor a language model. A choice model with parameters set "
            "from published survey figures, and from stated guesses where there are none, drew every answer. Use it to "
            "build and test methods; draw no conclusion from it on what any group of people wants.",
        )
    if facts.simulated:
        whose = " These are the answers that the authors of Fair-PP published." if published(facts) else ""
        return (
            "Simulated answers.",
            f"No person was asked these questions. {names(facts)} answered them in the role of each persona.{whose} What a "
            "model says in a role is not what the people behind the persona think.",
        )
    return (
        "Mixed or unmarked answers.",
        f"Answers come from {names(facts)}. Those whose name ends in (simulated) were given by a machine in the role of a "
        "persona.",
    )


def questions_made(facts: FolderFacts) -> str:
    """Where the questions come from."""
    if facts.own_questions:
        return (
            "Rendered from 50 templates (5 topics x 5 dimensions x 2 forms), written for this project, for 98 problems and "
            "29 groups. A question's options are of similar length, and C always declines both poles. The test split has "
            "5,669 questions, stratified over topic, dimension and type of group; the two forms of a problem, group and "
            "dimension stay on the same side (but for one, as the sizes are odd)."
        )
    if published(facts):
        return (
            f"The authors' own, word for word as they stand in {where(facts)}, split as there; none was written for this "
            "project. Labels were mapped to the columns above: dimension and form from `Perspective` and `Option`, "
            "`question_id` from problem, group, dimension and form. That id joins them with this project's own wording, "
            '`load_dataset("fairpp", "questions")` with the package `fairpp_hf`, where wanted.'
        )
    return (
        "Taken over with the answers. Their texts are not those that this project wrote, and where they come from is not "
        "recorded."
    )


def answers_made(facts: FolderFacts) -> str:
    """How the answers came about."""
    if by_survey(facts):
        return (
            "A documented choice model gives each persona a position on every dimension and a leaning towards types of "
            "group, from the figures of a survey where it has some and from a stated prior where it has none; a softmax "
            "over A, B and C gives `probabilities`, and a draw seeded by persona and question gives `answer`. The same "
            "version draws the same answers on every machine."
        )
    if published(facts):
        return (
            f"Imported from {where(facts)}, personas by their number there. By the paper, gpt-4o-mini got the authors' "
            "description of a segment as system message and each question as user message. Those descriptions are not in "
            "here, and they are not this project's portraits of the same segments."
        )
    if facts.origin.kind == "folder":
        return f"By {names(facts)}. The folder that they were taken from does not say how they were asked."
    got = (
        f"{_answerers(facts)} got {_messages(facts.run or {}, 'question')}. Replies that are not one of the options are "
        "kept as such."
    )
    return f"{got} {_how_often(facts.run)}" if facts.run and "respondent" in facts.run else got


def _answerers(facts: FolderFacts) -> str:
    """Of the questions: scenarios may have been answered by another respondent."""
    return code(facts.run["respondent"]) if facts.run and "respondent" in facts.run else names(facts)


def _in_user_message(run: Mapping[str, Any]) -> int:
    """Of how many replies the portrait was no system message."""
    if run.get("settings", {}).get("system_as_user"):
        return sum(run["statuses"].values())
    return int(run.get("asked", {}).get("portraits_in_user_message", 0))


def _messages(run: Mapping[str, Any], what: str) -> str:
    """What was sent for a question or scenario, from a run's record."""
    apart = f"each persona's portrait as system message and the {what}'s prompt as user message"
    folded = _in_user_message(run)
    if not folded:
        return apart
    if folded >= _replied(run):
        return f"each persona's portrait and the {what}'s prompt in one user message, without a system message"
    return f"{apart}; for {folded:,} replies, both in one user message"


def _replied(run: Mapping[str, Any]) -> int:
    return sum(count for status, count in run["statuses"].items() if status != "failed")


def _how_often(run: Mapping[str, Any]) -> str:
    """Sentences on samples, orders and statuses of a run, or of its scenarios, from its record."""
    samples, swap = run["samples"], run["swap"]
    times = "once" if samples == 1 else f"{samples} times"
    if swap:
        asked = (
            f"Each was asked {times} in each of two orders, the second with the texts of A and B in each other's place, and "
            f"the answer is the option with the highest mean over both orders, {_COUNTED}."
        )
    elif samples > 1:
        asked = (
            f"Each was asked {times}, and the answer is the option with the highest mean over the samples, {_COUNTED}."
        )
    else:
        asked = "Each was asked once, in one order of the options."
    statuses = ", ".join(f"{count:,} {status}" for status, count in run["statuses"].items())
    counts = run.get("asked", {})
    without = counts.get("without_temperature", 0)
    unsaid = {"temperature"} if without and without >= _replied(run) else set()
    tuned = [
        f"{name.replace('_', ' ')} {run['settings'][name]}"
        for name in ("temperature", "max_tokens")
        if run["settings"].get(name) is not None and name not in unsaid
    ]
    settings = f" Settings: {', '.join(tuned)}." if tuned else ""
    if choices := counts.get("choices"):
        given = counts["constrained_probabilities"]
        settings += f" {choices:,} replies were constrained to a choice of the letters; " + (
            f"{given:,} of them have probabilities, and these are probabilities under a constrained choice."
            if given
            else "none of them has probabilities."
        )
    if without:
        settings += f" For {without:,} replies the temperature was left out."
    return f"{asked}{settings} Replies by status: {statuses or 'none'}."


def scenarios_made(facts: FolderFacts) -> str:
    """What scenarios are."""
    text = (
        "**Scenarios.** Questions of the test split told as scenes: each option is a short story with people in it, and the "
        "persona picks one of the stories."
    )
    if published(facts):
        text += " By the paper, gpt-4o told them; they are taken as published in `tools-o/Fair-PP-simulation`."
    run = (facts.run or {}).get("scenarios")
    if not run:
        return text
    storyteller = run.get("storyteller")
    if storyteller:
        told, set_aside = storyteller["told"], storyteller["set_aside"]
        failed = storyteller["statuses"].get("failed", 0)
        text += (
            f" {code(storyteller['respondent'])} told them. Each story was checked for its form and for words that give an "
            f"option or a persona away: of {told + set_aside:,} stories, {told:,} passed and were answered, the others were "
            "set aside."
        )
        if failed:
            text += f" {failed:,} more were asked for and never came."
    text += f" {code(run['respondent'])} answered them in the role of each persona."
    if _in_user_message(run):
        text += f" It got {_messages(run, 'scenario')}."
    return f"{text} {_how_often(run)}"


def pairs_made(facts: FolderFacts) -> str:
    """How pairs were made and weighted."""
    settings = facts.pairs
    laid_out = "two pairs a question"
    if settings.soft:
        laid_out = "and these two against each other, the likelier one as `chosen`: three pairs a question"
    elif settings.random_third_pair:
        laid_out = "and these two against each other in random order: three pairs a question"
    shown = " The options of the two poles are shown in either order." if settings.option_order == "mixed" else ""
    return (
        f"**Pairs** set the target's option line against each of the other two, {laid_out}.{shown} A question's `tier` is 1 "
        f"plus the number of comparison personas that answered it differently. {_compared_with(facts)} "
        f"{_weighted_by(facts)} `weight` is not normalised over rows.{_labelled_by(facts)} Questions without a valid answer "
        "of the target give no pair."
    )


def _labelled_by(facts: FolderFacts) -> str:
    """Where soft labels come from; empty where there are none."""
    settings = facts.pairs
    if not settings.soft:
        return ""
    of_whom = "the respondent's option probabilities"
    if settings.labels == "fitted":
        of_whom = (
            "a label model, a logistic regression on the labels of the questions that is fitted to the target's answers to "
            "the training questions"
        )
    leaning = "the target's probabilities p"
    if settings.divergence:
        leaning = (
            f"p (p / q)^{settings.divergence:g}, normalised, where p is the target's probability of an option and q that of "
            "the comparison personas, so that it leans away from them"
        )
    return (
        f" `label_probability` is how likely `chosen` is of the two options by the distribution that training should end "
        f"at: {leaning}. Probabilities come from {of_whom} (labels {code(settings.labels)})."
    )


def _compared_with(facts: FolderFacts) -> str:
    comparison = facts.pairs.comparison
    if comparison is None:
        return "A target is compared with all other personas."
    if comparison == "nearest":
        return "A target is compared with the one persona that agrees with it most often, see the table above."
    return f"A target is compared with {', '.join(map(code, facts.pairs.named))}."


def _weighted_by(facts: FolderFacts) -> str:
    settings = facts.pairs
    if callable(settings.scheme):
        return f"Weights come from {code(settings.scheme_name)}, a function of whoever built this folder."
    said = f"Weighting: {code(settings.scheme_name)}."
    if settings.scheme == "uniform":
        return f"{said} Every pair weighs 1."
    if settings.scheme == "surprisal":
        shares = (
            "with personas counted by their share of the survey's population"
            if all(target.shares_known for target in facts.targets.values())
            else "with personas counted all alike, since their shares of a population are not known"
        )
        return (
            f"{said} A pair weighs -log p, where p is the smoothed share of the comparison personas that answer like the "
            f"target, {shares}: surprising answers count most."
        )
    rows = "training questions" if "train" in facts.splits["preferences"] else "questions"
    first = "i" if settings.scheme == "tier" else "(i - 1)"
    why = (
        "as in the paper"
        if settings.scheme == "tier"
        else "as in the published tables, so that questions on which all agree weigh 0"
    )
    return (
        f"{said} Tier i of K weighs in proportion to ({first} / K){_power(settings.alpha)} x (1 / N_i)"
        f"{_power(settings.beta)}, where N_i is the number of {rows} in it, {why}: rare questions that set the target "
        "apart count most."
    )


def _power(exponent: float) -> str:
    return "" if exponent == 1 else f"^{exponent:g}"


def simulated(facts: FolderFacts) -> Iterable[str]:
    """What is simulated, one sentence after another."""
    if by_survey(facts):
        yield "The answers: drawn from a model of survey figures. `probabilities` are the model's, not shares of people."
    elif facts.simulated:
        yield (
            "The answers: a language model played each persona. Where there are `probabilities`, they are the model's, not "
            "shares of people."
        )
    else:
        machines = [code(name) for name in facts.respondents if name.endswith(SIMULATED)]
        yield f"The answers of {', '.join(machines) or 'nobody, as far as their names say'}."
    if facts.persona_set is not None:
        yield (
            "The personas: the segments, their shares and the figures on them come from a survey of people; each portrait "
            "condenses a segment to one character, whom nobody has met."
        )
    else:
        yield "The personas: characters, of whom this folder keeps no more than their names."
    yield "The questions: made from templates. Nobody is known to have faced any of them in these words."
    if facts.scenario_counts:
        yield "The scenarios: invented by a language model, people and all."


def limits(facts: FolderFacts) -> Iterable[str]:
    """What the data cannot tell."""
    yield "Segments are averages. People within one differ, often more than segments do."
    ours = ", with British public life in mind" if facts.own_questions else ""
    yield (
        f"The questions put 98 problems and 29 groups into fixed wording, in English{ours}. Some combinations are "
        "far-fetched."
    )
    yield "A question forces one of two poles or neither. Real views are mixtures, and depend on facts that it leaves out."
    if by_survey(facts):
        yield (
            "Survey figures bear on the questions indirectly, and on some dimensions and groups not at all; there the "
            "model's parameter is a guess. Agreement with these answers says nothing about agreement with people."
        )
        yield (
            "The choice model knows the dimension, the form and the group of a question. What is particular to a problem is "
            "noise to it."
        )
        return
    yield (
        "A language model in a role exaggerates, flattens and stereotypes; the same model with another prompt may answer "
        "otherwise."
    )
    if published(facts):
        yield (
            "The authors' code counts replies that it cannot read, and calls that failed, as C. Where no raw reply was "
            "published, such a C cannot be told from one that was chosen."
        )


def licence(facts: FolderFacts) -> str:
    """On what terms the folder may be used."""
    licence = facts.origin.licence
    ours = "The code that made this folder is under Apache-2.0."
    if licence == PUBLISHED_LICENCE:
        return (
            "All of this folder, from the questions to the pairs and the figures, is under [CC BY-NC-SA 4.0]"
            "(https://creativecommons.org/licenses/by-nc-sa/4.0/), the licence of the published Fair-PP tables that it is "
            "derived from: name the authors, no commercial use, and pass on what you derive from it under the same terms. "
            f"{ours}"
        )
    if licence == OUR_LICENCE and facts.own_questions:
        note = (
            "The survey figures behind the answers are cited as facts."
            if by_survey(facts)
            else "The terms of the language models that answered may add conditions."
        )
        return (
            f"The question texts, the answers and the pairs of this folder are offered under CC BY 4.0. {ours} The labels "
            "of topics, problems, groups and dimensions are taken over from the published Fair-PP tables as facts, so that "
            f"the two can be joined; none of the published prompts, portraits or replies is in here. {note} The published "
            "tables themselves are under CC BY-NC-SA 4.0: whatever is derived from them, such as a folder built from "
            "imported answers or a join with their text, inherits that licence and may not be passed on under this one."
        )
    texts = "The question texts are offered under CC BY 4.0. " if facts.own_questions else ""
    if licence is None:
        return (
            f"The licence of these answers is not known: the folder that they were taken from does not say. Ask whoever "
            f"made it before you pass them on. {texts}{ours}"
        )
    said = f"The answers and pairs are offered under {code(licence)}, as the folder that they were taken from says."
    return f"{said} {texts}{ours}"
