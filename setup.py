"""One thing that pyproject.toml cannot say: the package also carries two folders from the top of the tree."""

from setuptools import find_packages, setup

CARRIED = {"fairpp_hf.hub.dataset_card": "dataset_card", "fairpp_hf.training.trainer_configs": "trainer_configs"}

setup(packages=[*find_packages(include=["fairpp_hf*"]), *CARRIED], package_dir=CARRIED)
