"""Commands of the package, as tests give them."""

from fairpp_hf.cli import main


def fairpp(*words: object) -> int:
    """Run a command in this process; returns its exit status."""
    return main([str(word) for word in words])
