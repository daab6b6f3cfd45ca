"""Nothing is overwritten unasked, and a folder is written as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from adversarial_trainer.tools.export.folder import replacing_folder

NAMES = ("a", "b", "c")


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(out, force=False, **files):
    with replacing_folder(out, force, NAMES) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


def test_new_empty_and_full_folders(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write(out, a="1", b="2")
    assert content(out) == {"a": "1", "b": "2"}
    with pytest.raises(FileExistsError, match="not empty; --force"):
        write(out, a="new")
    (out / "mine").write_text("kept")
    # What the new export lacks would be of another codec.
    write(out, force=True, a="new", c="3")
    assert content(out) == {"a": "new", "c": "3", "mine": "kept"}
    empty = tmp_path / "empty"
    empty.mkdir()
    write(empty, a="1")
    assert content(empty) == {"a": "1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "empty"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("force", [False, True])
def test_a_failure_changes_nothing(tmp_path: Path, force: bool) -> None:
    out = tmp_path / "out"
    if force:
        write(out, a="old")
    with pytest.raises(ValueError, match="half-way"), replacing_folder(out, force, NAMES) as folder:
        (folder / "a").write_text("new")
        raise ValueError("half-way")
    assert [content(path) for path in tmp_path.iterdir()] == ([{"a": "old"}] if force else [])


@pytest.mark.parametrize("force", [False, True])
def test_files_and_dangling_links_are_no_folders(tmp_path: Path, force: bool) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError, match=f"{name} exists and is not a folder"):
            write(tmp_path / name, force, a="1")
    assert (tmp_path / "file").read_text() == "kept" and (tmp_path / "link").is_symlink()


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", a="1")
    assert content(tmp_path / "real") == {"a": "1"} and (tmp_path / "link").is_symlink()
