"""The builder behind `load_dataset("fairpp")`: questions, preferences and pairs as Arrow tables.

Tables are made from the package's own data, or from the run, dataset folder or published tables that `answers` names, a
whole column at a time. Nothing is downloaded but the published tables, and those when `answers="published"` asks for them.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import datasets
import pyarrow as pa
from datasets.builder import Key

from fairpp_hf.dataset.answer_pairs import AnswerPairs, answer_pairs, answer_weights
from fairpp_hf.dataset.answers import Answers, warn_once
from fairpp_hf.dataset.sources import SURVEY, AnswerSource, NameOrPath, resolve_answers, show_licence
from fairpp_hf.naming import check_name
from fairpp_hf.personas import DEFAULT_PERSONA_SET, PersonaSet, load_personas
from fairpp_hf.preferences import PairSettings
from fairpp_hf.provenance import CITATION, OUR_LICENCE, PUBLISHED_LICENCE
from fairpp_hf.questions import HELDOUT, SPLITS, heldout_labels, is_held_out, load_questions, split_of
from fairpp_hf.schema import PAIR_FEATURES, PREFERENCE_FEATURES, QUESTION_FEATURES, SOFT_PAIR_FEATURES

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

_PARAGRAPH = "\n\n"
_MISSING = "Missing: "

_ANSWER_ARGUMENTS = ("answers", "published_revision", "personas")
_PAIR_ARGUMENTS = tuple(item.name for item in fields(PairSettings))
ARGUMENTS = {
    "questions": ("heldout",),
    "preferences": (*_ANSWER_ARGUMENTS, "heldout"),
    "pairs": (*_ANSWER_ARGUMENTS, "heldout", "target", *_PAIR_ARGUMENTS, "soft_labels"),
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
        pairs: how pairs are made. `load_dataset` takes each field of `PairSettings` as an argument of its own (`weighting`,
            `alpha`, `beta`, `comparison`, `random_third_pair`, `option_order`, `labels`, `divergence`, `seed`), and
            `soft_labels=True` for `labels="respondent"`. The shares of a population, where a weighting or a divergence
            uses them, are those of the persona set; where it is not known, or has no share of a comparison persona, all
            count alike and the log says so.
    """

    answers: NameOrPath = "survey"
    published_revision: str | None = None
    personas: NameOrPath | None = None
    heldout: Literal["topics", "groups", "dimensions"] | None = None
    target: str | None = None
    pairs: PairSettings = field(default_factory=PairSettings)

    @cached_property
    def source(self) -> AnswerSource:
        """What `answers` points at, found out once, so that a branch on the Hub means one commit throughout."""
        return resolve_answers(self.answers, self.published_revision, scenarios=self.name == "scenarios")

    @property
    def lacks_scenarios(self) -> bool:
        """Whether the answers to scenarios are wanted, and there are none. Names of splits can be had all the same."""
        return self.name == "scenarios" and not self.source.has_scenarios()

    @cached_property
    def persona_set(self) -> PersonaSet | None:
        """The persona set that the answers belong to; None where it is not known."""
        return self.source.persona_set(self.personas)

    def load(self) -> Answers:
        """The answers, divided as `heldout` says."""
        self.check_scenarios()
        answers = self.source.load(self.personas)
        return answers if self.heldout is None else answers.held_out(self.heldout)

    def check_scenarios(self) -> None:
        """Check that there are answers to scenarios where they are wanted."""
        if self.lacks_scenarios:
            raise ValueError(
                f"answers must hold scenarios for config 'scenarios'; got {str(self.answers)!r}, which holds none. Use "
                "answers='published', a run on which `fairpp scenarios` was run, a dataset folder with "
                "scenarios/test-*.parquet, or a table with the column 'simulation_question'."
            )

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """Name of the folder in the cache: the same for the same rows, however the arguments were written.

        Paths count by what lies there, so that the same data is found again under another path and changed data is
        built anew. A weighting function counts by the weights it gives: `datasets.fingerprint.Hasher` sees no more than
        the name of a function in a module, and so would take changed code for the same.
        """
        # Made by copying the default config and setting what was given: what that one found out does not hold here.
        for found_out in ("source", "persona_set"):
            self.__dict__.pop(found_out, None)
        default = PairSettings().as_dict()
        identity: dict[str, Any] = {
            name: value for name, value in self.pairs.as_dict().items() if value != default[name]
        }
        identity |= {name: value for name in ("heldout", "target") if (value := getattr(self, name)) is not None}
        if callable(self.pairs.scheme):
            identity["weighting"] = self._weights_digest()
        if self.target is not None and self.pairs.uses_shares and self.persona_set is not None:
            # A folder's record of its personas may change without its answers.
            identity["shares"] = {persona.id: persona.share for persona in self.persona_set}
        if self.name != "questions" and self.source.kind != SURVEY:
            identity["answers"] = [self.source.kind, "" if self.lacks_scenarios else self.source.fingerprint()]
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
        weights = answer_weights(self.load(), self.target, self.pairs, self.persona_set)
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
        if "soft_labels" in given:
            given["labels"] = labels_of(**given)
        # Arguments that say the same in other words must not make another dataset.
        if given.get("personas") == DEFAULT_PERSONA_SET and given.get("answers", "survey") == "survey":
            del given["personas"]
        pairs = {argument: given.pop(argument) for argument in _PAIR_ARGUMENTS if argument in given}
        given.pop("soft_labels", None)
        return super()._create_builder_config(name, custom_features, config_id, pairs=PairSettings(**pairs), **given)

    def _info(self) -> datasets.DatasetInfo:
        config = self.config
        features = SOFT_PAIR_FEATURES if config.pairs.soft else FEATURES[config.name]
        if config.name in ("preferences", "scenarios"):
            features = config.source.features()
        # What is asked in `questions` is our own wording.
        provenance = None if config.name == "questions" else config.source.provenance()
        on_hub = provenance is not None and provenance.revision
        return datasets.DatasetInfo(
            description=DESCRIPTION,
            features=features.copy(),
            citation=CITATION,
            license=(OUR_LICENCE if provenance is None else provenance.licence) or "",
            homepage=f"https://huggingface.co/datasets/{provenance.source}" if provenance and on_hub else "",
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
        self.config.check_scenarios()
        if self.config.source.kind == SURVEY:
            warn_once(
                "fairpp: these answers are simulated from survey figures (answers='survey'); nobody was asked. They must "
                "not be read as the views of real people."
            )
        if self.config.source.provenance().licence == PUBLISHED_LICENCE:
            show_licence()

    def _say_what_is_missing(self) -> None:
        """Once a load, also when it comes from the cache: the description there keeps what was counted."""
        for paragraph in self.info.description.split(_PARAGRAPH):
            if paragraph.startswith(_MISSING):
                logger.warning(paragraph.removeprefix(_MISSING))

    def _split_generators(self, dl_manager: object) -> list[datasets.SplitGenerator]:
        name = self.config.name
        if name == "questions":
            return [datasets.SplitGenerator(split, gen_kwargs={"split": split}) for split in SPLITS]
        if name == "pairs":
            if self.config.target is None:  # only the names of the splits are asked for
                found = self._answers.splits()
            else:
                found = tuple(split for split in SPLITS if len(self._pairs.tables[split]))
                if not found:
                    raise ValueError(
                        f"target must have at least one valid answer; got none of {self.config.target!r} in "
                        f"{self.config.answers!r}. Choose another target or other answers."
                    )
                notes = " ".join(self._pairs.notes)
                self._describe(self._how_made(), _MISSING + notes if notes else "")
            return [datasets.SplitGenerator(split, gen_kwargs={"split": split}) for split in found]
        if self.config.lacks_scenarios:
            return [datasets.SplitGenerator("test", gen_kwargs={"split": "test"})]
        self._describe()
        # A list counts as shards: personas are divided among the workers of num_proc and of a streaming DataLoader.
        return [
            datasets.SplitGenerator(split, gen_kwargs={"split": split, "personas": self._answers.personas_in(split)})
            for split in self._answers.splits()
        ]

    def _generate_tables(self, split: str, personas: list[str] | None = None) -> Iterator[tuple[Key, pa.Table]]:
        if self.config.name == "questions":
            questions = load_questions()
            is_test = split_of(questions) if (kind := self.config.heldout) is None else is_held_out(questions, kind)
            yield Key(0, 0), questions.filter(pa.array(is_test if split == "test" else ~is_test))
        elif self.config.name == "pairs":
            yield Key(0, 0), self._pairs.tables[split]
        else:
            for number, table in enumerate(self._answers.preferences(split, personas)):
                yield Key(number, 0), table

    @cached_property
    def _answers(self) -> Answers:
        return self.config.load()

    def _describe(self, *paragraphs: str) -> None:
        """Say where the rows come from, for whoever finds only the dataset, such as a model's card."""
        self.info.description = _PARAGRAPH.join(filter(None, (DESCRIPTION, *paragraphs, self._answers.provenance.text)))

    def _how_made(self) -> str:
        config, settings = self.config, self.config.pairs
        pairs = f"Pairs for {config.target}, {settings.words}, answers by {self._answers.provenance.line}."
        if (model := self._pairs.label_model) is not None:
            pairs += f" Label model: {model.quality}."
        if settings.option_order == "mixed":
            pairs += " The options of the two poles are shown in either order."
        if config.heldout is not None:
            pairs += f" Held out of training: {config.heldout} ({', '.join(map(str, heldout_labels(config.heldout)))})."
        return pairs

    @cached_property
    def _pairs(self) -> AnswerPairs:
        config = self.config
        return answer_pairs(self._answers, config.target, config.pairs, config.persona_set)

    def __getstate__(self) -> dict[str, Any]:
        # Workers of num_proc load the tables themselves: cheaper than sending them.
        return {name: value for name, value in self.__dict__.items() if name not in ("_answers", "_pairs")}


def labels_of(*, soft_labels: bool, labels: str | None = None, **_: Any) -> str:
    """The labels that the older argument `soft_labels` means, unless `labels` says otherwise."""
    meant = "respondent" if soft_labels else "answers"
    if labels not in (None, meant):
        raise ValueError(
            f"soft_labels must be left out with labels={labels!r}; got {soft_labels}, which means labels={meant!r}. Remove "
            "one of the two."
        )
    return meant


def check_arguments(config: str, given: Mapping[str, Any]) -> None:
    """Check the names and types of the builder arguments that were given for a config, but those of `PairSettings`."""
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
    for name, kind, words in (
        ("target", str, "the id of a persona"),
        ("published_revision", str, "a branch, tag or commit"),
        ("soft_labels", bool, "True or False"),
    ):
        if name in given and (type(given[name]) is not kind):
            raise ValueError(f"{name} must be {words}; got {given[name]!r}.")
    if "heldout" in given:
        check_name("heldout", given["heldout"], HELDOUT)
