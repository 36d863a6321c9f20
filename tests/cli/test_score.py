"""``gatewise score``: every format, what is kept, and one line for every error."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from gatewise.artifact.lock import locked
from gatewise.predict import fragments
from gatewise.predict.score import MANIFEST
from gatewise.runtime.scoring import Scorer
from tests.cli.conftest import Gatewise, contents
from tests.runtime.scored import text_run

__all__ = ["text_run"]

WORDS = ["the", "dog", "ate", "book", "unseen"]
TEXTS = [" ".join(WORDS[k % 5 : k % 5 + 1 + k % 3]) for k in range(50)]
IDS = [f"{k:04d}" for k in range(50)]
TABLE = pa.table({"id": IDS, "text": [None if k == 7 else text for k, text in enumerate(TEXTS)]})


def write_parquet(path: Path, table: pa.Table = TABLE, group: int = 12) -> Path:
    pq.write_table(table, path, row_group_size=group)
    return path


def read(out: Path) -> pa.Table:
    """The whole folder, as other programs read it: manifest and lock are not in the way."""
    return pyarrow.dataset.dataset(out, format="parquet").to_table()


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("[0-9]*"))


def test_parquet(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    done = gatewise("score", tiny_run, write_parquet(tmp_path / "in.parquet"), "--out", "out")
    assert (done.status, done.out, done.err) == (0, "scored 50 rows, 1 without input in 5 fragments: out\n", "")
    assert names(tmp_path / "out") == [f"000000-{k:06d}.parquet" for k in range(5)]
    assert read(tmp_path / "out").equals(Scorer(tiny_run)(TABLE))
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["finished"] is True


def test_metadata_and_types_of_other_columns_are_kept(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    frame = TABLE.to_pandas().set_index("id")
    frame["kind"] = frame.index.str[-1].astype("category")
    frame.to_parquet(tmp_path / "in.parquet")
    assert gatewise("score", tiny_run, "in.parquet", "--out", "out").status == 0
    found = pq.read_table(tmp_path / "out" / "000000-000000.parquet").to_pandas()
    assert found[["text", "kind"]].equals(frame)


def test_csv(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    """Fields stay as they are written, and a quoted field may hold line breaks."""
    lines = ["id;text", '007;"the dog\nate"', "1.0;", '2;"the ""dog""; ate"']
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    done = gatewise("score", tiny_run, "in.csv", "--out", "out")
    assert (done.status, done.err) == (0, "in.csv: columns separated by semicolons\n")
    found = read(tmp_path / "out")
    assert found["id"].to_pylist() == ["007", "1.0", "2"]
    assert found["text"].to_pylist() == ["the dog\nate", "", 'the "dog"; ate']
    assert found.select(found.column_names[1:]).equals(Scorer(tiny_run)(found.select(["text"])))


def test_jsonl(gatewise: Gatewise, classifier_run: Path, tmp_path: Path) -> None:
    """All keys of all objects, nested values too; whole numbers and fractions are one type."""
    rows: list[dict[str, Any]] = [
        {"id": 1, "x": [[0, 1, 0, 0]], "of": {"a": 1}},
        {"id": 2, "x": [[0.5, 0, 0, 1], [1, 0, 0, 0]]},
        {"id": 2.5, "x": None, "of": {"b": ["c"]}, "later": True},
    ]
    (tmp_path / "in.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    assert gatewise("score", classifier_run, "in.jsonl", "--out", "out").status == 0
    found = read(tmp_path / "out")
    assert found["id"].to_pylist() == [1.0, 2.0, 2.5]
    assert found["of"].to_pylist() == [{"a": 1, "b": None}, None, {"a": None, "b": ["c"]}]
    assert found["later"].to_pylist() == [None, None, True]
    assert found.column_names[4:] == ["label", "probability", "probabilities"]
    assert [one is None for one in found["label"].to_pylist()] == [False, False, True]


def test_text(gatewise: Gatewise, tagger_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("The dog ate.\n\nIt read", encoding="utf-8")
    assert gatewise("score", tagger_run, "in.txt", "--out", "out").status == 0
    found = read(tmp_path / "out")
    assert found["line"].to_pylist() == [1, 2, 3]
    assert found["text"].to_pylist() == ["The dog ate.", "", "It read"]
    assert found["words"].to_pylist() == [["The", "dog", "ate", "."], [], ["It", "read"]]
    assert [len(tags) for tags in found["tags"].to_pylist()] == [4, 0, 2]


def test_pieces_of_text_files(
    gatewise: Gatewise, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows as Parquet gives, whatever the pieces: cut by rows or by size, one row where it is larger."""
    monkeypatch.setattr(fragments, "PIECE_ROWS", 20)
    rows = [{"id": one, "text": text} for one, text in zip(IDS, TEXTS, strict=True)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "in.csv").write_text("id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows))
    whole = Scorer(tiny_run)(pa.table({"id": IDS, "text": TEXTS}))
    for size, counts in ((10**6, (3, 3)), (1, (50, 50))):
        monkeypatch.setattr(fragments, "PIECE_SIZE", size)
        for file, count in zip(("in.jsonl", "in.csv"), counts, strict=True):
            out = tmp_path / f"{file}-{size}"
            assert gatewise("score", tiny_run, file, "--out", out).status == 0
            assert len(names(out)) == count
            assert read(out).equals(whole)
            os.unlink(out / names(out)[-1])  # only the last is scored again
            assert f"in 1 fragment, {count - 1} kept from before" in gatewise("score", tiny_run, file, "--out", out).out
            assert read(out).equals(whole)


def test_folders_in_order(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_parquet(tmp_path / "in" / "b.parquet", TABLE.slice(20), 30)
    write_parquet(tmp_path / "in" / "a.parquet", TABLE.slice(0, 20), 20)
    write_parquet(tmp_path / "in" / "empty.parquet", TABLE.slice(0, 0))
    for other in ("_SUCCESS", ".hidden.parquet", "readme.md"):
        (tmp_path / "in" / other).write_text("x")
    assert gatewise("score", tiny_run, "in", "--out", "out").status == 0
    assert names(tmp_path / "out") == ["000000-000000.parquet", "000001-000000.parquet", "000002-000000.parquet"]
    assert read(tmp_path / "out")["id"].to_pylist() == IDS


def test_options(gatewise: Gatewise, text_run: Path, tmp_path: Path) -> None:
    table = pa.table({"title": ["good"], "body": ["bad"], "label": [1]})
    write_parquet(tmp_path / "in.parquet", table)
    refused = gatewise("score", text_run, "in.parquet", "--out", "out")
    refused.check_refused(
        3, "in.parquet: several columns hold strings", "found 'title', 'body', 'label'; name one with"
    )
    refused = gatewise("score", text_run, "in.parquet", "--out", "out", "--column", "body")
    refused.check_refused(
        3, "in.parquet: there is a column 'label' already", "set --prefix NAME_ for those to be added"
    )
    assert not (tmp_path / "out").exists()
    words = ["score", str(text_run), "in.parquet", "--out", "out", "--column", "body", "--prefix", "new_"]
    assert gatewise(*words).status == 0
    assert read(tmp_path / "out").column_names[2:] == ["label", "new_label", "new_probability", "new_probabilities"]
    assert (
        read(tmp_path / "out")["new_label"].to_pylist()
        == Scorer(text_run)(pa.table({"a": ["bad"]}))["label"].to_pylist()
    )


def test_finished_fragments_are_kept(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    words = ["score", str(tiny_run), str(write_parquet(tmp_path / "in.parquet")), "--out", "out"]
    out = tmp_path / "out"
    gatewise(*words)
    whole, before = contents(out), (out / names(out)[0]).stat()
    assert gatewise(*words).out == "scored 0 rows in 0 fragments, 5 kept from before: out\n"
    (out / names(out)[1]).unlink()
    (out / names(out)[2]).write_bytes(b"PAR1, damaged")
    pq.write_table(TABLE, out / names(out)[2])  # of another origin
    (out / f".{names(out)[3]}.7.part").write_bytes(b"left by a killed process")
    assert gatewise(*words).out == "scored 24 rows in 2 fragments, 3 kept from before: out\n"
    assert contents(out) == whole
    after = (out / names(out)[0]).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_copy_of_model_and_files_is_the_same(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "in.parquet")
    gatewise("score", tiny_run, "in.parquet", "--out", "out")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "in.parquet", tmp_path / "elsewhere" / "in.parquet")
    shutil.copytree(tiny_run, tmp_path / "copy")
    assert "5 kept" in gatewise("score", "copy", "elsewhere/in.parquet", "--out", "out").out


def other_model(run: Path, tmp_path: Path) -> list[str]:
    shutil.copytree(run, tmp_path / "other")
    with (tmp_path / "other" / "config.toml").open("a") as file:
        file.write("# edited\n")
    return ["score", "other", "in.parquet"]


def changed_file(run: Path, tmp_path: Path) -> list[str]:
    write_parquet(tmp_path / "in.parquet", TABLE.slice(0, 40))
    return ["score", str(run), "in.parquet"]


def more_files(run: Path, tmp_path: Path) -> list[str]:
    return ["score", str(run), "in.parquet", "in.parquet"]


def other_prefix(run: Path, tmp_path: Path) -> list[str]:
    return ["score", str(run), "in.parquet", "--prefix", "a_"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_model, "out has scores of another model ("),
        (changed_file, "out has scores of other files, or of these before they were changed; delete it, or choose"),
        (more_files, "out has scores of other files"),
        (other_prefix, "out has scores of other columns (['nll', 'tokens', 'perplexity'], now ['a_nll', "),
    ],
)
def test_scores_of_another_origin(
    change: Callable[[Path, Path], list[str]], said: str, gatewise: Gatewise, tiny_run: Path, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "in.parquet")
    gatewise("score", tiny_run, "in.parquet", "--out", "out")
    before = contents(tmp_path / "out")
    gatewise(*change(tiny_run, tmp_path), "--out", "out").check_refused(2, said, "choose another --out")
    assert contents(tmp_path / "out") == before


def test_scores_of_another_version(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "in.parquet")
    gatewise("score", tiny_run, "in.parquet", "--out", "out")
    path = tmp_path / "out" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gatewise": "0.0.1"}))
    refused = gatewise("score", tiny_run, "in.parquet", "--out", "out")
    refused.check_refused(
        2, "out has scores of another version of Gatewise (0.0.1); delete it, or choose another --out"
    )


def test_a_folder_with_other_content(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "in.parquet")
    words = ["score", str(tiny_run), "in.parquet", "--out"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    gatewise(*words, "full").check_refused(2, f"full is not empty and has no {MANIFEST}; expected a new or an empty")
    gatewise(*words, "in.parquet").check_refused(2, "in.parquet: Not a directory; expected a new or an empty folder")
    gatewise(*words, "in.parquet/out").check_refused(2, "in.parquet/out: Not a directory; expected")
    assert list(contents(tmp_path / "full")) == ["thesis.tex"]
    (tmp_path / "full" / MANIFEST).write_text("[")
    gatewise(*words, "full").check_refused(4, f"full/{MANIFEST}: invalid JSON")
    (tmp_path / "full" / MANIFEST).write_text("[]")
    gatewise(*words, "full").check_refused(2, "full has scores of an unknown kind")


def test_a_folder_in_use(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "in.parquet")
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out", "scoring"):
        refused = gatewise("score", tiny_run, "in.parquet", "--out", "out")
    refused.check_refused(2, "out is in use: process ", " is scoring there; wait until it ends")


def bad_utf8(path: Path) -> None:
    path.with_suffix(".txt").write_bytes(b"good\n\xff\n")


def truncated(path: Path) -> None:
    raw = write_parquet(path).read_bytes()
    path.write_bytes(raw[:-20])


def damaged_page(path: Path) -> None:
    """The footer is whole, the pages are not."""
    raw = bytearray(write_parquet(path, TABLE, 50).read_bytes())
    raw[4:200] = b"\xee" * 196
    path.write_bytes(raw)


BAD = {
    "no-file": ("none.parquet", None, "none.parquet: no such file or folder; expected a table or text in .parquet, "),
    "extension": (
        "in.md",
        "x",
        "in.md: unknown extension '.md'; expected .parquet, .csv, .tsv, .jsonl, .ndjson or .txt",
    ),
    "empty-text": ("in.txt", "", "in.txt: the file is empty; expected rows"),
    "empty-csv": ("in.csv", "", "in.csv: the file is empty; expected a header row"),
    "no-rows": ("in.csv", "id,text\n", "in.csv: the file is empty; expected rows"),
    "empty-jsonl": ("in.jsonl", "\n", "in.jsonl: the file is empty; expected rows"),
    "empty-parquet": ("in.parquet", "", "in.parquet: not a readable Parquet file ("),
    "truncated": ("in.parquet", truncated, "in.parquet: not a readable Parquet file ("),
    "damaged": ("in.parquet", damaged_page, "in.parquet: not a readable Parquet file ("),
    "no-parquet-rows": (
        "in.parquet",
        lambda path: write_parquet(path, TABLE.slice(0, 0)),
        "in.parquet: no rows; expected at least one",
    ),
    "utf-8": ("in.txt", bad_utf8, "in.txt:2: byte 0xff is not valid UTF-8"),
    "fields": ("in.csv", "id,text\n1,a\n2,b,c\n", "in.csv:3: 3 fields in this row, expected 2"),
    "no-object": ("in.jsonl", '{"text": "a"}\n[1]\n', "in.jsonl:2: [1] is not a JSON object"),
    "mixed": (
        "in.jsonl",
        '{"text": "a"}\n{"text": null}\n{"text": 7}\n{"text": "b"}\n',
        "in.jsonl:3: 'text' has another type than before (",
    ),
    "wrong-type": (
        "in.parquet",
        lambda path: write_parquet(path, pa.table({"id": [1], "text": [2.5]})),
        "in.parquet: no column holds strings, which the model reads; found 'id', 'text'; name one with --column NAME",
    ),
    "two-names": (
        "in.parquet",
        lambda path: write_parquet(path, pa.table([["a"], ["b"]], names=["t", "t"])),
        "in.parquet: 2 columns named 't'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    file, content, said = BAD[name]
    if callable(content):
        content(tmp_path / file)
    elif content is not None:
        (tmp_path / file).write_text(content)
    gatewise("score", tiny_run, file, "--out", "out").check_refused(3, said)
    assert names(tmp_path / "out") == []


def test_a_pipe_and_an_empty_folder(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in.csv")
    gatewise("score", tiny_run, "in.csv", "--out", "out").check_refused(
        3, "in.csv: a pipe, which can be read only once"
    )
    (tmp_path / "in").mkdir()
    gatewise("score", tiny_run, "in", "--out", "out").check_refused(3, "in: no table or text in this folder; expected")


def test_bad_rows_are_named_where_they_are(gatewise: Gatewise, classifier_run: Path, tmp_path: Path) -> None:
    good = {"x": [[0.0] * 4]}
    rows = [good, good, {"x": [[0.0] * 4, [0.0] * 3]}]
    (tmp_path / "in.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    refused = gatewise("score", classifier_run, "in.jsonl", "--out", "out")
    refused.check_refused(3, "in.jsonl:5: steps of 3 to 4 numbers; expected the same count in each")
    write_parquet(tmp_path / "in.parquet", pa.table({"x": [row["x"] for row in rows]}), 2)
    words = ["score", str(classifier_run), "in.parquet", "--out", "out"]
    gatewise(*words).check_refused(2, "out has scores of other files")
    words[-1] = "other"
    gatewise(*words).check_refused(3, "in.parquet:3: steps of 3 to 4 numbers")
    assert names(tmp_path / "other") == ["000000-000000.parquet"]  # what came before is kept
    assert [name for name in contents(tmp_path / "other") if "part" in name] == []


@pytest.mark.parametrize("file", ["in.parquet", "in.csv"])
def test_a_file_that_changes(
    file: str, gatewise: Gatewise, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fragment of the new content is kept beside those of the old."""
    monkeypatch.setattr(fragments, "PIECE_ROWS", 12)
    path = tmp_path / file
    lines = "id,text\n" + "".join(f"{k},the dog\n" for k in range(30))
    write = {"in.parquet": lambda: write_parquet(path), "in.csv": lambda: path.write_text(lines)}[file]
    write()
    kept, scored = Scorer.batch, []

    def batch(self: Scorer, rows: pa.RecordBatch) -> pa.RecordBatch:
        scored.append(rows)
        if len(scored) == 2:
            path.write_text("id,text\n1,a\n")
        return kept(self, rows)

    monkeypatch.setattr(Scorer, "batch", batch)
    words = ["score", str(tiny_run), file, "--out", "out"]
    gatewise(*words).check_refused(3, f"{file}: changed while it was scored; run the command again")
    assert names(tmp_path / "out") == ["000000-000000.parquet"]


def test_bad_models(gatewise: Gatewise, tiny_run: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "in.parquet")
    gatewise("score", "none", "in.parquet", "--out", "out").check_refused(4, "none: no such folder")
    shutil.copytree(tiny_run, tmp_path / "damaged")
    raw = (tiny_run / "model.safetensors").read_bytes()
    (tmp_path / "damaged" / "model.safetensors").write_bytes(raw[:-1])
    gatewise("score", "damaged", "in.parquet", "--out", "out").check_refused(4, "damaged/model.safetensors: ")
    assert not (tmp_path / "out").exists()
