import csv
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mitate.data.tables import read_listed, read_table, table_in
from mitate.errors import DataError


def test_columns_are_found_by_name_in_any_case(table) -> None:
    path = table(" Path,Other,LABEL,Mask,Split", "a.png,1,rust,,Train", "b.png,2,healthy,,val")
    dataset = read_listed(path)
    assert [r.label for r in dataset.records] == ["rust", "healthy"]
    assert [r.split for r in dataset.records] == ["train", "valid"]
    assert [r.mask for r in dataset.records] == [None, None]
    assert [r.path for r in dataset.records] == [path.parent / "a.png", path.parent / "b.png"]
    assert (dataset.root, dataset.notices) == (path.parent, ())


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_spreadsheets_write(tmp_path: Path, draw, separator, encoding, end) -> None:
    draw(tmp_path / "葉 1.png")
    path = tmp_path / "x.csv"
    lines = [["path", "label"], ["葉 1.png", "いもち病"], ["", ""]]
    path.write_bytes(end.join(separator.join(line) for line in lines).encode(encoding))
    assert read_listed(path).class_names == ("いもち病",)


def test_the_separator_may_be_told_before_the_header(tmp_path: Path, draw) -> None:
    draw(tmp_path / "a, b.png")
    draw(tmp_path / "b.png")
    path = tmp_path / "x.csv"
    path.write_text("sep=;\r\npath;label\r\na, b.png;x\r\nb.png;y\r\n", encoding="utf-8-sig")
    assert [record.label for record in read_listed(path).records] == ["x", "y"]


def test_masks_and_groups(table, draw) -> None:
    path = table("path,label,mask,part", "a.png,x,m/a.png, 7 ", "b.png,y,,", "c.png,y,m/c.png,7")
    mask = draw(path.parent / "m" / "a.png")
    dataset = read_listed(path, group="Part")
    assert [r.mask for r in dataset.records] == [mask, None, None]
    assert [r.group for r in dataset.records] == ["7", None, "7"]
    assert dataset.notices == (
        "1 mask listed in list.csv cannot be found; their images are used without: m/c.png.",
    )


def test_missing_images_are_told_and_left_out(table) -> None:
    path = table("path,label", *(f"{i}.png,x" for i in range(6)))
    for i in range(1, 6):
        (path.parent / f"{i}.png").unlink()
    dataset = read_listed(path)
    assert len(dataset) == 1
    assert dataset.notices == (
        "5 images listed in list.csv cannot be found and are left out:"
        " 1.png, 2.png, 3.png and 2 more.",
    )


def test_empty_label_is_none(table) -> None:
    dataset = read_listed(table("path,label", "a.png,", "b.png, x "))
    assert [r.label for r in dataset.records] == [None, "x"]


def test_picture_listed_twice(table) -> None:
    dataset = read_listed(table("path,label", "a.png,x", "b.png,y", "a.png,y"))
    assert [r.label for r in dataset.records] == ["x", "y"]
    assert "a.png (line 4)" in dataset.notices[0]
    assert dataset.notices[1] == (
        "1 line with another label than before, of which the first counts: a.png is x (line 2) and "
        "y (line 4). Correct them."
    )
    same = read_listed(table("path,label", "a.png,x", "b.png,y", "a.png,x"))
    assert len(same.notices) == 1


@pytest.mark.parametrize(
    ("lines", "group", "words"),
    [
        (["file,label", "a.png,x"], None, "no column path; it has file, label"),
        (["file,class", "a.png,x"], None, "no column path and no column label"),
        (["path,label,path", "a.png,x,"], None, "column path twice"),
        (["path,label"], None, "no rows"),
        (["path,label", "a.png,x,y"], None, "line 2 has 3 cells and the header 2"),
        (["path,label,split", "a.png,x,dev"], None, "split 'dev': write train, valid or test"),
        (["path,label", "a.png,x"], "part", "no column part to group by; choose one of path, lab"),
        (
            ["path,label,split,part", "a.png,x,train,7", "b.png,x,valid,7", "c.png,x,test,8"],
            "part",
            r"tears 1 group apart between splits: 7 \(train, valid\)",
        ),
    ],
)
def test_unusable_tables(table, lines: list[str], group: str | None, words: str) -> None:
    path = table(*lines)
    with pytest.raises(DataError, match=words) as caught:
        read_listed(path, group=group)
    assert str(path) in str(caught.value)


def test_no_image_is_there(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,label\ngone.png,x\n")
    with pytest.raises(DataError, match="None of the 1 image .* relative to the folder"):
        read_listed(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        ("path,label\na.png,いもち".encode("cp932"), "not UTF-8"),
        (b"path,label\n" + b"x" * 200_000, "not a CSV"),
    ],
)
def test_unreadable_tables(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "x.csv", ("path", "label"))
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "gone.csv", ("path",))


def test_index_of_a_folder(tmp_path: Path) -> None:
    assert table_in(tmp_path) is None
    (tmp_path / "index.csv").touch()
    assert table_in(tmp_path) == tmp_path / "index.csv"
    (tmp_path / "x.png").touch()
    with pytest.raises(DataError, match=re.escape("x.png is neither a folder nor a CSV")):
        table_in(tmp_path / "x.png")


printable = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=10)
cells = printable.map(str.strip)


@settings(deadline=None)
@given(st.lists(st.tuples(printable, cells, cells), min_size=1, max_size=5))
def test_what_a_writer_writes_is_read(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.getbasetemp() / "round.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label", "mask"), *(("p" + a, b, c) for a, b, c in rows)]
        )
    read = [(row["path"], row["label"], row["mask"]) for row in read_table(path, ("path",)).rows]
    assert read == [("p" + a, b, c) for a, b, c in rows]


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)
@example(name="a\x85", label="")
@given(
    # A name of nothing but white space makes a blank row, which is passed over.
    names.filter(lambda name: name.strip().strip(". ") and len(name.encode()) < 200),
    cells,
)
def test_any_file_name_is_found(tmp_path_factory, name: str, label: str) -> None:
    folder = tmp_path_factory.mktemp("names", numbered=True)
    (folder / name).touch()
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), (name, label)])
    assert [record.path for record in read_listed(folder / "x.csv").records] == [folder / name]


@settings(deadline=None)
@given(
    st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode(errors="replace"))
)
def test_any_bytes_are_read_or_told(tmp_path_factory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"path,label\n" + content)
    try:
        read_table(path, ("path", "label"))
    except DataError as error:
        told = str(error)
        assert str(path) in told
