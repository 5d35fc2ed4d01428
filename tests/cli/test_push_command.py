"""`fairpp push` as a user meets it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, loopback_hub
from small_runs import make_run

from fairpp_hf.cli import main
from fairpp_hf.hub import build_dataset_folder, push, push_errors


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    run = make_run(folder / "run", train=6, test=3)
    build_dataset_folder(folder / "fairpp", answers=run, targets=["loyal_nationals"], progress=False)
    (folder / "fairpp" / "notes.txt").write_text("mine")
    return folder / "fairpp"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with loopback_hub() as hub:
        monkeypatch.setattr(push_errors, "_sleep", hub.waits.append)
        yield hub


def test_dry_run_then_push_then_again(hub: LoopbackHub, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["push", str(built), "--repo-id", "us/fairpp"]
    assert main([*command, "--private", "--dry-run"]) == 0
    dry = capsys.readouterr().out
    files = len([path for path in built.rglob("*") if path.is_file()]) - 1
    assert "add      preferences/test-00000-of-00001.parquet" in dry
    assert f"{files} changes would be sent, " in dry
    assert "Not sent, since `fairpp build` did not write them: notes.txt.\n" in dry
    assert dry.endswith(f"A dry run: nothing was done at {hub.url}/datasets/us/fairpp (it would be made)\n")
    assert hub.repos == {}

    assert main([*command, "--private"]) == 0
    done = capsys.readouterr().out
    assert f"{files} changes sent, " in done
    assert done.endswith(
        f'{hub.url}/datasets/us/fairpp\nLoad it with: load_dataset("us/fairpp", "pairs-loyal_nationals")\n'
    )
    assert hub.repo("us/fairpp").private is True

    card = hub.files("us/fairpp")["README.md"]
    hub.commit("us/fairpp", {"README.md": card + b"\n## Ours\n\nWords.\n"})
    assert main(command) == 0
    again = capsys.readouterr().out
    assert again.startswith(f"Nothing to send: all {files} files are on the Hub already.\n")
    assert "Kept on the card, as people wrote it: section 'Ours'.\n" in again


def test_errors_are_one_line(hub: LoopbackHub, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(built), "--repo-id", "fairpp"]) == 1
    assert capsys.readouterr().err == (
        "fairpp push: repo_id must be USER/NAME, each of letters, digits, '-', '_' and '.', such as 'me/fairpp'; "
        "got 'fairpp'.\n"
    )


def test_an_interruption_says_how_to_go_on(
    hub: LoopbackHub, built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(push, "_commit", interrupt)
    assert main(["push", str(built), "--repo-id", "us/fairpp"]) == 130
    assert capsys.readouterr().err.endswith(
        "fairpp push: stopped. A commit is all or nothing: the repo is as it was, or complete. The same command goes on, "
        "and sends nothing twice\n"
    )
