from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from common.data.video.frames import Frame
from common.data.video.source import open_source, read_frames
from common.data.video.video_stream import decode
from common.errors import InputError
from tests.video_files import (
    FORMATS,
    RATE,
    SIZE,
    cut,
    pictures,
    write_format,
    write_size_change,
    write_sound,
    write_video,
)

# What a lossy codec may change: quantisation on average, halved colour resolution at the block's edges.
MEAN_ERROR = 4

COUNT = 30


def read(path) -> list[Frame]:
    with open_source(path) as video:
        return list(video)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "frames"]


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_read_with_their_times_and_colours(tmp_path, name):
    images = pictures(COUNT)
    path = write_format(tmp_path, name, images)
    with open_source(path) as video:
        assert video.is_video and video.size == SIZE and video.path == path and video.name == path.stem
        assert video.frame_rate == pytest.approx(RATE) and video.frame_count in (None, COUNT)
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [frame.name for frame in frames][:2] == ["000000", "000001"]
    assert [frame.time for frame in frames] == pytest.approx(np.arange(COUNT) / RATE, abs=1e-3)
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
        error = np.abs(frame.image.astype(int) - image)
        assert error.mean() < MEAN_ERROR if name != "ffv1" else not error.any()


@pytest.mark.parametrize("name", ["h264", "vp9", "mjpeg", "hevc_10_bit"])
def test_grey_stays_as_bright_as_it_was(tmp_path, name):
    ramp = np.repeat(np.tile(np.arange(16, 240, dtype=np.uint8), (64, 1))[..., None], 3, axis=-1)
    file, codec, pixels, options = FORMATS[name]
    # Of a stream of fewer frames, x265 leaves the first decoding times unset.
    frames = read(write_video(tmp_path / file, [ramp] * 8, codec, pixels, {**options, "crf": "1"}))
    assert abs((frames[-1].image.astype(int) - ramp).mean()) < 0.4


@pytest.mark.parametrize("name", FORMATS)
def test_frames_by_number_are_those_of_the_sequence(tmp_path, name):
    path = write_format(tmp_path, name, pictures(COUNT))
    frames = read(path)
    wanted = [COUNT - 1, 0, 13, 14, 13, 11, 25]
    for found, index in zip(read_frames(path, wanted), wanted, strict=True):
        assert (found.index, found.time, found.name) == (index, frames[index].time, frames[index].name)
        np.testing.assert_array_equal(found.image, frames[index].image)


def test_frames_by_number_are_not_decoded_from_the_start(tmp_path, monkeypatch):
    path = write_format(tmp_path, "h264", pictures(120))
    with av.open(str(path)) as container:
        assert any(picture.pict_type == av.video.frame.PictureType.B for picture in container.decode(video=0))
    decoded = []

    def counted(*args):
        for pair in decode(*args):
            decoded.append(pair)
            yield pair

    monkeypatch.setattr("common.data.video.video_file.decode", counted)
    assert [frame.index for frame in read_frames(path, [100, 101, 118])] == [100, 101, 118]
    assert 0 < len(decoded) < 30


def test_a_frame_that_is_not_there_is_named(tmp_path):
    path = write_format(tmp_path, "h264", pictures(5))
    with pytest.raises(InputError, match=r"a\.mp4: has no frame 7: it has 5, from 0 on; correct the number$"):
        read_frames(path, [2, 7])
    with pytest.raises(ValueError, match="start at 0"):
        read_frames(path, [-1])


@pytest.mark.parametrize("file", ["v.mp4", "v.mkv"])
def test_variable_frame_rate(tmp_path, file):
    times = np.cumsum([0, 0.04, 0.011, 0.2, 1.5, 0.033, 0.04, 0.123])
    path = write_video(tmp_path / file, pictures(len(times)), times=times)
    assert [frame.time for frame in read(path)] == pytest.approx(times, abs=1e-3)
    assert [frame.time for frame in read_frames(path, [4, 5])] == pytest.approx(times[4:6], abs=1e-3)


@pytest.mark.parametrize(("codec", "b_frames"), [("libx264", 3), ("mpeg4", 2), ("mpeg4", 0)])
def test_gaps_that_a_capture_card_leaves_are_kept(tmp_path, codec, b_frames):
    times = np.array([0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 30, 31, 32]) / RATE
    options, tick = {"bf": str(b_frames)}, Fraction(1, RATE)
    path = write_video(tmp_path / "a.avi", pictures(len(times)), codec, "yuv420p", options, times=times, tick=tick)
    found = [frame.time for frame in read(path)]
    # AVI does not state where in the order of display a gap is: with B-frames it may come a few frames late.
    assert found == sorted(found) and found[-1] == pytest.approx(times[-1])
    if not b_frames:
        assert found == pytest.approx(times)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_videos_are_upright(tmp_path, rotation):
    image = pictures(1)[0]
    path = write_video(tmp_path / "r.mp4", [image] * 2, rotation=rotation)
    expected = np.rot90(image, rotation // 90)  # both count anticlockwise
    with open_source(path) as video:
        assert video.size == expected.shape[:2]
        for frame in [*video, *read_frames(path, [1])]:
            assert np.abs(frame.image.astype(int) - expected).mean() < MEAN_ERROR


def test_a_video_on_the_slant_is_refused(tmp_path):
    path = write_video(tmp_path / "r.mp4", pictures(1), rotation=30)
    with pytest.raises(InputError, match="cannot be shown upright"):
        open_source(path)


@pytest.mark.parametrize("size", [(47, 64), (48, 63), (65, 99)])
@pytest.mark.parametrize(("file", "codec", "pixels"), [("a.mkv", "libx264", "yuv444p"), ("m.avi", "mpeg4", "yuv420p")])
def test_odd_sizes(tmp_path, size, file, codec, pixels):
    images = pictures(3, size)
    path = write_video(tmp_path / file, images, codec, pixels, {"b": "4000000"})
    frames = read(path)
    assert [frame.image.shape for frame in frames] == [(*size, 3)] * 3
    assert np.abs(frames[2].image.astype(int) - images[2]).mean() < MEAN_ERROR


@pytest.mark.parametrize("name", ["h264", "h264_mkv", "h264_avi", "mpeg4", "mjpeg", "ffv1", "vp9", "wmv", "mpeg2"])
def test_cut_off_videos_give_the_frames_before_the_cut(tmp_path, name):
    file, codec, pixels, options = FORMATS[name]
    front = {"movflags": "faststart"} if file.endswith(("mp4", "mov")) else {}
    path = write_video(tmp_path / file, pictures(60), codec, pixels, options, container_options=front)
    whole = read(path)
    cut(path, 0.7)
    frames = []
    with open_source(path) as video, pytest.raises(InputError) as caught:
        for frame in video:
            frames.append(frame)
    assert 3 < len(frames) < 60
    for frame, original in zip(frames, whole, strict=False):
        np.testing.assert_array_equal(frame.image, original.image)
    caught.match(
        rf"{file}: is (damaged|cut off) after {len(frames)} frames.*; pass a whole copy of it, or cut off what follows$"
    )
    assert read_frames(path, [2])[0].index == 2


def test_a_recording_of_a_stream_may_begin_anywhere(tmp_path):
    path = write_format(tmp_path, "h264_ts", pictures(60))
    whole = read(path)
    packets = len(path.read_bytes()) // 188
    path.write_bytes(path.read_bytes()[188 * (packets // 3) :])
    frames = read(path)
    assert 20 < len(frames) < 60 and frames[0].time == 0
    np.testing.assert_array_equal(frames[-1].image, whole[-1].image)


def test_damage_in_the_middle_ends_a_video(tmp_path):
    path = write_format(tmp_path, "mjpeg", pictures(40))
    data = path.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xd8\xff", at)]
    path.write_bytes(data[: starts[20]] + bytes(starts[21] - starts[20]) + data[starts[21] :])
    frames = []
    with open_source(path) as video, pytest.raises(InputError, match=r"j\.mov: is damaged after 20 frames \("):
        for frame in video:
            frames.append(frame)
    assert len(frames) == 20


def bad_files(folder):
    whole = write_format(folder, "h264", pictures(20))
    (folder / "zero.mp4").touch()
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20000))
    (folder / "text.avi").write_text("This is no video.\n" * 100, encoding="utf-8")
    (folder / "list.mkv").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\na.mp4\n#EXT-X-ENDLIST\n", encoding="utf-8"
    )
    (folder / "no_index.mp4").write_bytes(whole.read_bytes())
    cut(folder / "no_index.mp4", 0.6)
    write_sound(folder / "sound.mp4")
    write_sound(folder / "cover.mp4", cover=pictures(1)[0])
    for file, old, new in (("new.mp4", b"avc1", b"zzzz"), ("new.avi", b"FMP4", b"ZZZZ")):
        source = whole if file.endswith("mp4") else write_format(folder, "mpeg4", pictures(5))
        (folder / file).write_bytes(source.read_bytes().replace(old, new))
    (folder / "notes.txt").write_text("notes", encoding="utf-8")
    (folder / "one.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("missing.mp4", "does not exist"),
        ("zero.mp4", r"is empty \(0 bytes\)"),
        ("noise.mp4", "is no video, or damaged at its start"),
        ("text.avi", "is no video, or damaged at its start"),
        ("list.mkv", "is no video, or damaged at its start"),
        ("no_index.mp4", "is cut off: its end, with the index, is missing"),
        ("sound.mp4", "holds no pictures, only sound or data"),
        ("cover.mp4", "holds no pictures, only sound or data"),
        ("new.mp4", r"is in a codec that cannot be decoded here \(zzzz\)"),
        ("new.avi", r"is in a codec that cannot be decoded here \(ZZZZ\)"),
        ("notes.txt", "is no video by its name"),
        ("one.png", "is a single frame"),
    ],
)
@pytest.mark.parametrize("use", [open_source, lambda path: read_frames(path, [0])])
def test_files_that_cannot_be_used_get_a_line(tmp_path, file, problem, use):
    bad_files(tmp_path)
    level = av.logging.get_level()
    with pytest.raises(InputError, match=rf"^{tmp_path}/{file}: {problem}; .*$"):
        use(tmp_path / file)
    assert av.logging.get_level() == level


def test_a_folder_with_a_videos_name_is_a_folder(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(InputError, match="holds no frames"):
        open_source(tmp_path / "a.mp4")


def test_a_name_that_looks_like_an_address_is_a_file(tmp_path):
    path = write_format(tmp_path, "h264", pictures(2)).rename(tmp_path / "http:a%02d.mp4")
    assert len(read(path)) == 2


def test_frames_of_another_size_end_a_video(tmp_path):
    path = write_size_change(tmp_path / "s.mkv", [(48, 64)] * 3 + [(32, 40)] * 2)
    frames = []
    with open_source(path) as video, pytest.raises(InputError) as caught:
        for frame in video:
            frames.append(frame)
    assert len(frames) == 3
    caught.match(r"s\.mkv: changes its size at frame 000003: 40 x 32 after 64 x 48 \(width x height\); cut it where")


def test_closing_early_ends_the_thread(tmp_path):
    path = write_format(tmp_path, "h264", pictures(100))
    before = threads()
    with open_source(path) as video:
        for frame in video:
            if frame.index == 3:
                break
        iterator = iter(video)
        next(iterator)
        assert len(threads()) > len(before)
    for _ in range(1000):  # a thread that has been told to end needs a turn of the processor
        if threads() == before:
            break
        time.sleep(0.01)
    assert threads() == before
    assert list(iterator) == []
    with video:
        assert len(list(video)) == 100  # it can be read again


def test_an_iterator_that_is_forgotten_ends_its_thread(tmp_path):
    path = write_format(tmp_path, "h264", pictures(100))
    iterator = iter(open_source(path))
    next(iterator)
    thread = iterator._thread
    del iterator
    gc.collect()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_memory_does_not_grow_with_the_length(tmp_path):
    frame = pictures(1)[0]
    path = write_video(tmp_path / "long.mp4", [frame] * 2000, options={"preset": "ultrafast"})
    with open_source(path) as video:
        tracemalloc.start()
        count = sum(1 for _ in video)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 2000
    assert peak < 20 * frame.nbytes
