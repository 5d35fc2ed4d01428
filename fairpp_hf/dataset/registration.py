"""Makes `load_dataset("fairpp")` find our builder, from any directory and without a network.

`datasets` has no loading scripts any more. What is left is its list of packaged builders ("csv", "parquet", ...), which
`load_dataset` consults before it looks at the disk or the Hub. A name in that list is resolved by
`PackagedDatasetModuleFactory`, which was made for builders that read files, and so does two things that must not happen
here: without `data_files` it searches the working directory for some (and fails where there are none, or hashes whatever
lies there), and it sends a request that counts the download. `register` therefore adds the name to the list and puts a
subclass in the factory's place that does neither for this one name and changes nothing for any other.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import datasets.load
from datasets.data_files import DataFilesDict
from datasets.load import DatasetModule, PackagedDatasetModuleFactory
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

DATASET_NAME = "fairpp"
BUILDER_MODULE = "fairpp_hf.dataset.builder"

_ROW_SOURCES = (
    "schema.py",
    "provenance.py",
    "stable_hash.py",
    "questions",
    "personas",
    "respondents/reading",
    "respondents/survey.py",
    "generation",
    "runs",
    "scenarios",
    "statistics",
    "preferences",
    "dataset",
)
"""Files and folders of the package whose content decides the rows of the dataset."""


def source_hash(package: Path) -> str:
    """Digest of the code and data files that decide the rows, wherever the package lies: the cache key of `datasets`."""
    digest = hashlib.sha256()
    for source in _ROW_SOURCES:
        path = package / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.suffix in (".py", ".json", ".yaml"):
                content = file.read_bytes()
                # The length keeps a byte from moving between a name and its content, or two contents, unnoticed.
                digest.update(f"{file.relative_to(package).as_posix()}\0{len(content)}\0".encode())
                digest.update(content)
    return digest.hexdigest()


@cache
def installed_source_hash() -> str:
    """`source_hash` of the package as this process runs it."""
    return source_hash(Path(__file__).parents[1])


class FairPPModuleFactory(PackagedDatasetModuleFactory):
    """Resolves the name "fairpp" to our builder, and every other packaged name as `datasets` does."""

    def __init__(self, name: str, data_dir: str | None = None, data_files: Any = None, **kwargs: Any) -> None:
        if name != DATASET_NAME:
            super().__init__(name, data_dir=data_dir, data_files=data_files, **kwargs)
            return
        for argument, value in (("data_files", data_files), ("data_dir", data_dir)):
            if value is not None:
                raise ValueError(
                    f'{argument} must not be given to load_dataset("{DATASET_NAME}"); got {value!r}. The dataset is built, '
                    "not read from files. Pass a run or a dataset folder as answers=..., or load a dataset folder "
                    'itself: load_dataset("./folder", ...).'
                )
        self.name = name

    def get_module(self) -> DatasetModule:
        """The module of the builder, its cache key and its arguments."""
        if self.name != DATASET_NAME:
            return super().get_module()
        # Empty but not None: load_dataset_builder refuses a packaged builder whose data_files are None.
        builder_kwargs = {"data_files": DataFilesDict(), "dataset_name": DATASET_NAME}
        return DatasetModule(BUILDER_MODULE, installed_source_hash(), builder_kwargs)


def register() -> None:
    """Register the builder name "fairpp" with `datasets`; a second call changes nothing."""
    # The second item is the cache key of builders that `datasets` resolves by itself; ours is computed when asked for.
    _PACKAGED_DATASETS_MODULES[DATASET_NAME] = (BUILDER_MODULE, "")
    datasets.load.PackagedDatasetModuleFactory = FairPPModuleFactory
