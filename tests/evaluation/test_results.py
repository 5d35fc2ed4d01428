"""What an evaluation writes is what it reads."""

import hashlib
import json
import math
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluated_folder import TARGET, small_evaluation, write_evaluated_folder

from fairpp_hf.evaluation import results as results_module
from fairpp_hf.evaluation.results import SCORE_SCHEMA, References, as_scores, read_results
from fairpp_hf.schema import QUESTION_FEATURES


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An evaluation, and the folder that it was written into."""
    results = small_evaluation(60)
    return results, write_evaluated_folder(tmp_path_factory.mktemp("written"), results)


def same(ours, theirs):
    """Whether two values are equal; arrays up to NaN."""
    if isinstance(ours, np.ndarray):
        return ours.shape == theirs.shape and (
            np.array_equal(ours, theirs) if ours.dtype.kind in "Ui" else np.allclose(ours, theirs, equal_nan=True)
        )
    return ours == theirs


def test_everything_is_read_as_it_was_written(written):
    results, folder = written
    again = read_results(folder)
    assert again.to_dict() == results.to_dict()
    assert (again.path, again.best, again.name(TARGET)) == (folder, 1, "Loyal Nationals")
    assert again.questions.equals(results.questions.select(list(QUESTION_FEATURES)))
    assert again.references.are_probabilities
    for persona in results.personas:
        assert same(results.answers[persona], again.answers[persona])
        assert same(results.persona_probabilities[persona], again.persona_probabilities[persona])
    for ours, theirs in zip(results.systems, again.systems, strict=True):
        assert all(same(one, other) for one, other in zip(ours.scores, theirs.scores, strict=True)), ours.name
        assert (ours.metrics, ours.intervals, ours.position_bias) == (
            theirs.metrics,
            theirs.intervals,
            theirs.position_bias,
        )
        assert (ours.length_gap, ours.prompts, ours.prompts_hash) == (
            theirs.length_gap,
            theirs.prompts,
            theirs.prompts_hash,
        )
    assert again.comparisons == results.comparisons
    assert again.positions["questions"] == 60
    plain = next(system for system in again.systems if system.name == "plain model")
    assert (plain.statuses, plain.prompts) == ({"ok": 108, "refusal": 12}, 120)


def test_the_files_have_their_documented_form(written):
    _, folder = written
    tree = json.loads((folder / "results.json").read_text())
    assert list(tree) == [
        *("format", "version", "target", "personas", "names", "shares", "questions", "kind", "division", "reference"),
        *("compared_with", "orders", "systems", "comparisons", "sha256"),
    ]
    assert tree["sha256"]["scores.parquet"] == hashlib.sha256((folder / "scores.parquet").read_bytes()).hexdigest()
    aligned = tree["systems"]["aligned model"]
    assert list(aligned) == [
        *("facts", "statuses", "probabilities", "intervals_95", "position_bias", "length_gap"),
    ]
    assert list(aligned["position_bias"]) == ["gap", "interval_95", "same_choice"]
    assert len(aligned["intervals_95"]["skill/target"]) == 2
    assert list(tree["comparisons"][0]) == ["first", "second", "metric", "difference", "interval_95", "p_value"]
    scores = pq.read_table(folder / "scores.parquet")
    assert scores.schema.equals(SCORE_SCHEMA)
    assert scores["order"].to_pylist()[:4] == [0, 0, 0, 0]  # the constant has one order
    questions = pq.read_table(folder / "questions.parquet")
    assert questions.column_names[: len(QUESTION_FEATURES)] == list(QUESTION_FEATURES)
    assert str(questions.schema.field(f"answer/{TARGET}").type) == "int8"
    refused = [row for row in scores.to_pylist() if row["status"] == "refusal"]
    assert {(row["probabilities"] is None, row["system"]) for row in refused} == {(True, "plain model")}


def test_the_csv_has_a_row_a_system_and_a_column_a_metric(written):
    results, folder = written
    table = pd.read_csv(folder / "results.csv", index_col="system")
    assert list(table.index) == [system.name for system in results.systems]
    for name, tree in results.to_dict()["systems"].items():
        cells = table.loc[name].dropna().to_dict()
        assert cells == {metric: value for metric, value in tree["probabilities"].items() if value is not None}


@pytest.mark.parametrize("name", ["results.json", "questions.parquet", "scores.parquet"])
def test_a_folder_without_results_is_refused(name, written, tmp_path):
    write_evaluated_folder(tmp_path, written[0])
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"got no {name} at {tmp_path}. Run `fairpp evaluate --out")):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("results.json", lambda text: text[:-9], "results.json must be JSON; got "),
        ("results.json", lambda text: text.replace('"format": 4', '"format": 1'), "must be of format 4; got 1 at "),
        ("results.json", lambda text: text.replace('"division"', '"part"'), "'division' must be a text; got None at "),
        ("results.json", lambda text: "[" * 100_000, "results.json must be JSON; got "),
        ("positions.json", lambda text: "[]", "positions.json must be of format 1; got None at "),
    ],
)
def test_a_damaged_folder_is_refused(name, edit, message, written, tmp_path):
    write_evaluated_folder(tmp_path, written[0])
    (tmp_path / name).write_text(edit((tmp_path / name).read_text()))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_results(tmp_path)


PLAIN = ("systems", "plain model")


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("results", ["target"], "loyal_national", "got 'loyal_national'. Did you mean 'loyal_nationals'?"),
        ("results", ["systems"], {}, "got 60 questions and 0 systems at "),
        (
            "results",
            ["compared_with"],
            "answer",
            "'compared_with' must be one of 'answers', 'probabilities'; got 'answer'",
        ),
        ("results", ["personas"], [3], "item 1 of 'personas' must be a text; got 3"),
        ("results", ["names", TARGET], None, "'loyal_nationals' of 'names' must be a text; got None"),
        ("results", ["shares", TARGET], "many", "'loyal_nationals' of 'shares' must be a number or null; got 'many'"),
        ("results", ["sha256"], {}, "'questions.parquet' of 'sha256' must be a text; got None"),
        ("results", PLAIN, 3, "'plain model' of 'systems' must be an object; got 3"),
        (
            "results",
            ["systems", "other"],
            {"facts": {"kind": "model"}, "probabilities": {}, "intervals_95": {}},
            "got 0 rows",
        ),
        ("results", [*PLAIN, "facts"], [1], "'facts' of 'plain model' of 'systems' must be an object; got [1]"),
        ("results", [*PLAIN, "probabilities", "skill/target"], "<b>", " must be a number or null; got '<b>'"),
        ("results", [*PLAIN, "probabilities", "nearest_other"], 3, " must be a text or null; got 3"),
        ("results", [*PLAIN, "facts", "kind"], None, "'kind' of 'facts' of 'plain model' of 'systems' must be a text"),
        ("results", [*PLAIN, "length_gap", "gap"], True, " must be a number; got True"),
        ("results", [*PLAIN, "intervals_95", "skill/target"], [0.1], " must be a list of 2; got [0.1]"),
        ("results", [*PLAIN, "position_bias", "gap"], None, "'gap' of 'position_bias' of 'plain model'"),
        ("results", [*PLAIN, "length_gap", "interval_95"], [0.1], " must be a list of 2; got [0.1]"),
        ("results", ["comparisons", 0, "first"], None, "'first' of item 1 of 'comparisons' must be a text; got None"),
        ("positions", ["points"], None, "'points' must be a list; got None"),
        ("positions", ["points", 0], 3, "item 1 of 'points' must be an object; got 3"),
        ("positions", ["points", 0, "name"], None, "'name' of item 1 of 'points' must be a text; got None"),
        ("positions", ["points", 0, "kind"], "people", "'persona'; got 'people'"),
        (
            "positions",
            ["points", 1, "pca", "xy"],
            None,
            "'xy' of 'pca' of item 2 of 'points' must be a list of 2; got None",
        ),
        ("positions", ["points", 1, "ideal_point", "xy"], [1, None], " must be a number; got None"),
        ("positions", ["methods", "pca", "explained_variance"], [0.6], " must be a list of 2; got [0.6]"),
    ],
)
def test_results_and_positions_of_another_form_are_refused(name, path, value, message, written, tmp_path):
    """Before anything is drawn of them; what a page shows is what an evaluation can have written."""
    write_evaluated_folder(tmp_path, written[0])
    file = tmp_path / f"{name}.json"
    tree = part = json.loads(file.read_text())
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    file.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_results(tmp_path)


def changed(table, name, value):
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array([value] * len(table), table.schema.field(name).type))


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("questions", lambda table: changed(table, f"answer/{TARGET}", 3), "got answers that are not all -1 to 2: [3]"),
        (
            "questions",
            lambda table: changed(table, f"answer/{TARGET}", None),
            "answers that are not all -1 to 2: [None]",
        ),
        (
            "questions",
            lambda table: changed(table, f"probabilities/{TARGET}", [5.0, -3.0, -1.0]),
            "sum to 1 over A, B, C; got [5",
        ),
        (
            "questions",
            lambda table: table.drop_columns([f"answer/{TARGET}"]),
            'Field "answer/loyal_nationals" does not',
        ),
        (
            "questions",
            lambda table: table.rename_columns(
                {"prompt": f"probabilities/{TARGET}", f"probabilities/{TARGET}": "prompt"}
            ),
            "must be as `fairpp evaluate` writes them",
        ),
        ("questions", lambda table: table.slice(1), "that are not those of the 59 questions"),
        ("questions", lambda table: table.slice(0, 0), "got 0 questions"),
        ("questions", lambda table: table.take(list(range(59, -1, -1))), "that are not those of the 60 questions"),
        ("scores", lambda table: table.slice(1), "got 59 rows of the system 'constant' that are not those of the 60"),
        ("scores", lambda table: pa.concat_tables([table] * 3), "got 180 rows of the system 'constant'"),
        ("scores", lambda table: changed(table, "question_id", "x"), "that are not those of the 60 questions"),
        (
            "scores",
            lambda table: changed(table, "status", "banana"),
            "got the status 'banana' of the system 'constant'",
        ),
        (
            "scores",
            lambda table: changed(table, "probabilities", [5.0, -3.0, math.inf]),
            "sum to 1 over A, B, C; got [5",
        ),
        ("scores", lambda table: changed(table, "answer", 7), "got answers that are not all -1 to 2: [7]"),
        ("scores", lambda table: table.drop_columns(["status"]), "must be as `fairpp evaluate` writes them"),
    ],
)
def test_tables_that_hold_something_else_are_refused(name, edit, message, written, tmp_path):
    """Whoever changes a table can change its digest as well."""
    write_evaluated_folder(tmp_path, written[0])
    file, results = tmp_path / f"{name}.parquet", tmp_path / "results.json"
    pq.write_table(edit(pq.read_table(file)), file)
    tree = json.loads(results.read_text())
    tree["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    results.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=re.escape(message)):
        read_results(tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    tree["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    results.write_text(json.dumps(tree))
    with pytest.raises(
        ValueError, match=r"^questions\.parquet and scores\.parquet must be as `fairpp evaluate` writes them"
    ):
        read_results(tmp_path)


def test_a_digest_of_another_file_is_not_looked_at(written, tmp_path):
    """A folder from elsewhere could name one that never ends."""
    write_evaluated_folder(tmp_path, written[0])
    tree = json.loads((tmp_path / "results.json").read_text())
    tree["sha256"]["/dev/zero"] = "0"
    (tmp_path / "results.json").write_text(json.dumps(tree))
    assert len(read_results(tmp_path).questions) == 60


def test_a_half_written_folder_is_refused(written, tmp_path):
    """The tables of one evaluation beside the results of another."""
    write_evaluated_folder(tmp_path, written[0])
    (tmp_path / "scores.parquet").write_bytes((tmp_path / "questions.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"scores\.parquet must be the one .* The folder is half-written"):
        read_results(tmp_path)


def test_stopped_while_it_writes_it_leaves_the_old_files_whole(written, tmp_path, monkeypatch):
    paths = written[0].write(tmp_path)
    before = {path.name: path.read_bytes() for path in paths}

    def stopped(table, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(results_module.pq, "write_table", stopped)
    with pytest.raises(KeyboardInterrupt):
        written[0].write(tmp_path)
    assert {path.name: path.read_bytes() for path in paths} == before


def test_references_are_probabilities_where_all_of_them_are_known():
    answers = {"t": np.array([0, -1]), "x": np.array([1, 2])}
    rows = np.tile([0.6, 0.3, 0.1], (2, 1))
    known = References(answers, {"t": rows, "x": rows})
    assert known.are_probabilities
    assert np.isnan(known["t"][1]).all()  # nobody answered, and nothing is compared
    gap = rows.copy()
    gap[0] = np.nan
    assert not References(answers, {"t": rows, "x": gap}).are_probabilities
    assert References(answers)["x"].tolist() == [1, 2]


def test_scores_from_arrays():
    both = as_scores("m", np.array([[[1.0, 0, 0], [0, 1, 0]], [[np.nan] * 3, [0, 0, 1]]]))
    assert both.probabilities[0].tolist() == [0.5, 0.5, 0]
    assert np.isnan(both.probabilities[1]).all()
    assert both.statuses.tolist() == [["ok", "ok"], ["empty", "ok"]]
    assert both.answers.tolist() == [[0, 1], [-1, 2]]
    with pytest.raises(
        ValueError, match=r"^probabilities must be of shape \(n, 3\) or \(n, orders, 3\); got \(4,\) at 'm'"
    ):
        as_scores("m", np.zeros(4))
