"""Content of pages, and pages of folders that are damaged or hostile."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from run_folders import MakeRun, evaluation, history, write_json

from adversarial_trainer.tools.report import listening, read_run, write_comparison, write_report
from adversarial_trainer.tools.report.charts import Line, draw_chart

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements and texts of a page. AssertionError where an element is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.cells: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


STARTS = {"audio/flac": b"fLaC", "image/png": b"\x89PNG", "image/svg+xml": b"<?xml"}


def decoded(uri: str | None) -> bytes:
    kind, _, data = (uri or "").removeprefix("data:").partition(";base64,")
    found = base64.b64decode(data)
    assert found.startswith(STARTS[kind])
    return found


def charts(page: Page) -> dict[str | None, str]:
    """The SVG of each chart by title."""
    images = [image for image in page.all("img") if "svg" in str(image["src"])[:20]]
    return {image["alt"]: decoded(image["src"]).decode() for image in images}


def curves(svg: str, colour: str) -> list[list[tuple[float, float]]]:
    """The points of each line of a colour, in pixels, y downwards."""
    paths = re.findall(rf'<path d="([^"]+)"[^>]*fill: none; stroke: {colour}', svg)
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", p)] for p in paths]


C0, C1, C2 = "#1f77b4", "#ff7f0e", "#2ca02c"  # matplotlib's first colours


def test_a_page_has_all_there_is(make_run: MakeRun) -> None:
    folder = make_run(files={"00_voice": 0.5, "01_song": 1.25}, channels=2)
    page = Page(write_report(folder))
    players, pictures = page.all("audio"), page.all("img")
    assert len(players) == len([x for x in pictures if "png" in str(x["src"])[:20]]) == 2 * 3
    labels = [player["aria-label"] for player in players]
    assert labels[:3] == ["00_voice, original", "00_voice, 0.80 kb/s", "00_voice, 1.60 kb/s"]
    wav, rate = soundfile.read(folder / "samples" / "3" / "01_song_0.80kbps.wav", dtype="int16")
    sound, sound_rate = soundfile.read(io.BytesIO(decoded(players[4]["src"])), dtype="int16")
    assert sound_rate == rate and np.array_equal(sound, wav)  # bit for bit
    words = ["SI-SDR", "Perplexity", "Updates skipped", "c0ffee" * 6]
    words += ["epoch 3", "123,456", "0:00:44", "2026-01-02T03:04:05Z", "3 of 3", "3 files (30 s)"]
    for word in words:
        assert word in page.text, word
    assert "Not in this page" not in page.text
    # Rate and distortion: log2(1.6) + 1 with its interval, the baseline by what it really used.
    assert "1.68 ± 0.50" in page.cells and "6.4" in page.cells
    assert "optim.lr" in page.cells and "0.001" in page.cells  # what differs from the defaults
    assert "lr: 0.001" in page.text  # the whole configuration
    found = charts(page)
    assert len(page.all("figure")) == len(found) == len(page.all("figcaption")) >= 15
    assert ">fft512</text>" in found["Accuracy of the discriminators"]
    assert not any(word in svg for svg in found.values() for word in ('"nan', "inf ", " nan"))


def test_charts_show_the_values() -> None:
    """A curve 1, 1/2, 1/3 falls (up the picture is smaller y), text is text, and the same values
    give the same bytes."""
    lines = [Line("a<$b", [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]), Line("", [(1, 0.5)], [(0.4, 0.6)])]
    chart = draw_chart("title", [*lines, Line("c", [])], "", guide=0.5)
    assert chart is not None and chart == draw_chart("title", lines, "", guide=0.5)
    assert chart.title == "Title"
    svg = decoded(chart.picture).decode()
    ((x0, y0), (x1, y1), (x2, y2)), *_ = curves(svg, C0)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(0.5 / (2 / 3), abs=0.02) and y0 < y2
    ((_, low), (_, high)), *_ = curves(svg, C1)
    assert (low - high) / (y1 - y0) == pytest.approx(0.4, abs=0.02)
    assert re.search(r"<text[^>]*>update</text>", svg) and ">a&lt;$b</text>" in svg
    assert draw_chart("Title", [Line("a", [])], "") is None


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&amp;\udcff\x00"


def test_nothing_from_outside_becomes_html(make_run: MakeRun, tmp_path: Path) -> None:
    """In file names, configuration, history, evaluation, and provenance."""
    name = HOSTILE.replace("/", "_").replace("\0", "")
    folder = make_run(files={name: 0.1})
    write_json(folder / ".argv.json", [f"dset.path={HOSTILE}"])
    text = json.dumps(HOSTILE.replace("\0", ""))
    (folder / ".hydra" / "config.yaml").write_text(f"optim:\n  epochs: 3\nname: {text}\n")
    epochs = history(2)
    for epoch in epochs:
        epoch["train"] |= {f"d_acc/{HOSTILE}": 0.5, f"share_{HOSTILE}": 1.0, f"usage/{HOSTILE}": 1}
        epoch["train"] |= {HOSTILE: 1.0}
        epoch[HOSTILE] = {"duration": 1.0}
    write_json(folder / "history.json", epochs)
    path = folder / "evaluation" / "3" / "evaluation.json"
    data = json.loads(path.read_text())
    data["metrics"]["sisnr"] |= {"title": HOSTILE, "unit": HOSTILE}
    data["rows"][2]["system"] = HOSTILE
    write_json(path, data)
    start = {"time": HOSTILE, "commit": HOSTILE, "version": HOSTILE}
    write_json(folder / "provenance.json", {"parameters": {HOSTILE: 3}, "starts": [start]})
    other = make_run("<script>alert(3)<")
    for page in (
        Page(write_report(folder)),
        Page(write_comparison([folder, other], tmp_path / "both.html")),
    ):
        assert "<script>alert(1)" in page.text  # shown, as text
        assert len(page.all("script")) == 1 and "alert" not in page.source.split("<script>")[-1]
        assert not [a for _, a in page.elements if "onerror" in a or a.get("src") == "x"]
        allowed = set(
            "html head body header main nav section div p a meta title style script link h1 h2 h3 "
            "h4 dl dt dd ul li table thead tbody tr th td figure figcaption pre audio img small "
            "code kbd details summary i b button".split()
        )
        assert {tag for tag, _ in page.elements} <= allowed
        links = [a.get(key) for _, a in page.elements for key in ("src", "href")]
        assert all(link is None or link.startswith(("data:", "#")) for link in links)


def test_judgements_stand_on_top(make_run: MakeRun) -> None:
    """The current ones first, each once, as it was said last; on their own in the history."""
    epochs: list[dict[str, Any]] = [*history(3)]
    won = {"title": "they have won", "text": "accuracy 97 %.", "since": 40, "until": None}
    slow = {"title": "<b>slow", "text": "50 %.", "since": 10, "until": None}
    epochs[0]["health"] = [slow, won]
    epochs[1]["health"] = [{**slow, "until": 60}, {**won, "text": "accuracy 99 %."}]
    epochs[2]["health"] = [{**won, "text": "accuracy 98 %."}]
    folder = make_run()
    write_json(folder / "history.json", epochs)
    assert read_run(folder).history == history(3)
    text = Page(write_report(folder)).text
    assert "97 %" not in text and "99 %" not in text
    both = Page(write_comparison([folder, make_run("22222222")], folder / "both.html"))
    assert both.cells.count("they have won") == 1 and "<b>slow" not in both.text
    current = text.index("They have won since update 40: accuracy 98 %.")
    assert current < text.index("over since update 60 (begun at 10): <b>slow")
    assert "Health" not in Page(write_report(folder, history=history(3))).text


def test_what_is_missing_is_told(make_run: MakeRun, tmp_path: Path) -> None:
    """A folder without anything has a page as well, alone and beside others, and so has an
    unfinished run."""
    (tmp_path / "empty").mkdir()
    page = Page(write_report(tmp_path / "empty"))
    assert page.text.count("there is no") == 4 and page.text.count("Not in this page") == 1
    assert "no samples yet" in page.text and "no evaluation yet" in page.text
    folder = make_run("other", files={})
    both = Page(write_comparison([tmp_path / "empty", folder], tmp_path / "both.html"))
    assert "empty: " in both.text and "other: The" not in both.text
    write_json(folder / "history.json", history(2))
    assert "The run is not finished: 2 of 3 epochs are done." in read_run(folder).missing
    assert len(read_run(folder, history=history(3)).history) == 3  # told by the solver


DAMAGED = ['{"a"', "", "[1, 2]", '{"train": {}}', "[{}, null, 3]", '[{"train": [1]}]', "[" * 90000,
           '[{"train": {"d_acc/a": "x"}}]', "\x00\xff", f'[{{"train": {{"l1": 1{"0" * 400}}}}}]',
           '[{"health": [1]}]', '[{"health": [{"title": 1, "since": 2}]}]',
           "7", '"text"', '{"parameters": 3, "starts": [4], "version": 1, "rows": 2}']  # fmt: skip


def test_damaged_files_are_told_and_the_rest_is_read(make_run: MakeRun) -> None:
    folder = make_run(files={})
    for name in ("history.json", "provenance.json", ".argv.json", "evaluation/3/evaluation.json"):
        whole = (folder / name).read_text()
        for content in DAMAGED:
            (folder / name).write_bytes(content.encode("latin-1"))
            run = read_run(folder)
            damaged = any(f"{name} is damaged" in text for text in run.missing)
            assert damaged or name in (".argv.json", "history.json"), content
            assert run.config["optim.epochs"] == 3
        (folder / name).write_text(whole)
        assert not any("damaged" in text for text in read_run(folder).missing)
    # An older evaluation instead of a damaged one.
    write_json(folder / "evaluation" / "12" / "evaluation.json", {**evaluation(), "rows": 7})
    run = read_run(folder)
    assert run.evaluation is not None and run.evaluation_epoch == 3
    assert any("evaluation/12/evaluation.json is damaged" in text for text in run.missing)
    # Numbers that no chart can show are left out.
    text = '[{"train": {"l1": NaN, "adv": 1e400, "feat": 1e299, "d_acc/a": 0.5}}]'
    (folder / "history.json").write_text(text)
    assert read_run(folder).history == [{"train": {"feat": 1e299, "d_acc/a": 0.5}}]
    assert "Feature matching loss" in Page(write_report(folder)).text
    for content in ("a: [", "a: &x [1]\nb: *x", "\xff", "a: " + "[" * 99):
        (folder / ".hydra" / "config.yaml").write_bytes(content.encode("latin-1"))
        assert any(".hydra/config.yaml is damaged" in text for text in read_run(folder).missing)


def test_the_size_is_limited_and_what_is_left_out_is_told(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(files={f"{n:02d}_a": 11.0 if n == 5 else 0.5 for n in range(12)})
    samples = folder / "samples" / "3"
    (samples / "00_a_0.80kbps.wav").write_bytes(b"RIFF")
    soundfile.write(samples / "01_a_original.wav", np.zeros((0, 1)), 16000)
    page = Page(write_report(folder))
    assert len(page.all("audio")) == 8 * 3 - 2
    assert page.text.count("A sample could not be read") == 2 and "00_a_0.80kbps.wav" in page.text
    assert "4 more files are in the run's folder" in page.text
    assert "3 of the files are longer than the 10 s" in page.text
    long = page.all("audio")[15]
    assert soundfile.info(io.BytesIO(decoded(long["src"]))).duration == 10.0
    monkeypatch.setattr(listening, "AUDIO_BYTES", 200_000)
    found = listening.make_players(read_run(folder).samples)
    made = [player for _, players in found.rows for player in players]
    assert 100_000 < sum(len(p.sound) + len(p.picture) for p in made) <= 200_000
    assert f"{8 * 3 - 2 - len(made)} more players would make" in found.remarks[-2]


def test_several_runs(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run("11111111", files={"00_a": 0.2, "01_b": 0.2})
    second = make_run("22222222", rates=("1.60kbps", "6.00kbps"), level=2.0, lr=3e-4)
    shutil.copytree(first / "samples" / "3", second / "samples" / "3", dirs_exist_ok=True)
    for path in (second / "samples" / "3").glob("*_0.80kbps.wav"):
        path.unlink()
    page = Page(write_comparison([first, second], tmp_path / "both.html"))
    rows = [page.cells[i : i + 3] for i in range(len(page.cells))]
    assert ["optim.lr", "0.001", "0.0003"] in rows
    assert "seed" not in page.cells  # the same in both
    labels = [player["aria-label"] for player in page.all("audio")]
    row = ["original", "11111111, 0.80 kb/s", "11111111, 1.60 kb/s", "22222222, 1.60 kb/s"]
    assert labels == [f"{name}, {title}" for name in ("00_a", "01_b") for title in row]
    l1 = charts(page)["Waveform L1 distance"]
    assert ">11111111</text>" in l1 and ">22222222</text>" in l1
    assert len(curves(l1, C0)[0]) == len(curves(l1, C1)[0]) == 3
    metrics = [cell for cell in page.cells if cell in ("0.3667", "0.7333")]  # 1.1 / 3, 2.2 / 3
    assert len(metrics) == 2
    assert charts(page)["SI-SDR"].count(">opus</text>") == 1  # once, and not for each run
    assert "not to be compared" not in page.text
    path = second / "evaluation" / "3" / "evaluation.json"
    for change in ("files", "title", "count", "metrics"):
        data = evaluation()
        if change == "files":
            data["files"][1]["name"] = "another.wav"
        elif change == "metrics":  # what only one of them has is no difference
            del data["metrics"]["mel"]
        elif change == "title":
            data["metrics"]["mel"]["title"] = "mel distance of others"
        else:
            data["rows"][0]["metrics"]["mel"]["count"] = 2
        write_json(path, data)
        text = Page(write_comparison([first, second], tmp_path / "both.html")).text
        told = "and not to be compared: 11111111 has 3 files of 30 s, mel distance on 3," in text
        assert told == (change != "metrics"), change
    path.unlink()
    other = charts(Page(write_comparison([second, first], tmp_path / "both.html")))["SI-SDR"]
    # 22222222 has no evaluation; the others keep their colours.
    assert not curves(other, C0) and curves(other, C1) and curves(other, C2)


def test_curves_by_update(make_run: MakeRun) -> None:
    """Validation is at the ends of epochs. A resumed run writes some updates again; a kill cuts a
    line. Without the file, training is at the ends of epochs as well."""
    folder = make_run(files={})
    write_json(folder / "history.json", [{"train": {"l1": 0.2}, "valid": {"l1": 0.1}}] * 2)
    (folder / ".hydra" / "config.yaml").write_text("optim: {epochs: 2, updates_per_epoch: 10}")
    assert read_run(folder).curve("train", "l1") == [(10, 0.2), (20, 0.2)]
    lines = [{"update": 5, "l1": 0.5}, {"update": 10, "l1": 0.4}, {"update": 5, "l1": 0.25}]
    text = "\n".join(["", *map(json.dumps, lines), '{"update": 15, "l1'])
    (folder / "curves.jsonl").write_text(text)
    run = read_run(folder)
    assert run.curve("train", "l1") == [(5, 0.25), (10, 0.4)]
    assert run.curve("valid", "l1") == [(10, 0.1), (20, 0.1)]
    assert not any("Curves" in text for text in run.missing)


def test_before_the_discriminators_and_opus(make_run: MakeRun) -> None:
    """The newest samples of an epoch without discriminators stand beside the newest of all, at the
    highest bandwidth; Opus is last."""
    folder = make_run(files={"00_voice": 0.5})
    for epoch in (1, 2):
        shutil.copytree(folder / "samples" / "3", folder / "samples" / str(epoch))
    epochs = history(3)
    for epoch in epochs[:2]:
        del epoch["train"]["d_loss"]
    write_json(folder / "history.json", epochs)
    original = folder / "samples" / "3" / "00_voice_original.wav"
    shutil.copy(original, original.with_name("00_voice_opus-6.40kbps.wav"))
    titles = re.findall(r"<h4>(.*?)</h4>", write_report(folder).read_text())
    assert titles == [
        *("original", "0.80 kb/s", "1.60 kb/s", "before the discriminators, epoch 2"),
        "Opus, 6.40 kb/s",
    ]
    assert read_run(folder).before["00_voice"].parts[-2:] == ("2", "00_voice_1.60kbps.wav")


def test_verdict(make_run: MakeRun) -> None:
    """The newest evaluation in sentences, above all else."""
    page = Page(write_report(make_run(level=0.0)))
    assert page.text.index("At 1.6 kb/s") < page.text.index("Listen")
    for text in (
        "At 1.6 kb/s, on 3 files that it was not trained on: SI-SDR 0.68 (before training "
        "-40.00; good is higher), mel distance 0.68 (before training 12.00; good is lower).",
        "At 0.8 kb/s: SI-SDR -0.32, mel distance -0.32.",
        "Opus at 6.4 kb/s: SI-SDR 2.58, mel distance 2.58.",
    ):
        assert text in page.text
