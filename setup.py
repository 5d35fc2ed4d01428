"""One thing that pyproject.toml cannot say: the package also carries the folder `dataset_card`, from the top of the tree."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["fairpp_hf*"]), "fairpp_hf.hub.dataset_card"],
    package_dir={"fairpp_hf.hub.dataset_card": "dataset_card"},
)
