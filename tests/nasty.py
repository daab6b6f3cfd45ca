"""A folder of broken and unusual audio files, with the expected result for each."""

from __future__ import annotations

import io
import os
import socket
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 24_000
LENGTH = RATE  # samples of a whole file

# Results of a scan: usable, or the kind of the reason.
USABLE, UNREADABLE, TRUNCATED, EMPTY = "usable", "unreadable", "truncated", "empty file"
NOT_FINITE, SILENT, SHORT, RATE_ODD = "NaN or Inf", "silent", "too short", "odd sample rate"
OUT_OF_RANGE = "out of range"
IRREGULAR, LINK, UNSUPPORTED = "not a regular file", "second name of a file", "unsupported format"

Expected = dict[str, str]  # file name (as `os.fsdecode` gives it) -> kind


def sound(seed: int, length: int = LENGTH, channels: int = 1) -> np.ndarray:
    """Tones that come and go, and noise; another `seed` sounds different. `[T, C]`."""
    random = np.random.default_rng(seed)
    wav = 0.02 * random.standard_normal((length, channels))
    for start in range(0, length, RATE // 10):
        time = np.arange(min(length - start, RATE // 2)) / RATE
        tone = np.sin(2 * np.pi * random.uniform(200, 4000) * time)
        wav[start : start + len(time)] += (0.2 * tone * np.exp(-time * 9))[:, None]
    return (wav / max(1.0, 1.2 * np.abs(wav).max())).astype(np.float32)


def peak_memory() -> int:
    """MiB of this process so far. Not `ru_maxrss`, which a child inherits from its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def encoded(data: np.ndarray, suffix: str = "wav", rate: int = RATE, **options: object) -> bytes:
    """A whole file."""
    formats = {"oga": "OGG", "opus": "OGG", "aif": "AIFF", "snd": "AU"}
    if suffix == "opus":
        options, rate = {"subtype": "OPUS"}, 48_000
    file = io.BytesIO()
    soundfile.write(file, data, rate, format=formats.get(suffix, suffix.upper()), **options)
    return file.getvalue()


def patched(content: bytes, *changes: tuple[int, str, int]) -> bytes:
    """Other values in some places, as `(place, format, value)`."""
    data = bytearray(content)
    for place, form, value in changes:
        struct.pack_into(form, data, place, value)
    return bytes(data)


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.expected: Expected = {}

    def put(self, name: str, kind: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)
        self.expected[name] = kind


def make(root: Path) -> Expected:
    """Fill `root`; return the expected result for each file that a scan reports."""
    root.mkdir(parents=True)
    folder = Folder(root)
    for part in (_cut, _not_audio, _samples, _formats, _headers, _not_files, _names, _containers):
        part(folder)
    return folder.expected


def _cut(to: Folder) -> None:
    """Files that end too early."""
    wav = encoded(sound(1))
    to.put("whole.wav", USABLE, wav)
    for size in (6, 20, 40, 44, 20_001, len(wav) - 2000):  # the header has 44 bytes
        to.put(f"cut_{size}.wav", TRUNCATED if size >= 44 else UNREADABLE, wav[:size])
    # Tolerated: many programs get the size wrong by that much.
    to.put("cut_sample.wav", USABLE, encoded(sound(5))[:-1])
    # libsndfile takes none of a cut caf; the end of a cut flac looks like damage; what au, w64 and
    # rf64 declare is not compared.
    kinds = {"aiff": TRUNCATED, "au": USABLE, "w64": USABLE, "rf64": USABLE, "caf": UNREADABLE,
             "flac": UNREADABLE, "ogg": TRUNCATED, "opus": TRUNCATED, "mp3": TRUNCATED}  # fmt: skip
    for suffix, kind in kinds.items():
        whole = encoded(sound(3, length=10 * RATE), suffix)
        to.put(f"cut_middle.{suffix}", kind, whole[: len(whole) // 2 + 7])
        if suffix in ("flac", "ogg", "mp3"):
            to.put(f"cut_header.{suffix}", UNREADABLE, whole[:3])
    flac = encoded(sound(3), "flac")
    to.put("cut_stream_info.flac", UNREADABLE, flac[:30])
    to.put("cut_end.flac", UNREADABLE, flac[:-100])


def _not_audio(to: Folder) -> None:
    """Files whose content does not match the extension."""
    to.put("zero.wav", EMPTY, b"")
    to.put("zero.mp3", EMPTY, b"")
    noise = np.random.default_rng(0).bytes(50_000)
    for name, content in {
        "text.wav": b"I am a letter\n" * 300,
        "html.mp3": b"<!doctype html><title>404</title>" * 50,
        "random.wav": noise,
        "random.flac": noise[1:],
        "random.ogg": noise[2:],
        "zeros.wav": bytes(50_000),
        "riff_then_noise.wav": b"RIFF\xff\xff\xff\xffWAVE" + noise,
        "._whole.wav": b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(4000),  # what macOS leaves
    }.items():
        to.put(name, UNREADABLE, content)
    # A right file under a wrong name is read by what is in it.
    names = {"flac.wav": "flac", "mp3.flac": "mp3", "wav.mp3": "wav", "ogg.wav": "ogg"}
    for number, (name, true) in enumerate(names.items()):
        to.put(name, USABLE, encoded(sound(10 + number), true))
    to.put("film.m4a", UNSUPPORTED, b"\0\0\0\x20ftypM4A ")
    (to.root / "notes.txt").write_text("no audio")  # not reported


def _samples(to: Folder) -> None:
    """Good headers, odd samples."""

    def put(name: str, kind: str, data: np.ndarray, subtype: str = "FLOAT") -> None:
        to.put(name, kind, encoded(data, subtype=subtype))

    for name, value in (("nan", np.nan), ("inf", np.inf), ("minus_inf", -np.inf)):
        for place in (0, 12_345, LENGTH - 1):
            data = sound(20)
            data[place] = value
            put(f"{name}_at_{place}.wav", NOT_FINITE, data)
    both = sound(20, channels=2)
    both[7, 1], both[9, 1] = np.inf, -np.inf
    put("nan_second_channel.wav", NOT_FINITE, both)
    put("all_nan.wav", NOT_FINITE, np.full(LENGTH, np.nan))
    put("huge_values.wav", OUT_OF_RANGE, 1e30 * sound(21))
    put("integers_as_floats.wav", OUT_OF_RANGE, 32767 * sound(21))
    put("above_full_scale.wav", USABLE, 4 * sound(21))
    put("dc_only.wav", SILENT, np.full(LENGTH, 0.3))
    put("silence.wav", SILENT, np.zeros((LENGTH, 2)), "PCM_16")
    put("denormal.wav", SILENT, 1e-40 * sound(22))
    put("dc_offset.wav", USABLE, 0.3 + 0.3 * sound(23))
    put("clipped.wav", USABLE, (20 * sound(24)).clip(-1, 1), "PCM_16")
    put("one_sample.wav", SHORT, np.full(1, 0.5), "PCM_16")
    put("two_samples.wav", SHORT, np.array([0.5, -0.5]), "PCM_16")
    tail = sound(25)
    tail[LENGTH // 3 :] = 0
    put("zero_padded.wav", USABLE, tail, "PCM_16")


def _formats(to: Folder) -> None:
    """All that libsndfile writes is read, at any rate."""
    subtypes = "PCM_U8 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 G721_32"
    for number, name in enumerate(subtypes.split()):
        # The last two are decoded from the beginning or not at all.
        kind = UNREADABLE if name[0] == "G" else USABLE
        to.put(f"subtype_{name}.wav", kind, encoded(sound(30 + number), subtype=name))
    for number, rate in enumerate((4000, 8000, 11_025, 44_100, 96_000, 192_000)):
        to.put(f"rate_{rate}.wav", USABLE, encoded(sound(50 + number), rate=rate))
    to.put("channels_8.wav", USABLE, encoded(sound(60, channels=8)))
    to.put("channels_3.flac", USABLE, encoded(sound(61, channels=3), "flac"))
    for number, suffix in enumerate("flac ogg oga opus mp3 aiff aif au snd caf w64 rf64".split()):
        to.put(f"good.{suffix}", USABLE, encoded(sound(70 + number), suffix))


def _headers(to: Folder) -> None:
    """Headers that contradict the content."""
    wav, caf, flac = (encoded(sound(90), suffix) for suffix in ("wav", "caf", "flac"))
    # Programs that write to a pipe cannot know the length: this is what they put there.
    for number, size in enumerate((0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF)):
        changes = (4, "<I", size), (40, "<I", size)
        to.put(f"streamed_{size:x}.wav", USABLE, patched(encoded(sound(91 + number)), *changes))
    streamed = patched(encoded(sound(95), "au"), (8, ">I", 0xFFFFFFFF))
    to.put("streamed.au", USABLE, streamed)
    length = caf.index(b"data") + 4
    to.put("streamed.caf", UNREADABLE, patched(caf, (length, ">q", -1)))
    to.put("huge.caf", UNREADABLE, patched(caf, (length, ">q", 2**62)))
    for name, kind, *changes in (
        ("never_closed", EMPTY, (4, "<I", 0), (40, "<I", 0)),
        ("declares_a_gigabyte", TRUNCATED, (4, "<I", 1 << 30), (40, "<I", 1 << 30)),
        ("rate_0", UNREADABLE, (24, "<I", 0)),
        ("rate_1", RATE_ODD, (24, "<I", 1)),
        ("rate_2_31", UNREADABLE, (24, "<I", 2**31)),
        ("rate_2_31_less_1", RATE_ODD, (24, "<I", 2**31 - 1)),
        ("channels_0", UNREADABLE, (22, "<H", 0)),
        ("channels_65535", UNREADABLE, (22, "<H", 65535)),
        # 24,000 samples are 23 frames of 1024 channels.
        ("channels_1024", SHORT, (22, "<H", 1024), (32, "<H", 2048)),
        ("bits_0", UNREADABLE, (34, "<H", 0)),
        ("codec_unknown", UNREADABLE, (20, "<H", 0x1234)),
        ("fmt_huge", UNREADABLE, (16, "<I", 0x7FFFFFFF)),
    ):
        to.put(f"{name}.wav", kind, patched(wav, *changes))
    # STREAMINFO's 36-bit count of samples: its low 32 bits, and 4 bits of the byte before.
    most = (21, "B", flac[21] | 15), (22, ">I", 0xFFFFFFFF)
    none = (21, "B", flac[21] & 240), (22, ">I", 0)
    to.put("huge.flac", UNREADABLE, patched(flac, *most))
    to.put("unknown_length.flac", UNREADABLE, patched(flac, *none))
    to.put("no_frames.flac", UNREADABLE, patched(flac[: flac.index(b"\xff\xf8")], *none))
    flipped = patched(flac, (len(flac) // 2, ">Q", 0x0123456789ABCDEF))
    to.put("bit_flips.flac", UNREADABLE, flipped)


def _not_files(to: Folder) -> None:
    """Pipes, sockets, devices, links and folders with names of audio files."""
    root = to.root
    os.mkfifo(root / "fifo.wav")
    # A socket's own path may be 107 bytes at most.
    here = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/socket.wav")
    os.close(here)
    (root / "zero_device.wav").symlink_to("/dev/zero")
    to.expected |= dict.fromkeys(("fifo.wav", "socket.wav", "zero_device.wav"), IRREGULAR)
    (root / "loop.wav").symlink_to("loop.wav")
    (root / "dangling.wav").symlink_to("/nowhere/at/all.wav")
    to.expected |= dict.fromkeys(("loop.wav", "dangling.wav"), UNREADABLE)
    (root / "folder.wav").mkdir()
    to.put("folder.wav/inside.wav", USABLE, encoded(sound(100)))
    (root / "again").symlink_to(root)
    (root / "folder.wav" / "up").symlink_to("..")
    (root / "link.wav").symlink_to("whole.wav")
    os.link(root / "whole.wav", root / "whole_hard_link.wav")
    to.expected |= dict.fromkeys(("link.wav", "whole_hard_link.wav"), LINK)


def _names(to: Folder) -> None:
    names: list[str] = [
        "new\nline.wav", "tab\t.wav", os.fsdecode(b"latin_\xe9\xff.wav"), "-rf.wav", "--json.wav",
        "\N{PILE OF POO}名.wav", " spaces .wav", "a" * 251 + ".wav", ".hidden.wav", "UPPER.WAV",
        "quo'te\".wav", "${dset.path}.wav", "%s%n.wav", "back\\slash.wav", "\x1b[31mred.wav",
    ]  # fmt: skip
    for number, name in enumerate(names):
        to.put(name, USABLE, encoded(sound(110 + number)))
    # The extension is not at the end, so that is none.
    (to.root / "trailing.wav ").write_bytes(encoded(sound(130)))


def _containers(to: Folder) -> None:
    """Files with more in them than one stream, or than their beginning tells."""
    mp3, other = encoded(sound(139), "mp3"), encoded(sound(140), "mp3")
    tag = b"ID3\3\0\0" + bytes((0, 1, 0x48, 0x34)) + b"\xff\xfb garbage " * 2048
    to.put("junk_at_the_end.mp3", USABLE, mp3 + b"TAG" + bytes(125) + b"junk" * 100)
    to.put("id3_garbage.mp3", USABLE, tag + other)
    to.put("two.mp3", UNREADABLE, mp3 + other)  # the header of the first tells half of it
    quiet = np.concatenate([1e-4 * sound(137), sound(137), sound(136)])
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
    constant = encoded(sound(138), "mp3", **options)
    variable = encoded(quiet, "mp3", bitrate_mode="VARIABLE", compression_level=0.2)
    to.put("variable.mp3", USABLE, variable)
    # Without the first frame, the header that tells the length: libsndfile guesses.
    for name, kind, data in (
        ("constant", USABLE, constant), ("variable", UNREADABLE, variable)
    ):  # fmt: skip
        to.put(f"{name}_no_header.mp3", kind, data[data.index(b"\xff\xf3", 1) :])
    fmt = struct.pack("<IHHIIHHHHIHHH", 30, 0x55, 1, RATE, 4000, 1, 0, 12, 1, 2, 144, 1, 1393)
    fmt += b"fact" + struct.pack("<II", 4, len(quiet) + 3000)  # with what decoders leave out
    body = b"WAVEfmt " + fmt + b"data" + struct.pack("<I", len(variable)) + variable
    to.put("mp3_inside.wav", USABLE, b"RIFF" + struct.pack("<I", len(body)) + body)
    one, two = encoded(sound(141), "ogg"), encoded(sound(142), "ogg")
    to.put("chained.ogg", UNREADABLE, one + two)
    to.put("twice.ogg", UNREADABLE, one + one)
    for number, (name, chunk) in enumerate({
        "metadata": b"LIST" + struct.pack("<I", 5_000_000) + bytes(5_000_000),
        "odd_chunk": b"junk" + struct.pack("<I", 3) + b"abc\0",
    }.items()):  # fmt: skip
        wav = encoded(sound(143 + number))
        to.put(f"{name}.wav", USABLE, wav[:36] + chunk + wav[36:])
    to.put("junk_at_the_end.wav", USABLE, encoded(sound(145)) + b"junk" * 1000)
