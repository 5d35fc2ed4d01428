"""The shipped configurations of Accelerate: its own loader reads them, and every key means something to it."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType

FOLDER = Path(__file__).parents[2] / "trainer_configs" / "accelerate"
TYPES = {
    "cpu_2_processes": DistributedType.MULTI_GPU,  # see the file
    "one_gpu": DistributedType.NO,
    "several_gpus": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}


def test_there_is_one_for_each_way_of_training() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_accelerate_reads_it_and_knows_every_key(name: str) -> None:
    """Its loader refuses unknown keys at the top; those of a plug-in it would take for arguments without a word."""
    path = FOLDER / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert config.distributed_type == TYPES[name]
    arguments = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config) | set(config.deepspeed_config) <= arguments
    # The training configuration decides on bf16; a second place would override `--bf16 false`.
    assert config.mixed_precision == "no"
    assert config.num_processes == {"one_gpu": 1, "cpu_2_processes": 2}.get(name, 8)
