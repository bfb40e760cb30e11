"""What a person gets who has a bundle of texts, and texts in any of their layouts."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tasks
from tasks.data.samples.samples import sample_id
from tasks.data.samples.text_cells import canonical
from tasks.models.bundle import save_bundle
from tasks.models.classifier import Classifier
from tasks.predict import predict
from tasks.prediction.prediction_table import schema_of
from tests.tasks.models.test_encoder import encoder

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")

ROOT = Path(__file__).parents[2]
TEXTS = [("a b", "c"), ("d e", "f\ng h"), ("a", "a b c d e f g h i j a b c d e f g h i j"), ("i", "ü ü j")]


def saved(folder, **lineage):
    torch.manual_seed(0)
    folder.mkdir()
    save_bundle(folder, Classifier(encoder("bert"), {"label": ["good", "bad"]}), lineage=lineage)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """An untrained classifier of texts that are a title and a body."""
    return saved(tmp_path_factory.mktemp("text") / "bundle", text_columns=["title", "body"])


@pytest.fixture
def news(tmp_path):
    """The texts as a CSV with columns in another order, one that is none of theirs, and line breaks in quotes."""
    rows = [f'{number},"{body}",{title}' for number, (title, body) in enumerate(TEXTS)]
    (tmp_path / "news.csv").write_text("\n".join(["id,body,title", *rows]) + "\n", "utf-8")
    return tmp_path / "news.csv"


def answered(bundle, *inputs, tmp_path, **options):
    predict(bundle, inputs, out=tmp_path / "out.parquet", device="cpu", **options)
    return pd.read_parquet(tmp_path / "out.parquet")


def test_every_row_of_a_table_is_answered_from_the_models_columns_in_any_order(bundle, news, tmp_path):
    table = answered(bundle, news, tmp_path=tmp_path)
    assert table.columns.tolist() == schema_of("text", []).names
    assert table["sample_id"].tolist() == [sample_id(canonical(cells)) for cells in TEXTS]
    assert table["reason"].isna().all()
    assert table["path"].str.startswith(f"{news}/title,body/").all()
    assert table["path"].is_unique
    assert table["truncated"].tolist() == [False, False, True, False]
    assert table["share_unknown"].tolist() == [0, 0, 0, 0.5]


def test_texts_have_one_answer_in_every_layout(bundle, news, tmp_path):
    expected = answered(bundle, news, tmp_path=tmp_path).drop(columns="path")
    columns = {"title": [title for title, _ in TEXTS], "body": [body for _, body in TEXTS]}
    pq.write_table(pa.table(columns), tmp_path / "news.parquet")
    lines = [json.dumps({"body": body, "title": title}) for title, body in TEXTS]
    (tmp_path / "news.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "many").mkdir()
    (tmp_path / "many/news.tsv").write_text(
        "title\tbody\n" + "".join(f'{title}\t"{body}"\n' for title, body in TEXTS), "utf-8"
    )
    for place in ("news.parquet", "news.jsonl", "many"):
        table = answered(bundle, tmp_path / place, tmp_path=tmp_path).drop(columns="path")
        assert table.to_json() == expected.to_json(), place


def test_files_of_text_and_tables_of_their_paths_are_read(bundle, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("abc"[number], "utf-8")
    (tmp_path / "list.csv").write_text("path\n2.txt\n0.txt\n", "utf-8")
    table = answered(bundle, tmp_path / "list.csv", tmp_path / "1.txt", tmp_path=tmp_path)
    assert table["path"].tolist() == ["2.txt", "0.txt", str(tmp_path / "1.txt")]
    assert table["sample_id"].tolist() == [sample_id(canonical([text])) for text in "cab"]


def test_bad_texts_have_a_reason_and_every_row_has_an_answer(bundle, tmp_path):
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80\xff")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "bad.csv").write_text('title,body\n"",\u200b\na,b\na,b,c\nNA,null\n', "utf-8")
    paths = [tmp_path / name for name in ("binary.txt", "empty.txt", "none.txt", "bad.csv")]
    table = answered(bundle, *paths, tmp_path=tmp_path, limits={"max_characters": 50})
    assert table["reason"].fillna("").tolist() == [
        "not_text", "no_text", "missing_file", "no_text", "", "unreadable_row", ""
    ]  # fmt: skip
    assert table.loc[table["reason"].notna(), ["label", "truncated", "share_unknown"]].isna().all(axis=None)
    (tmp_path / "long.txt").write_text("a" * 51, "utf-8")
    table = answered(bundle, tmp_path / "long.txt", tmp_path=tmp_path, limits={"max_characters": 50})
    assert table["reason"].tolist() == ["too_many_characters"]


def test_columns_that_are_missing_are_named_and_others_can_be_named_instead(bundle, tmp_path, shell):
    (tmp_path / "other.csv").write_text("title,text\na,b\n", "utf-8")
    done = shell("predict", bundle, tmp_path / "other.csv", "-o", tmp_path / "o.parquet", "--device", "cpu")
    assert "columns 'title', 'text'; expected title, body, each once: --text-columns names others" in done.error
    done = shell("predict", bundle, tmp_path / "other.csv", "--text-columns", "text,title", "--device", "cpu")
    assert done.status == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/other.csv/text,title/0\t")


def test_model_that_names_no_columns_reads_the_one_with_a_usual_name(tmp_path):
    bundle = saved(tmp_path / "bundle", text_columns=None)
    (tmp_path / "a.csv").write_text("id,Message\n1,a b\n", "utf-8")
    assert answered(bundle, tmp_path / "a.csv", tmp_path=tmp_path)["reason"].isna().all()
    (tmp_path / "b.csv").write_text("id,remark\n1,a b\n", "utf-8")
    [detail] = answered(bundle, tmp_path / "b.csv", tmp_path=tmp_path)["detail"]
    assert "columns 'id', 'remark'; expected one called text, sentence, content, body, message" in detail


def test_first_row_of_a_table_without_a_header_is_not_shown_and_a_column_twice_is_named(bundle, tmp_path):
    (tmp_path / "a.csv").write_text("My number is 0171 555 and my name is Bob,x\nb,y\n", "utf-8")
    (tmp_path / "b.csv").write_text("title,body,note,note\na,b,c,d\n", "utf-8")
    details = answered(bundle, tmp_path / "a.csv", tmp_path / "b.csv", tmp_path=tmp_path)["detail"]
    assert "columns (a cell of 40 characters), 'x'; expected title, body" in details[0]
    assert details[1] == "column 'note' appears twice: call each otherwise"


def test_files_of_a_folder_that_are_no_texts_have_a_reason_and_no_label(bundle, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("README.md", "Thumbs.db", "a.json", "b.txt"):
        (tmp_path / "in" / name).write_text("a", "utf-8")
    table = answered(bundle, tmp_path / "in", tmp_path=tmp_path)
    assert table["reason"].fillna("").tolist() == ["not_text", "not_text", "unreadable_table", ""]
    assert answered(bundle, tmp_path / "in/README.md", tmp_path=tmp_path)["label"].notna().all()


def test_encoding_can_be_named_and_is_asked_for(bundle, tmp_path):
    (tmp_path / "old.csv").write_bytes("title,body\nä,é\nö,ü\n".encode("cp1252"))
    (tmp_path / "old.txt").write_bytes("ä".encode("cp1252"))
    paths = [tmp_path / "old.csv", tmp_path / "old.txt"]
    unread = answered(bundle, *paths, tmp_path=tmp_path)
    assert unread["reason"].tolist() == ["unreadable_table", "not_text"]
    assert unread["detail"].str.contains("name its encoding in --encoding, such as cp1252").all()
    table = answered(bundle, *paths, tmp_path=tmp_path, encoding="cp1252")
    assert table["sample_id"].tolist() == [sample_id(canonical(cells)) for cells in (["ä", "é"], ["ö", "ü"], ["ä"])]
    with pytest.raises(ValueError, match="the encoding 'nonsense' is unknown"):
        answered(bundle, *paths, tmp_path=tmp_path, encoding="nonsense")


def test_labels_and_other_columns_of_a_table_are_left_alone(bundle, tmp_path):
    (tmp_path / "a.csv").write_text("title,split,body,label\na,none of them,b,\nc,,d,x\n", "utf-8")
    assert answered(bundle, tmp_path / "a.csv", tmp_path=tmp_path)["reason"].isna().all()


def test_columns_of_a_strangers_bundle_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"the bundle names the text_columns \[3\], expected a list of names"):
        tasks.load(saved(tmp_path / "bundle", text_columns=[3]))


def piped(bundle, content, *, arguments=(), stdin=subprocess.PIPE):
    command = [sys.executable, "-m", "tasks.predict", bundle, "-", "--device", "cpu", *arguments]
    given = {"input": content} if stdin is subprocess.PIPE else {"stdin": stdin}
    return subprocess.run(command, capture_output=True, check=False, cwd=ROOT, timeout=240, **given)


def test_texts_on_standard_input_are_answered_a_line_each(bundle, tmp_path):
    lines = ["a b", "", "c\rd\r", "\ufffe"]
    done = piped(bundle, "\n".join(lines).encode() + b"\n\xff\xff", arguments=["-o", tmp_path / "out.csv"])
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["path"].tolist() == [f"line {number}" for number in range(1, 6)]
    assert table["reason"].fillna("").tolist() == ["", "no_text", "", "", "not_text"]
    assert "a b" not in (tmp_path / "out.csv").read_text("utf-8")


def test_closed_standard_input_is_said_in_a_line(bundle):
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m tasks.predict {bundle} - <&-"],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=240,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: standard input is closed: pipe texts into it, one a line, or name files\n"


def test_earlier_predictions_of_texts_are_replaced_and_are_no_input(bundle, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("a", "utf-8")
    for name in ("out.csv", "out.json", "out.parquet"):
        for _ in range(2):
            assert predict(bundle, [tmp_path / "in"], out=tmp_path / "in" / name, device="cpu").total() == 1
    assert json.loads((tmp_path / "in/out.json").read_text("utf-8"))[0]["truncated"] is False


def test_notebook_answers_texts_and_paths_as_predict_does(bundle, news, tmp_path):
    model = tasks.load(bundle, device="cpu")
    by_path = model.predict(news)
    assert by_path["probability"].tolist() == answered(bundle, news, tmp_path=tmp_path)["probability"].tolist()
    texts = ["\n".join(cells) for cells in TEXTS]
    for given in (texts, pd.Series(texts), np.array(texts, dtype=object)):
        table = model.predict(given)
        assert table["probability"].tolist() == by_path["probability"].tolist()
        assert table["path"].tolist() == [f"text {number}" for number in range(4)]
    assert model.predict("a b")["label"].notna().all()
    assert (model.embed(texts) == model.embed(news)).all()


def test_notebook_refuses_what_is_no_text_in_a_sentence(bundle, tmp_path):
    model = tasks.load(bundle, device="cpu")
    assert model.predict(["a", " ", "\ud83d"])["reason"].fillna("").tolist() == ["", "no_text", "not_text"]
    with pytest.raises(ValueError, match=r"text 1 is no text \(no_text"):
        model.embed(["a", " "])
    with pytest.raises(ValueError, match="1 texts and 1 paths are mixed"):
        model.predict(["a", Path("a.txt")])
    with pytest.raises(ValueError, match=r"DataFrame is neither a text nor a path: .*hand in a column"):
        model.predict(pd.DataFrame({"text": ["a"]}))
    with pytest.raises(ValueError, match=r"int \(number 1, from 0\) is neither a text nor a path"):
        model.predict(["a", 3])


def test_missing_cells_of_a_column_cost_no_other_text_its_answer(bundle):
    table = tasks.load(bundle, device="cpu").predict(pd.Series(["a", None, float("nan"), pd.NA, "b"], dtype=object))
    assert table["reason"].fillna("").tolist() == ["", "no_text", "no_text", "no_text", ""]


def test_libraries_that_are_not_installed_are_named_and_the_bundle_is_not_called_damaged(
    monkeypatch, bundle, news, shell
):
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # as find_spec sees a package that is missing
    done = shell("predict", bundle, news, "--device", "cpu")
    assert done.error == (
        "text needs tokenizers, which is not installed: run `make setup EXTRAS=text`, or `pip install -e '.[text]'` "
        "in the clone"
    )


def test_smoke_asks_a_bundle_of_texts_for_an_answer(bundle, shell):
    done = shell("smoke", "--bundle", bundle)
    assert done.status == 0, done.stderr
    assert f"{bundle} loads and predicts" in done.stderr


def test_texts_at_an_address_are_answered_as_those_of_this_machine(bundle, news, tmp_path):
    """The address is one of this machine, which fsspec reads as any other."""
    (tmp_path / "away").mkdir()
    (tmp_path / "away/news.csv").write_bytes(news.read_bytes())
    (tmp_path / "away/note.txt").write_bytes("caf\u00e9".encode("cp1252"))
    (tmp_path / "away/notes.pdf").write_bytes(b"%PDF")
    near, far = (
        answered(bundle, named, tmp_path=tmp_path, encoding="cp1252")
        for named in (tmp_path / "away", f"file://{tmp_path}/away")
    )
    assert far["path"].str.removeprefix("file://").tolist() == near["path"].tolist()
    for column in near.columns.difference(["path"]):
        assert near[column].map(str).tolist() == far[column].map(str).tolist(), column
