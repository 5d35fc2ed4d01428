"""Tables for a terminal."""

from collections.abc import Sequence


def in_columns(rows: Sequence[Sequence[str]], right: Sequence[bool] | None = None) -> str:
    """Rows as text, columns two spaces apart.

    Args:
        rows: Rows of equally many cells.
        right: Whether each column is aligned to the right; by default, all but the first.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    at_right = [number > 0 for number in range(len(widths))] if right is None else right
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, at_right, strict=True)
        ).rstrip()
        for row in rows
    )
