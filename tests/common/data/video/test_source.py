from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.video.frames import natural_key, source_name
from common.data.video.source import list_sources, open_source, read_frames
from common.errors import InputError
from tests.video_files import SIZE, pictures, write_format

ROOT = Path(__file__).parents[4]


def write_folder(folder: Path, names: list[str], images: list[np.ndarray] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images or pictures(len(names)), strict=True):
        Image.fromarray(image).save(folder / name)
    return folder


def test_a_folder_gives_its_frames_in_the_order_of_their_numbers(tmp_path):
    images = pictures(4)
    folder = write_folder(tmp_path / "case", ["frame10.png", "frame2.bmp", "frame1.tif", "Frame03.png"], images)
    (folder / "notes.txt").touch()
    (folder / ".frame4.png").touch()
    (folder / "frame5.png").mkdir()
    with open_source(folder, frame_rate=10) as source:
        assert not source.is_video and (source.path, source.name) == (folder, "case")
        assert (source.size, source.frame_rate, source.frame_count) == (SIZE, 10, 4)
        frames = list(source)
    assert [frame.name for frame in frames] == ["frame1", "frame2", "Frame03", "frame10"]
    assert [(frame.index, frame.time) for frame in frames] == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    for frame, image in zip(frames, (images[2], images[1], images[3], images[0]), strict=True):
        np.testing.assert_array_equal(frame.image, image)
    for frame, index in zip(read_frames(folder, [3, 1, 3], frame_rate=10), (3, 1, 3), strict=True):
        assert (frame.index, frame.time, frame.name) == (index, frames[index].time, frames[index].name)
        np.testing.assert_array_equal(frame.image, frames[index].image)


def test_a_folder_without_a_rate_has_30_frames_per_second(tmp_path):
    with open_source(write_folder(tmp_path, ["1.png", "2.png"])) as source:
        assert source.frame_rate == 30 and list(source)[1].time == 1 / 30


def test_a_frame_of_another_size_is_named(tmp_path):
    images = [*pictures(2), *pictures(1, (20, 30))]
    frames = []
    with (
        open_source(write_folder(tmp_path, ["a1.png", "a2.png", "a3.png"], images)) as source,
        pytest.raises(InputError, match=r"changes its size at frame a3: 30 x 20 after 64 x 48 \(width x height\); "),
    ):
        for frame in source:
            frames.append(frame)
    assert len(frames) == 2


def test_an_unreadable_frame_is_named_after_those_before_it(tmp_path):
    folder = write_folder(tmp_path, ["1.png", "2.png"])
    (folder / "3.png").write_text("no picture", encoding="utf-8")
    frames = []
    with open_source(folder) as source, pytest.raises(InputError, match=r"/3\.png: cannot be read as a picture"):
        for frame in source:
            frames.append(frame)
    assert len(frames) == 2


def test_folders_that_cannot_be_used_get_a_line(tmp_path):
    for use in (open_source, list_sources):
        with pytest.raises(InputError, match=r"holds no (frames|video and no frames)"):
            use(tmp_path)
        with pytest.raises(InputError, match="nowhere: does not exist; pass a video"):
            use(tmp_path / "nowhere")
    folder = write_folder(tmp_path / "twice", ["1.png", "1.bmp"])
    with pytest.raises(InputError, match=r"twice/1\.png: has the same name as 1\.bmp; remove or rename"):
        open_source(folder)
    with pytest.raises(InputError, match="has no frame 3: it has 1, from 0 on"):
        read_frames(write_folder(tmp_path / "one", ["1.png"]), [0, 3])
    for error in (lambda: read_frames(tmp_path / "one", [-1]), lambda: open_source(tmp_path / "one", frame_rate=-1)):
        with pytest.raises(ValueError, match=r"frame numbers start at 0|a frame rate is positive"):
            error()


def test_sources_are_found_at_any_depth(tmp_path):
    video = write_format(tmp_path, "h264", pictures(1))
    for place in ("case10/b.MOV", "case2/b.avi", "case2/a.mkv", ".hidden/a.mp4", "case2/.a.mp4", "case2/text.txt"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(video.read_bytes())
    write_folder(tmp_path / "case2" / "frames", ["1.png"])
    write_folder(tmp_path / "case10", ["1.png"])
    (tmp_path / "empty").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in list_sources(tmp_path)]
    assert found == ["a.mp4", "case2/a.mkv", "case2/b.avi", "case2/frames", "case10", "case10/b.MOV"]
    assert list_sources(video) == [video] and list_sources(tmp_path / "case2" / "frames") == [tmp_path / "case2/frames"]


def test_a_single_picture_where_frames_are_looked_at_one_by_one(tmp_path):
    file = write_folder(tmp_path, ["a1.png", "a2.png"]) / "a2.png"
    for use in (open_source, list_sources):
        with pytest.raises(InputError, match=r"a2\.png: is a single frame; pass the folder that it is in"):
            use(file)
    assert list_sources(file, still=True) == [file]
    with open_source(file, still=True) as source:
        assert [(frame.name, frame.index, frame.time) for frame in source] == [("a2", 0, 0.0)]
        assert (source.name, source.size, source.frame_count, source.is_video) == ("a2", SIZE, 1, False)


def test_a_video_is_one_where_frames_are_looked_at_one_by_one(tmp_path):
    video = write_format(tmp_path, "h264", pictures(2))
    assert list_sources(video, still=True) == [video]
    with open_source(video, still=True) as source:
        assert source.is_video and len(list(source)) == 2
    for name, problem in (("nowhere.png", "does not exist"), ("text.txt", "is no video by its name")):
        (tmp_path / "text.txt").touch()
        with pytest.raises(InputError, match=problem):
            open_source(tmp_path / name, still=True)


def test_names_of_outputs(tmp_path, monkeypatch):
    write_folder(tmp_path / "05" / "frames", ["1.png"])
    assert source_name(tmp_path / "05" / "frames") == "frames"
    assert source_name(tmp_path / "05" / "frames", root=tmp_path) == "05_frames"
    assert source_name(tmp_path / "05" / "a.b.mp4", root=tmp_path) == "05_a.b"
    assert source_name(tmp_path / "05" / "a.mp4", root=tmp_path / "elsewhere") == "a"
    monkeypatch.chdir(tmp_path / "05" / "frames")
    assert source_name(".") == "frames" and source_name("..", root=tmp_path) == "05"


def test_natural_order_is_total():
    names = ["a", "a2", "a10", "A3", "10", "9", "a/b", "a2/1", "a10/1", "b1c2", "b1c10", "b01c3", ""]
    ordered = sorted(map(Path, names), key=natural_key)
    assert ordered == sorted(map(Path, reversed(names)), key=natural_key)
    position = {str(path): place for place, path in enumerate(ordered)}
    for first, second in (("9", "10"), ("a2", "A3"), ("A3", "a10"), ("a2/1", "a10/1"), ("b1c2", "b1c10")):
        assert position[first] < position[second]


def test_real_frames_are_read():
    folder = ROOT.parent / "shared" / "data" / "cvc612" / "05" / "frames"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    with open_source(folder, frame_rate=25) as source:
        frames = list(source)
    assert len(frames) == source.frame_count == len(os.listdir(folder))
    assert {frame.image.shape for frame in frames} == {(288, 384, 3)}
    assert [frame.name for frame in frames] == sorted(frame.name for frame in frames)
