"""What a training is given: pairs, stages, TRL's settings and model, from a configuration file and a command line."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

from trl import ModelConfig, TrlParser

from fairpp_hf.naming import check_name, nearest
from fairpp_hf.preferences import LABELS, PairSettings
from fairpp_hf.questions.heldout import HELDOUT
from fairpp_hf.questions.option_order import OPTION_ORDERS
from fairpp_hf.scoring.option_scorer import found_model
from fairpp_hf.training.config import ReweightedDPOConfig, argument

BUILDER = "fairpp"
CONFIGS = Path(__file__).with_name("trainer_configs")
"""Configurations in an installed package; in the source tree they lie at the top."""

STAGES = {"dpo": ("dpo",), "sft": ("sft",), "sft_then_dpo": ("sft", "dpo")}
"""What each value of `stage` runs, in order."""


@dataclass
class PairArguments:
    """Which pairs to train on; `fairpp train --help` shows what each field means.

    `labels`, `divergence`, `comparison`, `weighting`, `weight_alpha`, `weight_beta`, `random_third_pair` and `option_order`
    are those of `PairSettings`, with other defaults: labels are fitted, and options are shown in mixed order, so that the
    model cannot learn the letter instead of the stance. With a `dataset_name` other than "fairpp", the pairs are as they
    are, and only `target`, `max_train_pairs` and `max_eval_pairs` may be given.

    Raises:
        ValueError: A value that is not allowed, or two that do not go together.
    """

    target: str = field(metadata={"help": "Persona to align with, such as loyal_nationals."})
    dataset_name: str = argument(
        BUILDER, "'fairpp' builds the pairs; or a Hub dataset or local folder with a config pairs-<target>."
    )
    answers: str = argument("survey", "'survey', 'published', or the path of a run, dataset folder or published table.")
    published_revision: str | None = argument(None, "Branch, tag or commit of the published tables; main by default.")
    personas: str | None = argument(
        None, "Name or file of the persona set; by default britains_choice_2020 for 'survey', else all."
    )
    heldout: str | None = argument(
        None, "Keep one topic, one group of each type or one dimension out of training, and evaluate on it.", HELDOUT
    )
    labels: str = argument(
        "fitted",
        "Where a pair's label comes from: 'fitted' (a label model of the answers), 'respondent' (its option "
        "probabilities), or 'answers' (the one answer of each question, as in the paper).",
        LABELS,
    )
    divergence: float = argument(0.0, "How far soft labels lean away from the comparison personas; 0 is the target.")
    comparison: list[str] | None = argument(None, "Personas to move away from, or 'nearest'; all others by default.")  # noqa: RUF009
    weighting: str | None = argument(
        None, "Weighting scheme: by default 'uniform' (all alike), or 'tier' with labels 'answers'."
    )
    weight_alpha: float = argument(1.0, "Exponent of a tier's number.")
    weight_beta: float = argument(1.0, "Exponent of a tier's size.")
    random_third_pair: bool = argument(False, "Add the authors' third pair, which is noise by construction.")
    option_order: str = argument(
        "mixed",
        "'mixed' shows the poles' options in each other's place in half of the questions; 'written' never.",
        OPTION_ORDERS,
    )
    alignment_questions: int = argument(
        0, "At each evaluation, also score that many test questions and log the model's distances to all personas."
    )
    max_train_pairs: int | None = argument(
        None, "Most training pairs, of whole questions, drawn with data_seed or seed."
    )
    max_eval_pairs: int | None = argument(None, "Most test pairs, drawn likewise.")

    def __post_init__(self) -> None:
        # A configuration file gives one name as a text, a command line as a list of one.
        given = [self.comparison] if isinstance(self.comparison, str) else self.comparison
        self.comparison = cast(Any, "nearest") if given == ["nearest"] else given
        if self.dataset_name != BUILDER:
            of_any_dataset = ("target", "dataset_name", "max_train_pairs", "max_eval_pairs")
            changed = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
            if wrong := [name for name in changed if name not in of_any_dataset]:
                raise ValueError(
                    f"{', '.join(wrong)} must be left out with dataset_name={self.dataset_name!r}; its pairs are as they "
                    f"are. Remove them, or use dataset_name: {BUILDER}."
                )
        if self.heldout is not None:
            check_name("heldout", self.heldout, HELDOUT)
        self.settings()  # for its checks
        for name in ("max_train_pairs", "max_eval_pairs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}. Leave it out to use all pairs.")
        if self.alignment_questions < 0:
            raise ValueError(f"alignment_questions must be at least 0; got {self.alignment_questions}. 0 scores none.")

    def settings(self) -> PairSettings:
        """How the pairs are made.

        Raises:
            ValueError: Two settings do not go together.
        """
        return PairSettings(
            weighting=self.weighting,
            alpha=self.weight_alpha,
            beta=self.weight_beta,
            comparison=self.comparison,
            random_third_pair=self.random_third_pair,
            option_order=cast(Any, self.option_order),
            labels=cast(Any, self.labels),
            divergence=self.divergence,
        )


@dataclass
class StageArguments:
    """Which stages to train.

    `"sft"` is supervised fine-tuning on the chosen texts. With `"sft_then_dpo"`, the paper's way, its result goes to
    `<output_dir>/sft`, and `"dpo"` starts from it and has it as its reference. The two share all settings that both have;
    settings that only preference optimisation has, such as `beta`, concern it alone.

    Raises:
        ValueError: A value that is not allowed, or a setting of a stage that is not run.
    """

    stage: str = argument(
        "dpo",
        "'dpo', 'sft' (on the chosen texts), or 'sft_then_dpo' (sft's result is dpo's start and reference).",
        STAGES,
    )
    sft_learning_rate: float | None = argument(None, "Learning rate of the sft stage; learning_rate by default.")
    sft_num_train_epochs: float | None = argument(
        None, "Epochs of the sft stage; num_train_epochs and max_steps by default."
    )

    def __post_init__(self) -> None:
        check_name("stage", self.stage, STAGES)
        for name in ("sft_learning_rate", "sft_num_train_epochs"):
            value = getattr(self, name)
            if value is not None and "sft" not in self.names:
                raise ValueError(
                    f"{name} must be left out with stage='dpo'; got {value}. There is no sft stage. Remove it, or set "
                    "stage: sft_then_dpo."
                )
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0; got {value}.")

    @property
    def names(self) -> tuple[str, ...]:
        """The stages to run, in order."""
        return STAGES[self.stage]


class TrainArguments(NamedTuple):
    """Everything that a configuration and a command line say."""

    pairs: PairArguments
    stages: StageArguments
    training: ReweightedDPOConfig
    model: ModelConfig


def parse_arguments(argv: Sequence[str] | None = None, prog: str = "fairpp train") -> TrainArguments:
    """Read a command line and its `--config` file: a path, or the bare name of a configuration of this package.

    Two defaults differ from the trainer's own: there is no reference model, so that training ends where the labels are, and
    `soft_labels` follows from the labels.

    Args:
        argv: Arguments without the program's name; `sys.argv` by default.
        prog: Name of the program, for its help.

    Raises:
        ValueError: Unknown fields, values that are not allowed, or settings that do not go together.
    """

    class Parser(TrlParser):
        """Prints an error without the usage, which has a line a field, and names the nearest choice."""

        def error(self, message: str) -> NoReturn:
            wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
            close = nearest(wrong[1], wrong[2].replace("'", "").split(", ")) if wrong else None
            hint = f" Did you mean {close!r}?" if close else ""
            self.exit(2, f"{self.prog}: {message}.{hint}\nSee `{self.prog} --help`.\n")

    kinds = (PairArguments, StageArguments, ReweightedDPOConfig, ModelConfig)
    parser = Parser(cast(Any, kinds), prog=prog, allow_abbrev=False)
    parser.set_defaults(reference="none", soft_labels=None)
    words = list(sys.argv[1:] if argv is None else argv)
    if "--config" in words[:-1]:
        at = words.index("--config") + 1
        words[at] = str(config_file(words[at]))
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in {*parser._option_string_actions, "--config"}:
            close = nearest(name, parser._option_string_actions)
            hint = f" Did you mean {close}?" if close else ""
            raise ValueError(f"A flag must be a field of the configuration; got {name}.{hint}")
    arguments = TrainArguments(*parser.parse_args_and_config(words))
    if arguments.model.model_name_or_path is None:
        raise ValueError("model_name_or_path must be given; got none. Add it to the configuration file.")
    found_model("model_name_or_path", arguments.model.model_name_or_path)
    return arguments


def config_file(name: str) -> Path:
    """The file of a configuration: a path, or the bare name of one that comes with the package.

    Raises:
        ValueError: There is no such file, and no such configuration.
    """
    if Path(name).is_file():
        return Path(name)
    folder = CONFIGS if CONFIGS.is_dir() else Path(__file__).parents[2] / CONFIGS.name
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    check_name("config, unless it is the path of a file,", Path(name).stem, names)
    return folder / f"{Path(name).stem}.yaml"
