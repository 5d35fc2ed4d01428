"""Training arguments that may be published."""

from typing import Any


class TokenStaysHere:
    """Mixin for training arguments: pickled, they are without the Hub token.

    `Trainer` pickles its arguments beside every model and checkpoint, as training_args.bin, and pushes that file too.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "hub_token": None}
