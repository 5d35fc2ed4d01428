"""What the pictures of this room have in common."""

# Okabe and Ito's palette, told apart by people with any common form of colour blindness; markers differ as well.
STYLES = (
    ("#7f7f7f", "o"),
    ("#E69F00", "s"),
    ("#56B4E9", "^"),
    ("#D55E00", "D"),
    ("#009E73", "v"),
    ("#CC79A7", "P"),
    ("#0072B2", "X"),
    ("#7F5FA9", "*"),  # an eighth, by its marker above all: black, the palette's own, is invisible on a dark page
)
"""Colour and marker of each persona or system, in their order."""


def readable(persona: str) -> str:
    """A persona's id as a title."""
    return persona.replace("_", " ").title()
