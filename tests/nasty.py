"""A folder of broken and unusual audio files, with the expected result for each."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
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


def make(root: Path) -> Expected:
    """Fill `root`; return the expected result for each file that a scan reports."""
    root.mkdir(parents=True)
    expected: Expected = {}
    for part in (_cut, _not_audio, _samples, _formats, _headers, _not_files, _names, _containers):
        part(root, expected)
    return expected


def write(path: Path, seed: int, rate: int = RATE, subtype: str | None = None, **kw: int) -> bytes:
    """Write a good file, and return its bytes."""
    formats = {".oga": "OGG", ".opus": "OGG", ".aif": "AIFF", ".snd": "AU"}
    file_format = formats.get(path.suffix, path.suffix[1:].upper())
    if path.suffix == ".opus":
        subtype, rate = "OPUS", 48_000
    soundfile.write(os.fsencode(path), sound(seed, **kw), rate, subtype, format=file_format)
    return path.read_bytes()


def _cut(root: Path, expected: Expected) -> None:
    """Files that end too early."""
    wav = write(root / "whole.wav", 1)
    expected["whole.wav"] = USABLE
    for size in (6, 20, 40, 44, 20_001, len(wav) - 2000):  # the header has 44 bytes
        (root / f"cut_{size}.wav").write_bytes(wav[:size])
        expected[f"cut_{size}.wav"] = TRUNCATED if size >= 44 else UNREADABLE
    # Tolerated: many programs get the size wrong by that much.
    (root / "cut_sample.wav").write_bytes(write(root / "cut_sample.wav", 5)[:-1])
    expected["cut_sample.wav"] = USABLE
    for suffix in ("aiff", "au", "w64", "rf64"):
        whole = write(root / f"cut.{suffix}", 2)
        (root / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
        expected[f"cut.{suffix}"] = TRUNCATED if suffix == "aiff" else USABLE
    whole = write(root / "cut.caf", 2)
    (root / "cut.caf").write_bytes(whole[: len(whole) // 2])
    expected["cut.caf"] = UNREADABLE  # libsndfile takes none of it
    for suffix in ("flac", "ogg", "mp3"):
        whole = write(root / f"cut_middle.{suffix}", 3, length=10 * RATE)
        places = {"header": 3, "middle": len(whole) // 2 + 7}
        if suffix == "flac":
            places |= {"stream_info": 30, "end": len(whole) - 100}
        for name, size in places.items():
            (root / f"cut_{name}.{suffix}").write_bytes(whole[:size])
            broken = size < 50 or suffix == "flac"  # the end of a cut flac looks like damage
            expected[f"cut_{name}.{suffix}"] = UNREADABLE if broken else TRUNCATED
    whole = write(root / "cut.opus", 4, length=20 * RATE)
    (root / "cut.opus").write_bytes(whole[: len(whole) // 2])
    expected["cut.opus"] = TRUNCATED


def _not_audio(root: Path, expected: Expected) -> None:
    """Files whose content does not match the extension."""
    (root / "zero.wav").touch()
    (root / "zero.mp3").touch()
    expected |= {"zero.wav": EMPTY, "zero.mp3": EMPTY}
    random = np.random.default_rng(0)
    for name, content in {
        "text.wav": b"I am a letter\n" * 300,
        "html.mp3": b"<!doctype html><title>404</title>" * 50,
        "random.wav": random.bytes(50_000),
        "random.flac": random.bytes(50_000),
        "random.ogg": random.bytes(50_000),
        "zeros.wav": bytes(50_000),
        "riff_then_noise.wav": b"RIFF\xff\xff\xff\xffWAVE" + random.bytes(50_000),
        "._whole.wav": b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(4000),  # what macOS leaves
    }.items():
        (root / name).write_bytes(content)
        expected[name] = UNREADABLE
    # A right file under a wrong name is read by what is in it.
    for number, (name, true) in enumerate(
        {"flac.wav": "flac", "mp3.flac": "mp3", "wav.mp3": "wav", "ogg.wav": "ogg"}.items()
    ):
        write(root / f"true.{true}", 10 + number)
        (root / f"true.{true}").rename(root / name)
        expected[name] = USABLE
    (root / "film.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    expected["film.m4a"] = UNSUPPORTED
    (root / "notes.txt").write_text("no audio")  # not reported


def _samples(root: Path, expected: Expected) -> None:
    """Good headers, odd samples."""

    def put(name: str, data: np.ndarray, kind: str, subtype: str = "FLOAT") -> None:
        soundfile.write(root / name, data, RATE, subtype=subtype)
        expected[name] = kind

    for name, value in (("nan", np.nan), ("inf", np.inf), ("minus_inf", -np.inf)):
        for place in (0, 12_345, LENGTH - 1):
            data = sound(20)
            data[place] = value
            put(f"{name}_at_{place}.wav", data, NOT_FINITE)
    both = sound(20, channels=2)
    both[7, 1], both[9, 1] = np.inf, -np.inf
    put("nan_second_channel.wav", both, NOT_FINITE)
    put("all_nan.wav", np.full(LENGTH, np.nan), NOT_FINITE)
    put("huge_values.wav", 1e30 * sound(21), OUT_OF_RANGE)
    put("integers_as_floats.wav", 32767 * sound(21), OUT_OF_RANGE)
    put("above_full_scale.wav", 4 * sound(21), USABLE)
    put("dc_only.wav", np.full(LENGTH, 0.3), SILENT)
    put("silence.wav", np.zeros((LENGTH, 2)), SILENT, "PCM_16")
    put("denormal.wav", 1e-40 * sound(22), SILENT)
    put("dc_offset.wav", 0.3 + 0.3 * sound(23), USABLE)
    put("clipped.wav", (20 * sound(24)).clip(-1, 1), USABLE, "PCM_16")
    put("one_sample.wav", np.full(1, 0.5), SHORT, "PCM_16")
    put("two_samples.wav", np.array([0.5, -0.5]), SHORT, "PCM_16")
    tail = sound(25)
    tail[LENGTH // 3 :] = 0
    put("zero_padded.wav", tail, USABLE, "PCM_16")


def _formats(root: Path, expected: Expected) -> None:
    """All that libsndfile writes is read, at any rate."""
    for number, name in enumerate(
        "PCM_U8 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 G721_32".split()
    ):
        write(root / f"subtype_{name}.wav", 30 + number, subtype=name)
        # The last two are decoded from the beginning or not at all.
        expected[f"subtype_{name}.wav"] = UNREADABLE if name[0] == "G" else USABLE
    for number, rate in enumerate((4000, 8000, 11_025, 44_100, 96_000, 192_000)):
        write(root / f"rate_{rate}.wav", 50 + number, rate)
        expected[f"rate_{rate}.wav"] = USABLE
    write(root / "channels_8.wav", 60, channels=8)
    write(root / "channels_3.flac", 61, channels=3)
    expected |= {"channels_8.wav": USABLE, "channels_3.flac": USABLE}
    for number, suffix in enumerate("flac ogg oga opus mp3 aiff aif au snd caf w64 rf64".split()):
        write(root / f"good.{suffix}", 70 + number)
        expected[f"good.{suffix}"] = USABLE


def _headers(root: Path, expected: Expected) -> None:
    """Headers that contradict the content."""
    wav = write(root / "x.wav", 90)

    def patch(name: str, kind: str, *changes: tuple[int, str, int], of: bytes = wav) -> None:
        data = bytearray(of)
        for place, form, value in changes:
            struct.pack_into(form, data, place, value)
        (root / name).write_bytes(data)
        expected[name] = kind

    # Programs that write to a pipe cannot know the length: this is what they put there.
    for number, size in enumerate((0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF)):
        data = write(root / "x.wav", 91 + number)
        patch(f"streamed_{size:x}.wav", USABLE, (4, "<I", size), (40, "<I", size), of=data)
    au = write(root / "x.au", 95)
    patch("streamed.au", USABLE, (8, ">I", 0xFFFFFFFF), of=au)
    os.unlink(root / "x.au")
    caf = write(root / "x.caf", 96)
    patch("never_closed.wav", EMPTY, (4, "<I", 0), (40, "<I", 0))
    patch("streamed.caf", UNREADABLE, (caf.index(b"data") + 4, ">q", -1), of=caf)
    patch("huge.caf", UNREADABLE, (caf.index(b"data") + 4, ">q", 2**62), of=caf)
    os.unlink(root / "x.caf")
    os.unlink(root / "x.wav")
    patch("declares_a_gigabyte.wav", TRUNCATED, (4, "<I", 1 << 30), (40, "<I", 1 << 30))
    patch("rate_0.wav", UNREADABLE, (24, "<I", 0))
    patch("rate_1.wav", RATE_ODD, (24, "<I", 1))
    patch("rate_2_31.wav", UNREADABLE, (24, "<I", 2**31))
    patch("rate_2_31_less_1.wav", RATE_ODD, (24, "<I", 2**31 - 1))
    patch("channels_0.wav", UNREADABLE, (22, "<H", 0))
    patch("channels_65535.wav", UNREADABLE, (22, "<H", 65535))
    # 24,000 samples are 23 frames of 1024 channels.
    patch("channels_1024.wav", SHORT, (22, "<H", 1024), (32, "<H", 2048))
    patch("bits_0.wav", UNREADABLE, (34, "<H", 0))
    patch("codec_unknown.wav", UNREADABLE, (20, "<H", 0x1234))
    patch("fmt_huge.wav", UNREADABLE, (16, "<I", 0x7FFFFFFF))
    flac = write(root / "x.flac", 97)
    # STREAMINFO's 36-bit count of samples: its low 32 bits, and 4 bits of the byte before.
    patch("huge.flac", UNREADABLE, (21, "B", flac[21] | 15), (22, ">I", 0xFFFFFFFF), of=flac)
    patch("unknown_length.flac", UNREADABLE, (21, "B", flac[21] & 240), (22, ">I", 0), of=flac)
    end = flac.index(b"\xff\xf8")  # the first frame
    patch("no_frames.flac", UNREADABLE, (21, "B", flac[21] & 240), (22, ">I", 0), of=flac[:end])
    middle = len(flac) // 2
    patch("bit_flips.flac", UNREADABLE, (middle, ">Q", 0x0123456789ABCDEF), of=flac)
    os.unlink(root / "x.flac")


def _not_files(root: Path, expected: Expected) -> None:
    """Pipes, sockets, devices, links and folders with names of audio files."""
    os.mkfifo(root / "fifo.wav")
    # A socket's own path may be 107 bytes at most.
    here = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/socket.wav")
    os.close(here)
    (root / "zero_device.wav").symlink_to("/dev/zero")
    expected |= dict.fromkeys(("fifo.wav", "socket.wav", "zero_device.wav"), IRREGULAR)
    (root / "loop.wav").symlink_to("loop.wav")
    (root / "dangling.wav").symlink_to("/nowhere/at/all.wav")
    expected |= dict.fromkeys(("loop.wav", "dangling.wav"), UNREADABLE)
    (root / "folder.wav").mkdir()
    write(root / "folder.wav" / "inside.wav", 100)
    expected["folder.wav/inside.wav"] = USABLE
    (root / "again").symlink_to(root)
    (root / "folder.wav" / "up").symlink_to("..")
    (root / "link.wav").symlink_to("whole.wav")
    os.link(root / "whole.wav", root / "whole_hard_link.wav")
    expected |= dict.fromkeys(("link.wav", "whole_hard_link.wav"), LINK)


def _names(root: Path, expected: Expected) -> None:
    names: list[str] = [
        "new\nline.wav", "tab\t.wav", os.fsdecode(b"latin_\xe9\xff.wav"), "-rf.wav", "--json.wav",
        "\N{PILE OF POO}名.wav", " spaces .wav", "a" * 251 + ".wav", ".hidden.wav", "UPPER.WAV",
        "quo'te\".wav", "${dset.path}.wav", "%s%n.wav", "back\\slash.wav", "\x1b[31mred.wav",
    ]  # fmt: skip
    for number, name in enumerate(names):
        write(root / "x.wav", 110 + number)
        (root / "x.wav").rename(root / name)
        expected[name] = USABLE
    # The extension is not at the end, so that is none.
    write(root / "x.wav", 130)
    (root / "x.wav").rename(root / "trailing.wav ")


def _containers(root: Path, expected: Expected) -> None:
    """Files with more in them than one stream."""
    put: Callable[[str, bytes], int] = lambda name, data: (root / name).write_bytes(data)  # noqa: E731
    mp3 = write(root / "x.mp3", 139)
    put("junk_at_the_end.mp3", mp3 + b"TAG" + bytes(125) + b"junk" * 100)
    mp3 = write(root / "x.mp3", 140)
    tag = b"ID3\3\0\0" + bytes((0, 1, 0x48, 0x34)) + b"\xff\xfb garbage " * 2048
    put("id3_garbage.mp3", tag + mp3)
    put("two.mp3", mp3 + mp3)  # the header of the first tells half of it
    soundfile.write(
        root / "x.mp3", sound(138), RATE, compression_level=0.5, bitrate_mode="CONSTANT"
    )
    mp3 = (root / "x.mp3").read_bytes()
    # Past the first frame, with the header that tells the length.
    put("no_header.mp3", mp3[mp3.index(b"\xff\xf3", 1) :])
    quiet = np.concatenate([1e-4 * sound(137), sound(137), sound(136)])
    soundfile.write(root / "x.mp3", quiet, RATE, bitrate_mode="VARIABLE", compression_level=0.2)
    mp3 = (root / "x.mp3").read_bytes()
    put("variable.mp3", mp3)
    fmt = struct.pack("<IHHIIHHHHIHHH", 30, 0x55, 1, RATE, 4000, 1, 0, 12, 1, 2, 144, 1, 1393)
    fmt += b"fact" + struct.pack("<II", 4, len(quiet) + 3000)  # with what decoders leave out
    body = b"WAVEfmt " + fmt + b"data" + struct.pack("<I", len(mp3)) + mp3
    put("mp3_inside.wav", b"RIFF" + struct.pack("<I", len(body)) + body)
    put("variable_no_header.mp3", mp3[mp3.index(b"\xff\xf3", 1) :])
    os.unlink(root / "x.mp3")
    one, two = write(root / "x.ogg", 141), write(root / "x.ogg", 142)
    put("chained.ogg", one + two)
    put("twice.ogg", one + one)
    os.unlink(root / "x.ogg")
    wav = write(root / "x.wav", 143)
    chunk = b"LIST" + struct.pack("<I", 5_000_000) + bytes(5_000_000)
    put("metadata.wav", wav[:36] + chunk + wav[36:])
    wav = write(root / "x.wav", 144)
    put("odd_chunk.wav", wav[:36] + b"junk" + struct.pack("<I", 3) + b"abc\0" + wav[36:])
    wav = write(root / "x.wav", 145)
    put("junk_at_the_end.wav", wav + b"junk" * 1000)
    os.unlink(root / "x.wav")
    names = "id3_garbage.mp3 junk_at_the_end.mp3 no_header.mp3 variable.mp3 mp3_inside.wav "
    expected |= dict.fromkeys(
        (names + "metadata.wav odd_chunk.wav junk_at_the_end.wav").split(), USABLE
    )
    half = (
        "two.mp3 variable_no_header.mp3 chained.ogg twice.ogg"  # of which libsndfile reads a part
    )
    expected |= dict.fromkeys(half.split(), UNREADABLE)
