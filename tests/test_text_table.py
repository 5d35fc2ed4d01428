from fairpp_hf.text_table import in_columns


def test_numbers_are_aligned_to_the_right_behind_the_first_column() -> None:
    """Widths 7 and 5, two spaces between them."""
    assert in_columns([["persona", "ok"], ["ann", "1,000"]]) == "persona     ok\nann      1,000"


def test_columns_are_aligned_as_told_and_no_line_ends_in_spaces() -> None:
    rows = [["n", "what"], ["10", "a"], ["2", ""]]
    assert in_columns(rows, (True, False)) == " n  what\n10  a\n 2"


def test_one_cell_is_itself() -> None:
    assert in_columns([["alone"]]) == "alone"
