"""What is on a page, and what becomes of folders that are damaged or hostile."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from run_folders import MakeRun, history, write_json

from adversarial_trainer.tools.report import listening, read_run, write_comparison, write_report
from adversarial_trainer.tools.report.pictures import spectrogram_db, spectrogram_png

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


def decoded(uri: str | None) -> bytes:
    kind, _, data = (uri or "").partition(";base64,")
    assert kind in ("data:audio/flac", "data:image/png")
    found = base64.b64decode(data)
    assert found.startswith(b"fLaC" if kind == "data:audio/flac" else b"\x89PNG")
    return found


def test_a_page_has_all_there_is(make_run: MakeRun) -> None:
    folder = make_run(files={"00_voice": 0.5, "01_song": 1.25}, channels=2)
    page = Page(write_report(folder))
    assert folder / "report.html" in folder.iterdir()
    players, pictures = page.all("audio"), page.all("img")
    assert len(players) == len(pictures) == 2 * 3
    labels = [player["aria-label"] for player in players]
    assert labels[:3] == ["00_voice, original", "00_voice, 0.80 kb/s", "00_voice, 1.60 kb/s"]
    wav, rate = soundfile.read(folder / "samples" / "3" / "01_song_0.80kbps.wav", dtype="int16")
    sound, sound_rate = soundfile.read(io.BytesIO(decoded(players[4]["src"])), dtype="int16")
    assert sound_rate == rate and np.array_equal(sound, wav)  # bit for bit
    for word in (
        "SI-SDR",
        "D(real) and D(fake)",
        "Perplexity",
        "Updates left out",
        "c0ffeec0ffee+",
    ):
        assert word in page.text, word
    for word in ("fft512", "codebook 1", "epoch 3", "0.12 M", "2026-01-02T03:04:05Z", "3 of 3"):
        assert word in page.text, word
    assert "Not in this page" not in page.text
    # Rate and distortion: log2(1.6) + 1 with its interval, the baseline by what it really used.
    assert "1.68 ± 0.50" in page.cells and "6.4" in page.cells
    assert "optim.lr" in page.cells and "0.001" in page.cells  # what differs from the defaults
    assert "lr: 0.001" in page.text  # the whole configuration
    charts = [a for a in page.all("svg") if "role" in a]
    assert len(charts) == len(page.all("figure")) == len(page.all("figcaption")) >= 15
    places = [str(a) for tag, a in page.elements if tag in ("path", "line", "circle", "text")]
    assert len(places) > 100 and not any("nan" in place or "inf" in place for place in places)


def test_charts_draw_the_values(make_run: MakeRun) -> None:
    """The l1 curve falls as 1, 1/2, 1/3 do: up the picture is smaller y."""
    page = write_report(make_run()).read_text()
    start = page.index('aria-label="l1"')
    path = re.search(r'<path class="c0" d="M([^"]*)"', page[start:])
    assert path is not None
    points = [tuple(map(float, pair.split())) for pair in path[1].split("L")]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(0.5 / (2 / 3), abs=0.02) and y0 < y2


def test_the_spectrogram_shows_a_tone_where_it_is() -> None:
    time = torch.arange(32000) / 16000
    wav = 0.5 * torch.sin(2 * math.pi * 2000 * time)[None] * (time > 1)
    image = np.asarray(Image.open(io.BytesIO(spectrogram_png(wav))).convert("RGB")).sum(-1)
    height, width = image.shape
    assert image[:, : width // 2 - 20].max() == image.min()  # silence first
    row = image[:, 3 * width // 4].argmax()
    assert 1 - row / height == pytest.approx(2000 / 8000, abs=0.02)
    assert spectrogram_db(wav).max() > -8
    for length in (1, 100, 400_000):
        assert Image.open(io.BytesIO(spectrogram_png(torch.zeros(2, length)))).size == (480, 160)


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&amp;\udcff\x00"


def test_nothing_from_outside_becomes_html(make_run: MakeRun, tmp_path: Path) -> None:
    """In file names, configuration, history, evaluation, and where the run comes from."""
    name = HOSTILE.replace("/", "_").replace("\0", "")
    folder = make_run(files={name: 0.1})
    write_json(folder / ".argv.json", [f"dset.path={HOSTILE}"])
    text = json.dumps(HOSTILE.replace("\0", ""))
    (folder / ".hydra" / "config.yaml").write_text(f"optim:\n  epochs: 3\nname: {text}\n")
    epochs = history(2)
    for epoch in epochs:
        epoch["train"] |= {f"d_acc/{HOSTILE}": 0.5, f"share_{HOSTILE}": 1.0, f"usage/{HOSTILE}": 1}
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
        assert "<script>alert(1)" in page.text or "<script>alert(3)" in page.text  # shown, as text
        assert len(page.all("script")) == 1 and "alert" not in page.source.split("<script>")[-1]
        assert not [a for _, a in page.elements if "onerror" in a or a.get("src") == "x"]
        allowed = {"html", "head", "body", "header", "main", "nav", "section", "div", "p", "a"}
        allowed |= {"meta", "title", "style", "script", "link", "h1", "h2", "h3", "h4", "dl", "dt"}
        allowed |= {"dd", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "figure", "pre"}
        allowed |= {"figcaption", "svg", "path", "line", "circle", "text", "audio", "img", "small"}
        allowed |= {"code", "kbd", "details", "summary", "i"}
        assert {tag for tag, _ in page.elements} <= allowed
        for _, attributes in page.elements:
            for key in ("src", "href", "xlink:href", "action"):
                value = attributes.get(key)
                assert value is None or value.startswith(("data:", "#"))


@pytest.mark.parametrize(
    "damage, told",
    [
        ("history.json", "history"),
        ("samples", "no samples yet"),
        ("evaluation", "no evaluation yet"),
        (".hydra", "no .hydra/config.yaml"),
        ("provenance.json", "Commit, parameter counts"),
        (".argv.json", "command line"),
    ],
)
def test_what_is_missing_is_told(make_run: MakeRun, tmp_path: Path, damage: str, told: str) -> None:
    folder = make_run(files={"00_a": 0.01}, rates=("1.60kbps",))
    path = folder / damage
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(write_report(folder))
    assert told.lower() in page.text.lower() and page.text.count("Not in this page") == 1
    both = Page(write_comparison([folder, make_run("other")], tmp_path / "both.html"))
    assert f"{folder.name}: " in both.text and "other: " not in both.text


def test_an_empty_folder_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    page = Page(write_report(tmp_path / "run"))
    assert page.text.count("there is no") == 4 and "no samples yet" in page.text
    Page(write_comparison([tmp_path / "run", tmp_path / "run"], tmp_path / "both.html"))


def test_an_unfinished_run_says_so(make_run: MakeRun) -> None:
    folder = make_run()
    write_json(folder / "history.json", history(2))
    assert "2 of 3 epochs are done" in Page(write_report(folder)).text
    assert "3 of 3" in Page(write_report(folder, history=history(3))).text  # told by the solver


@pytest.mark.parametrize(
    "content",
    [
        *('{"a"', "", "[1, 2]", '{"train": {}}', "[{}, null, 3]", '[{"train": [1]}]', "[" * 90000),
        *('[{"train": {"l1": NaN, "d_acc/a": "x"}}]', '[{"train": {"l1": 1e400}}]', "\x00\xff"),
        '[{"train": {"l1": true, "lr": null}}, {"train": {"l1": 1}}]',
        '[{"train": {"l1": 100000000000000000000000000000000000000}}]',
        f'[{{"train": {{"l1": 1{"0" * 400}}}}}]',
    ],
)
@pytest.mark.parametrize(
    "name", ["history.json", "provenance.json", ".argv.json", "evaluation/3/evaluation.json"]
)
def test_damaged_files_do_not_stop_a_page(make_run: MakeRun, name: str, content: str) -> None:
    folder = make_run(files={})
    (folder / name).write_bytes(content.encode("latin-1"))
    page = Page(write_report(folder))
    if name == "history.json":
        assert "history.json" in page.text or "l1" in page.text


@pytest.mark.parametrize("content", ["a: [", "a: &x [1]\nb: *x", "\xff", "- 1", "a: " + "[" * 99])
def test_a_damaged_configuration(make_run: MakeRun, content: str) -> None:
    folder = make_run(files={})
    (folder / ".hydra" / "config.yaml").write_bytes(content.encode("latin-1"))
    assert "The configuration is damaged" in Page(write_report(folder)).text


def test_damaged_evaluations_say_what_does_not_fit(make_run: MakeRun) -> None:
    """Each key in turn is taken away, or replaced; an older one is shown instead."""
    folder = make_run(files={})
    good = json.loads((folder / "evaluation" / "3" / "evaluation.json").read_text())
    assert read_run(folder).evaluation_epoch == 3
    for key in ("version", "metrics", "rows", "codebooks", "data"):
        for wrong in (None, 7, "text", [3], {"a": 1}):
            write_json(folder / "evaluation" / "12" / "evaluation.json", {**good, key: wrong})
            run = read_run(folder)
            assert run.evaluation_epoch == 3, (key, wrong)
            assert any("evaluation/12/evaluation.json is damaged" in text for text in run.missing)
    write_json(folder / "evaluation" / "12" / "evaluation.json", good)
    assert read_run(folder).evaluation_epoch == 12


def test_damaged_and_empty_samples(make_run: MakeRun) -> None:
    folder = make_run(files={"00_a": 0.2, "01_b": 0.2})
    samples = folder / "samples" / "3"
    (samples / "00_a_0.80kbps.wav").write_bytes(b"RIFF")
    soundfile.write(samples / "01_b_original.wav", np.zeros((0, 1)), 16000)
    page = Page(write_report(folder))
    assert len(page.all("audio")) == 4
    assert page.text.count("could not be read") == 2 and "00_a_0.80kbps.wav" in page.text


def test_the_size_is_bounded_and_what_is_left_out_is_told(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(files={f"{n:02d}_a": 11.0 if n == 5 else 0.5 for n in range(12)})
    page = Page(write_report(folder))
    assert len(page.all("audio")) == 8 * 3
    assert "4 more files are in the run's folder" in page.text
    assert "3 of the files are longer than the 10 s" in page.text
    long = page.all("audio")[15]
    assert soundfile.info(io.BytesIO(decoded(long["src"]))).duration == 10.0
    monkeypatch.setattr(listening, "AUDIO_BYTES", size := len(page.source) // 2)
    page = Page(write_report(folder))
    assert size // 2 < len(page.source) < size + 200_000
    players = len(page.all("audio"))
    assert 3 <= players < 24 and f"{24 - players} more players would make" in page.text


def test_a_long_history_is_thinned(make_run: MakeRun) -> None:
    folder = make_run(files={})
    write_json(folder / "history.json", history(5000))
    assert write_report(folder).stat().st_size < 1_500_000


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
    row = ["original", "11111111, 1.60 kb/s", "22222222, 1.60 kb/s"]
    assert labels == [f"{name}, {title}" for name in ("00_a", "01_b") for title in row]
    start = page.source.index('aria-label="l1"')
    figure = page.source[start : page.source.index("</figure>", start)]
    assert figure.count('class="c0" d=') == figure.count('class="c1" d=') == 2  # line, legend
    metrics = [cell for cell in page.cells if cell in ("0.3667", "0.7333")]  # 1.1 / 3, 2.2 / 3
    assert len(metrics) == 2
    (second / "evaluation" / "3" / "evaluation.json").unlink()
    other = Page(write_comparison([second, first], tmp_path / "both.html"))
    figure = other.source[other.source.index('aria-label="SI-SDR"') :].partition("</figure>")[0]
    assert "c0" not in figure and "c1" in figure and "c2" in figure  # 22222222 has no evaluation
    assert page.text.count("opus") == 2 * 2  # a point and the legend in each chart: not by run


def test_runs_without_a_bandwidth_in_common(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [make_run("1", rates=("0.80kbps", "1.60kbps")), make_run("2", rates=("6.00kbps",))]
    page = Page(write_comparison(folders, tmp_path / "both.html"))
    labels = [player["aria-label"] for player in page.all("audio")]
    assert labels == [f"00_voice, {t}" for t in ("original", "1, 1.60 kb/s", "2, 6.00 kb/s")]
