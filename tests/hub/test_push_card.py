"""What people wrote on a card, on the Hub and at home, when a folder is pushed."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from loopback_hub import LoopbackHub
from push_folders import REPO, actions, assert_holds, edit_card

from fairpp_hf import push_dataset
from fairpp_hf.hub import push


def test_what_people_wrote_on_the_card_is_kept(hub: LoopbackHub, built: Path, rebuilt: Path) -> None:
    push_dataset(built, REPO)
    edit_card(hub, "## Limits", "## Our findings\n\nWe found that.\n\n## Limits")
    edit_card(hub, "- dpo\n", "- dpo\n- our-tag\n")
    edit_card(hub, "license:", "extra_gated_prompt: Say who you are\nlicense:")
    assert push_dataset(built, REPO).edited_on_card == (
        "extra_gated_prompt: 'Say who you are'",
        "'our-tag' in tags",
        "section 'Our findings'",
    )
    assert len(hub.commits(REPO)) == 1 + 4  # the card was as it should be, so that nothing was sent
    push_dataset(rebuilt, REPO)
    card = hub.files(REPO)["README.md"].decode()
    assert "## Our findings\n\nWe found that.\n\n## Limits" in card
    assert "- our-tag\n" in card
    assert "extra_gated_prompt: Say who you are\n" in card
    assert "config_name: pairs-civic_pragmatists" in card
    assert "pairs-loyal_nationals" not in card
    assert_holds(hub, rebuilt, commits=5, but=("README.md",))
    assert load_dataset(REPO, "pairs-civic_pragmatists", split="train").num_rows


def test_what_the_user_writes_on_the_card_at_home_goes_along(hub: LoopbackHub, built: Path, tmp_path: Path) -> None:
    """An edit at home replaces the earlier one; one on the Hub in the meantime is kept."""
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    card = (folder / "README.md").read_text("utf-8")
    (folder / "README.md").write_text(card + "\n## Our study\n\nFirst words.\n\n## Contact\n\nA.\n", "utf-8")
    push_dataset(folder, REPO)
    edit_card(hub, "## Contact\n\nA.", "## Contact\n\nB.")
    (folder / "README.md").write_text(card + "\n## Our study\n\nSecond words.\n\n## Contact\n\nA.\n", "utf-8")
    pushed = push_dataset(folder, REPO)
    assert pushed.edited_on_card == ("section 'Contact'",)
    there = hub.files(REPO)["README.md"].decode()
    assert there.endswith("## Our study\n\nSecond words.\n\n## Contact\n\nB.\n")
    assert "First words" not in there
    assert actions(push_dataset(folder, REPO))["replace"] == []


def test_what_was_written_in_one_folder_is_not_deleted_by_a_push_from_another(
    hub: LoopbackHub, built: Path, rebuilt: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    card = (folder / "README.md").read_text("utf-8").replace("\nlicense:", "\ndoi: 10/1\nlicense:", 1)
    (folder / "README.md").write_text(card + "\n## Our study\n\nWords.\n", "utf-8")
    push_dataset(folder, REPO)
    for other in (rebuilt, built):
        assert push_dataset(other, REPO).edited_on_card == ("doi: '10/1'", "section 'Our study'")
        there = hub.files(REPO)["README.md"].decode()
        assert there.endswith("## Our study\n\nWords.\n")
        assert "\ndoi: 10/1\n" in there


def test_of_two_folders_that_edit_one_section_neither_loses_its_words_unsaid(
    hub: LoopbackHub, built: Path, rebuilt: Path
) -> None:
    """The first one's are on the Hub and stay, and the second is told; the first may change its own words later."""

    def write(folder: Path, words: str) -> None:
        card = (folder / "README.md").read_text("utf-8")
        start = card.index("## Limits")
        (folder / "README.md").write_text(
            f"{card[:start]}## Limits\n\n{words}\n\n{card[card.index('## ', start + 3) :]}", "utf-8"
        )

    write(built, "From the first.")
    write(rebuilt, "From the second.")
    assert push_dataset(built, REPO).edited_on_card == ()
    assert push_dataset(rebuilt, REPO).edited_on_card == ("section 'Limits'",)
    assert "From the first." in hub.files(REPO)["README.md"].decode()
    write(built, "From the first, later.")
    assert push_dataset(built, REPO).edited_on_card == ()
    assert "From the first, later." in hub.files(REPO)["README.md"].decode()


def test_a_config_that_would_lose_its_files_is_refused(hub: LoopbackHub, built: Path, rebuilt: Path) -> None:
    push_dataset(built, REPO)
    edit_card(hub, "configs:\n", "configs:\n- config_name: theirs\n  data_files: pairs-loyal_nationals/*.parquet\n")
    with pytest.raises(
        ValueError, match=r"got 'theirs' with 'pairs-loyal_nationals/\*\.parquet', which would match none of"
    ):
        push_dataset(rebuilt, REPO)
    assert load_dataset(REPO, "theirs", split="train").num_rows


def test_a_folder_that_cannot_be_written_is_pushed_all_the_same(
    hub: LoopbackHub, built: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(push.os, "replace", refuse)
        push_dataset(built, REPO)
    assert_holds(hub, built, commits=1)
    assert any("will not replace what was sent" in message for message in caplog.messages)


def test_a_notice_that_was_edited_there_is_made_anew(hub: LoopbackHub, built: Path) -> None:
    push_dataset(built, REPO)
    edit_card(hub, "> **Simulated answers.**", "> **Real answers.**")
    assert push_dataset(built, REPO).renewed_on_card == ("the notice on what is simulated",)
    assert_holds(hub, built, commits=3)


def test_a_repo_made_by_datasets_stays_loadable(hub: LoopbackHub, built: Path) -> None:
    """Its config is called default, and `datasets` refuses a card with two defaults."""
    Dataset.from_dict({"x": [1, 2]}).push_to_hub(REPO)
    pushed = push_dataset(built, REPO)
    assert "configs 'default'" in pushed.edited_on_card
    assert load_dataset(REPO, "default", split="train")["x"][:] == [1, 2]
    assert load_dataset(REPO, "preferences", split="test").num_rows == 42


def test_shards_of_other_origin_are_not_taken_for_ours(hub: LoopbackHub, built: Path) -> None:
    (file,) = (built / "preferences").glob("test-*.parquet")
    hub.commit(REPO, {"preferences/test-00000-of-00002.parquet": file.read_bytes()})
    push_dataset(built, REPO)
    assert load_dataset(REPO, "preferences", split="test").num_rows == 42
    assert len(list(load_dataset(REPO, "preferences", split="test", streaming=True))) == 42


def test_a_config_without_its_files_is_refused(hub: LoopbackHub, built: Path, tmp_path: Path) -> None:
    """With such a config on the card, no config of the repo could be loaded."""
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    card = (folder / "README.md").read_text("utf-8")
    (folder / "README.md").write_text(
        card.replace("configs:\n", "configs:\n- config_name: extra\n  data_files: extra/*.parquet\n"), "utf-8"
    )
    for there in ({}, {"other.csv": b"a\n1\n"}):
        if there:
            hub.commit(REPO, there)
        with pytest.raises(
            ValueError,
            match=r"^The configs on the card must have their files in the repo; got 'extra' with 'extra/\*\.parquet', which "
            r"would match none of us/fairpp\. It could not be loaded, and if it stands first, no other\. Nothing was sent\.",
        ):
            push_dataset(folder, REPO)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    hub.commit(REPO, {"extra/a.parquet": (tmp_path / "a.parquet").read_bytes()})
    push_dataset(folder, REPO)
    assert load_dataset(REPO, "extra", split="train")["a"][:] == [1]
    assert load_dataset(REPO, "preferences", split="test").num_rows == 42


@pytest.mark.parametrize("where", ["home", "there"])
def test_a_card_that_is_no_utf8(hub: LoopbackHub, built: Path, tmp_path: Path, where: str) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    if where == "home":
        (folder / "README.md").write_bytes("é".encode("latin-1"))
    else:
        hub.commit(REPO, {"README.md": "é".encode("latin-1")})
    with pytest.raises(
        ValueError, match=r"^A card must be UTF-8; got byte 0xe9 at position 0 of .*\. Save it as UTF-8"
    ):
        push_dataset(folder, REPO)


def test_a_repo_with_a_card_of_its_own_keeps_it(hub: LoopbackHub, built: Path) -> None:
    hub.commit(
        REPO, {"README.md": b"---\nlicense: mit\ntags:\n- mine\n---\n# My data\n\nBy hand.\n", "data.csv": b"a\n1\n"}
    )
    pushed = push_dataset(built, REPO)
    card = hub.files(REPO)["README.md"].decode()
    assert "# My data\n\n<!-- fairpp:notice -->\n> **Simulated answers.**" in card
    assert "By hand.\n" in card
    assert "## Limits" in card
    assert "license: 'mit' (instead of 'cc-by-4.0')" in pushed.edited_on_card
    assert hub.files(REPO)["data.csv"] == b"a\n1\n"
    assert load_dataset(REPO, "questions", split="test").num_rows == 5_669
