"""The builder behind `load_dataset("fairpp")`: questions, preferences and pairs as Arrow tables.

Tables are made from the package's own data, or from the run, dataset folder or published tables that `answers` names, a
whole column at a time. Nothing is downloaded but the published tables, and those when `answers="published"` asks for them.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
from datasets.builder import Key
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.dataset.origin import OUR_LICENCE, PUBLISHED_LICENCE, Origin
from fairpp_hf.dataset.sources import (
    AnswerSource,
    NameOrPath,
    load_source,
    load_source_scenarios,
    resolve_answers,
    resolve_scenarios,
    show_licence,
    source_features,
    source_has_scenarios,
    source_origin,
    source_personas,
)
from fairpp_hf.naming import check_name
from fairpp_hf.personas import DEFAULT_PERSONA_SET, PersonaSet, load_personas
from fairpp_hf.preferences.pairs import build_pairs
from fairpp_hf.preferences.schemes import WeightingFunction, check_scheme, scheme_name, uses_shares
from fairpp_hf.preferences.weights import check_comparison, preference_weights
from fairpp_hf.questions import HELDOUT, SPLITS, heldout_labels, is_held_out, load_questions
from fairpp_hf.questions.option_order import OPTION_ORDERS
from fairpp_hf.respondents.base import SIMULATED
from fairpp_hf.schema import NO_ANSWER, PAIR_FEATURES, PREFERENCE_FEATURES, QUESTION_FEATURES, SOFT_PAIR_FEATURES

logger = logging.getLogger(__name__)

FEATURES = {
    "questions": QUESTION_FEATURES,
    "preferences": PREFERENCE_FEATURES,
    "pairs": PAIR_FEATURES,
    "scenarios": PREFERENCE_FEATURES,
}
"""Columns of each config; preferences whose source keeps raw replies have one more."""

DESCRIPTION = (
    "What personas taken from opinion surveys hold to be fair: 28,420 questions about who should receive what, a "
    "persona's answer to each, and weighted preference pairs for aligning a language model with one of them."
)

CITATION = """\
@article{zhou2025fairpp,
  title   = {Fair-PP: A Synthetic Dataset for Aligning LLM with Personalized Preferences of Social Equity},
  author  = {Zhou, Qi and Zhang, Jie and Wang, Dongxia and Liu, Qiang and Li, Tianlin and Dong, Jin Song
             and Wang, Wenhai and Guo, Qing},
  journal = {arXiv preprint arXiv:2505.11861},
  year    = {2025}
}"""

_PARAGRAPH = "\n\n"

NOBODY_ASKED = "All of them are simulated; nobody was asked."
"""In the description of pairs that are made of simulated answers alone."""

_ANSWER_ARGUMENTS = ("answers", "published_revision", "personas")
_PAIR_ARGUMENTS = (
    "target",
    "weighting",
    "alpha",
    "beta",
    "comparison",
    "random_third_pair",
    "option_order",
    "soft_labels",
    "seed",
)
ARGUMENTS = {
    "questions": ("heldout",),
    "preferences": (*_ANSWER_ARGUMENTS, "heldout"),
    "pairs": (*_ANSWER_ARGUMENTS, "heldout", *_PAIR_ARGUMENTS),
    "scenarios": _ANSWER_ARGUMENTS,
}
"""Builder arguments that apply to each config."""


@dataclass
class FairPPConfig(datasets.BuilderConfig):
    """Arguments of `load_dataset("fairpp", config, ...)`.

    Args:
        answers: `"survey"` (simulated, from survey figures), `"published"` (the tables of the paper, from the Hub or its
            cache), or the path of a run, of a dataset folder, or of CSV or Parquet files in the shape of those tables.
        published_revision: with `"published"`, a branch, tag or commit of `tools-o/Fair-PP`, or, for config `scenarios`,
            of `tools-o/Fair-PP-simulation`; `main` by default.
        personas: name or file of a persona set; by default `britains_choice_2020` for the survey respondent, and all
            personas of other answers.
        heldout: `"topics"`, `"groups"` or `"dimensions"`: questions with a held-out label are the test split and all
            others the training split, whatever the source's own splits, see `heldout_labels`. Weights are fitted on the
            training split.
        target: persona whose answers are chosen; pairs need it.
        weighting: weighting scheme, see `preference_weights`: a name, or a function of `WeightingFacts`. The shares of a
            scheme that uses them are those of the persona set; where it is not known, or has no share of a comparison
            persona, all count alike and the log says so.
        alpha: see `preference_weights`.
        beta: see `preference_weights`.
        comparison: personas to move away from, see `preference_weights`; all others by default, `"nearest"` for the one
            that agrees with the target most often on the training questions.
        random_third_pair: adds the paper's third pair to each question, see `build_pairs`.
        option_order: `"mixed"` shows the options of the two poles in each other's place in a random half of the questions,
            see `build_pairs`; `"written"` shows them as config `questions` does.
        soft_labels: adds the column `label_probability`, see `build_pairs`. The target's answers must have option
            probabilities.
        seed: of the order within the third pair, and of the half that `option_order` takes.
    """

    answers: NameOrPath = "survey"
    published_revision: str | None = None
    personas: NameOrPath | None = None
    heldout: Literal["topics", "groups", "dimensions"] | None = None
    target: str | None = None
    weighting: str | WeightingFunction = "tier"
    alpha: float = 1.0
    beta: float = 1.0
    comparison: Sequence[str] | Literal["nearest"] | None = None
    random_third_pair: bool = False
    option_order: Literal["written", "mixed"] = "written"
    soft_labels: bool = False
    seed: int = 0

    @cached_property
    def source(self) -> AnswerSource:
        """What `answers` points at, found out once, so that a branch on the Hub means one commit throughout."""
        resolve = resolve_scenarios if self.name == "scenarios" else resolve_answers
        return resolve(self.answers, self.published_revision)

    @cached_property
    def persona_set(self) -> PersonaSet | None:
        """The persona set that the answers belong to; None where it is not known."""
        return source_personas(self.source, self.personas)

    def load(self) -> Answers:
        """The answers, divided as `heldout` says.

        Raises:
            ValueError: as `load_answers` does, or the source has no scenarios, which this config wants.
        """
        if self.name == "scenarios":
            scenarios = load_source_scenarios(self.source, self.personas)
            if scenarios is None:
                raise _no_scenarios(self.answers)
            return scenarios
        answers = load_source(self.source, self.personas)
        return answers if self.heldout is None else answers.held_out(self.heldout)

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """Name of the folder in the cache: the same for the same rows, however the arguments were written.

        Paths count by what lies there, so that the same data is found again under another path and changed data is
        built anew. A weighting function counts by the weights it gives: `datasets.fingerprint.Hasher` sees no more than
        the name of a function in a module, and so would take changed code for the same.
        """
        # Made by copying the default config and setting what was given: what that one found out does not hold here.
        for found_out in ("source", "persona_set"):
            self.__dict__.pop(found_out, None)
        identity: dict[str, Any] = {
            field.name: value
            for field in fields(self)
            if field.name in ("heldout", *_PAIR_ARGUMENTS) and (value := getattr(self, field.name)) != field.default
        }
        if callable(self.weighting):
            identity["weighting"] = self._weights_digest()
        elif self.target is not None and uses_shares(self.weighting) and self.persona_set is not None:
            # A folder's record of its personas may change without its answers.
            identity["shares"] = {persona.id: persona.share for persona in self.persona_set}
        if self.name != "questions" and self.source.path is not None:
            identity["answers"] = [self.source.kind, self.source.fingerprint(scenarios=self.name == "scenarios")]
        if self.personas is not None:
            identity["personas"] = load_personas(self.personas).digest
        if custom_features is not None:
            identity["features"] = custom_features.to_dict()
        if not identity:
            return self.name
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return f"{self.name}-{digest[:16]}"

    def _weights_digest(self) -> str:
        """Changes with what the weighting function gives; of no use, and empty, without a target."""
        if self.target is None:
            return ""
        answers = self.load()
        weights = preference_weights(
            answers.matrix(),
            self.target,
            comparison=self.comparison,
            scheme=self.weighting,
            shares=known_shares(self.persona_set, answers, self.target, self.comparison),
            fit_rows=fit_rows(answers),
        )
        return hashlib.sha256(weights.weight.tobytes()).hexdigest()


class FairPP(datasets.ArrowBasedBuilder):
    """Questions, preferences (the default) and pairs, with the splits train and test, and scenarios, with test alone."""

    BUILDER_CONFIG_CLASS = FairPPConfig
    BUILDER_CONFIGS = [FairPPConfig(name=name) for name in FEATURES]  # noqa: RUF012 (the base class's own form)
    DEFAULT_CONFIG_NAME = "preferences"

    def _create_builder_config(
        self,
        config_name: str | None = None,
        custom_features: datasets.Features | None = None,
        config_id: str | None = None,
        **config_kwargs: Any,
    ) -> tuple[FairPPConfig, str]:
        # The registration passes empty data files, which only `datasets` needs.
        if config_kwargs.get("data_files") is not None and not config_kwargs["data_files"]:
            del config_kwargs["data_files"]
        name = check_name("config", config_name or self.DEFAULT_CONFIG_NAME, FEATURES)
        given = {argument: value for argument, value in config_kwargs.items() if value is not None}
        check_arguments(name, given)
        # Arguments that say the same in other words must not make another dataset.
        if given.get("personas") == DEFAULT_PERSONA_SET and given.get("answers", "survey") == "survey":
            del given["personas"]
        given |= {argument: float(given[argument]) for argument in ("alpha", "beta") if argument in given}
        if "comparison" in given and not isinstance(given["comparison"], str):
            given["comparison"] = tuple(sorted(set(given["comparison"])))
        return super()._create_builder_config(name, custom_features, config_id, **given)

    def _info(self) -> datasets.DatasetInfo:
        config = self.config
        features = SOFT_PAIR_FEATURES if config.soft_labels else FEATURES[config.name]
        if config.name in ("preferences", "scenarios"):
            features = source_features(config.source, scenarios=config.name == "scenarios")
        # What is asked in `questions` is our own wording.
        origin = Origin("survey", OUR_LICENCE) if config.name == "questions" else source_origin(config.source)
        return datasets.DatasetInfo(
            description=DESCRIPTION,
            features=features.copy(),
            citation=CITATION,
            license=origin.licence or "",
            homepage=f"https://huggingface.co/datasets/{origin.repo}" if origin.commit else "",
        )

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Build the tables into the cache unless they are there."""
        self._before_rows()
        super().download_and_prepare(*args, **kwargs)
        self._say_what_is_missing()

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Stream the tables without writing them anywhere."""
        self._before_rows()
        streams = super().as_streaming_dataset(*args, **kwargs)
        self._say_what_is_missing()
        return streams

    def _before_rows(self) -> None:
        """Check and say what concerns rows only; names of splits can be had without a target."""
        if self.config.name == "pairs" and self.config.target is None:
            raise ValueError(
                "target must be given for config 'pairs'; got none. Pairs are made for one persona. Add a persona's id, as "
                'in load_dataset("fairpp", "pairs", target="loyal_nationals").'
            )
        if self.config.name == "questions":
            return
        if self.config.name == "scenarios" and not source_has_scenarios(self.config.source):
            raise _no_scenarios(self.config.answers)
        if self.config.source.kind == "survey":
            _warn_simulated()
        if source_origin(self.config.source).licence == PUBLISHED_LICENCE:
            show_licence()

    def _say_what_is_missing(self) -> None:
        """Once a load, also when it comes from the cache: the description there keeps what was counted."""
        _, *rest = self.info.description.split(_PARAGRAPH)
        if len(rest) > 1:
            logger.warning(rest[1])

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:
        name = self.config.name
        if name == "questions":
            return [datasets.SplitGenerator(split, gen_kwargs={"split": split}) for split in SPLITS]
        if name == "pairs":
            # Without a target only the names of the splits are asked for.
            if self.config.target is None:
                found = self._answers.splits()
            else:
                found = tuple(split for split in SPLITS if len(self._pairs[split]))
            if not found:
                raise ValueError(
                    f"target must have at least one valid answer; got none of {self.config.target!r} in "
                    f"{self.config.answers!r}. Choose another target or other answers."
                )
            if self.config.target is not None:
                missing = " ".join(
                    filter(None, (missing_pairs(self._answers, self.config.target), self._missing_shares()))
                )
                self.info.description = _PARAGRAPH.join(filter(None, (DESCRIPTION, self._provenance(), missing)))
            return [datasets.SplitGenerator(split, gen_kwargs={"split": split}) for split in found]
        if name == "scenarios" and not source_has_scenarios(self.config.source):
            # Only the names of the splits are asked for.
            return [datasets.SplitGenerator("test", gen_kwargs={"split": "test"})]
        if self._answers.origin.kind == "published":
            self.info.description = _PARAGRAPH.join((DESCRIPTION, imported(self._answers.origin)))
        # A list counts as shards: personas are divided among the workers of num_proc and of a streaming DataLoader.
        return [
            datasets.SplitGenerator(split, gen_kwargs={"split": split, "personas": self._answers.personas_in(split)})
            for split in self._answers.splits()
        ]

    def _generate_tables(self, split: str, personas: list[str] | None = None) -> Iterator[tuple[Key, pa.Table]]:
        if self.config.name == "questions":
            yield Key(0, 0), divided_questions(split, self.config.heldout)
        elif self.config.name == "pairs":
            yield Key(0, 0), self._pairs[split]
        else:
            for number, table in enumerate(self._answers.preferences(split, personas)):
                yield Key(number, 0), table

    @cached_property
    def _answers(self) -> Answers:
        return self.config.load()

    @cached_property
    def _shares(self) -> Mapping[str, float] | None:
        config = self.config
        if not uses_shares(config.weighting):
            return None
        return known_shares(config.persona_set, self._answers, config.target, config.comparison)

    def _provenance(self) -> str:
        """A sentence on where these pairs come from, for whoever finds only the dataset, such as a model's card."""
        config = self.config
        respondents = self._answers.respondents
        pairs = f"Pairs for {config.target}, weighting {scheme_name(config.weighting)}, answers by {', '.join(respondents)}."
        if config.option_order == "mixed":
            pairs += " The options of the two poles are shown in either order."
        if config.heldout is not None:
            pairs += f" Held out of training: {config.heldout} ({', '.join(map(str, heldout_labels(config.heldout)))})."
        if all(name.endswith(SIMULATED) for name in respondents):
            pairs += f" {NOBODY_ASKED}"
        return f"{pairs} {imported(origin)}" if (origin := self._answers.origin).kind == "published" else pairs

    def _missing_shares(self) -> str:
        """A sentence where the weighting would use shares that are not known, otherwise empty."""
        if self._shares is not None or not uses_shares(self.config.weighting):
            return ""
        return shares_unknown(self.config.weighting)

    @cached_property
    def _pairs(self) -> Mapping[str, pa.Table]:
        config = self.config
        return answer_pairs(
            self._answers,
            config.target,
            weighting=config.weighting,
            alpha=config.alpha,
            beta=config.beta,
            shares=self._shares,
            comparison=config.comparison,
            random_third_pair=config.random_third_pair,
            option_order=config.option_order,
            soft_labels=config.soft_labels,
            seed=config.seed,
        )

    def __getstate__(self) -> dict[str, Any]:
        # Workers of num_proc load the tables themselves: cheaper than sending them.
        return {name: value for name, value in self.__dict__.items() if name not in ("_answers", "_pairs", "_shares")}


def imported(origin: Origin) -> str:
    """Sentences on what published tables these answers are, on what terms, and what was counted at import."""
    version = f", commit {origin.commit}" if origin.commit else ""
    return " ".join((f"Imported from {origin.repo}{version}, licence {origin.licence}.", *origin.notes))


def divided_questions(split: str, heldout: str | None = None) -> pa.Table:
    """The questions of a split, `"train"` or `"test"`, in the default division or in one that holds labels out."""
    if heldout is None:
        return load_questions(split)
    questions = load_questions()
    is_test = is_held_out(questions, heldout)
    return questions.filter(pa.array(is_test if split == "test" else ~is_test))


def answer_pairs(
    answers: Answers,
    target: str,
    *,
    weighting: str | WeightingFunction = "tier",
    alpha: float = 1.0,
    beta: float = 1.0,
    shares: Mapping[str, float] | None = None,
    comparison: Sequence[str] | Literal["nearest"] | None = None,
    random_third_pair: bool = False,
    option_order: Literal["written", "mixed"] = "written",
    soft_labels: bool = False,
    seed: int = 0,
) -> Mapping[str, pa.Table]:
    """Preference pairs by split, `"train"` and `"test"`; the arguments are those of `FairPPConfig`.

    Tiers' masses and the nearest persona are fitted on the training questions and applied to both splits. Where no
    training question was answered, as in a run over the test split alone, they are fitted on the test questions.
    """
    check_name("target", target, answers.personas)
    is_train = fit_rows(answers)
    pairs = build_pairs(
        answers.questions,
        answers.matrix(),
        target,
        is_train=is_train,
        scheme=weighting,
        alpha=alpha,
        beta=beta,
        shares=shares,
        comparison=comparison,
        random_third_pair=random_third_pair,
        option_order=option_order,
        probabilities=answers.probabilities(target) if soft_labels else None,
        seed=seed,
    )
    if is_train is None:
        return {"train": pairs["train"].slice(0, 0), "test": pairs["train"]}
    return pairs


def fit_rows(answers: Answers) -> NDArray[np.bool_] | None:
    """The rows to fit weights on, (n,): the training questions; None, which is all, where there are none."""
    is_train = ~answers.is_test
    return is_train if is_train.any() else None


def known_shares(
    persona_set: PersonaSet | None, answers: Answers, target: str, comparison: Sequence[str] | None = None
) -> dict[str, float] | None:
    """Population shares of a set's personas; None where the set is not known or lacks one of the comparison personas."""
    if persona_set is None:
        return None
    shares = {persona.id: persona.share for persona in persona_set}
    if comparison is None or isinstance(comparison, str):
        comparison = [persona for persona in answers.personas if persona != target]
    return shares if set(comparison) <= set(shares) else None


def shares_unknown(weighting: str | WeightingFunction) -> str:
    """A sentence on what follows where `known_shares` gives None."""
    name = scheme_name(weighting)
    return f"The population shares of these personas are not known: weighting {name!r} counts them all alike."


def missing_pairs(answers: Answers, target: str) -> str:
    """A sentence on the questions that `answer_pairs` leaves out, empty where there are none."""
    column = answers.matrix()[target]
    without = int((column == NO_ANSWER).sum())
    if not without:
        return ""
    return f"{without:,} of {len(column):,} questions have no valid answer of {target} and give no pair."


def check_arguments(config: str, given: Mapping[str, Any]) -> None:
    """Check the names and types of the builder arguments that were given for a config.

    Raises:
        ValueError: an argument is unknown, does not apply to the config, or has a value that is not allowed.
    """
    applicable = ARGUMENTS[config]
    for name, value in given.items():
        if name in ("data_files", "data_dir"):
            raise ValueError(
                f"{name} must not be given to the builder of fairpp; got {value!r}. Pass answers=... instead."
            )
        homes = [other for other, arguments in ARGUMENTS.items() if name in arguments]
        if not homes:
            check_name("builder argument", name, ARGUMENTS["pairs"])
        if name not in applicable:
            raise ValueError(
                f"{name} must only be given for config {' or '.join(map(repr, homes))}; got it for config {config!r}. "
                "Leave it out."
            )
    check_scheme("weighting", given.get("weighting", "tier"), given.get("alpha", 1.0), given.get("beta", 1.0))
    for name, kind, words in (
        ("target", str, "the id of a persona"),
        ("published_revision", str, "a branch, tag or commit"),
        ("random_third_pair", bool, "True or False"),
        ("soft_labels", bool, "True or False"),
        ("seed", int, "a whole number"),
    ):
        if name in given and (type(given[name]) is not kind):
            raise ValueError(f"{name} must be {words}; got {given[name]!r}.")
    check_comparison(given.get("comparison", []))
    if "heldout" in given:
        check_name("heldout", given["heldout"], HELDOUT)
    if "option_order" in given:
        check_name("option_order", given["option_order"], OPTION_ORDERS)


def _no_scenarios(answers: NameOrPath) -> ValueError:
    return ValueError(
        f"answers must hold scenarios for config 'scenarios'; got {str(answers)!r}, which holds none. Use "
        "answers='published', a run on which `fairpp scenarios` was run, a dataset folder with scenarios/test-*.parquet, "
        "or a table with the column 'simulation_question'."
    )


@cache
def _warn_simulated() -> None:
    """Once in the log of a process."""
    logger.warning(
        "fairpp: these answers are simulated from survey figures (answers='survey'); nobody was asked. They must not be "
        "read as the views of real people."
    )
