from __future__ import annotations

import logging

import numpy as np
import pytest

from common.data.video import ClipStream
from common.data.video.clip_stream import running_windows, still_batches
from common.data.video.frames import Frame
from common.data.video.windows import scoring_windows
from common.errors import InputError
from tests.common.data.video.dataset_files import picture, write_picture, write_sequences
from tests.video_files import pictures, write_video


def frames(count: int) -> list[Frame]:
    return [Frame(picture(index), index, index / 25, f"{index:03d}") for index in range(count)]


@pytest.mark.parametrize("length", [1, 3, 5])
@pytest.mark.parametrize("count", range(1, 17))
def test_windows_are_those_of_the_protocol(count, length):
    found = [(tuple(f.index for f in clip), tuple(keep)) for clip, keep in running_windows(frames(count), length)]
    assert found == [(window.frames, window.keep) for window in scoring_windows(count, length)]


def test_no_frames_no_window():
    assert not list(running_windows([], 5))


def test_no_more_than_two_clips_are_held():
    taken = []

    def running():
        for frame in frames(50):
            taken.append(frame.index)
            yield frame

    for clip, _ in running_windows(running(), 5):
        assert taken[-1] - clip[0].index < 2 * 5


@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize("widths", [[], [9], [9] * 7, [9, 8, 9, 9, 9, 9, 9, 9, 8, 8], [9] * 3 + [8] * 3], ids=str)
def test_batches_end_where_the_size_changes(widths, length):
    given = [Frame(picture(index, (6, width)), index, index, str(index)) for index, width in enumerate(widths)]
    batches = list(still_batches(given, length))
    assert [frame.index for batch, _ in batches for frame in batch] == list(range(len(widths)))
    for batch, keep in batches:
        assert len({frame.image.shape for frame in batch}) == 1 and keep == [True] * len(batch)
        last = batch[-1].index + 1  # a batch is as long as it may be
        assert len(batch) == length or last == len(widths) or widths[last] != widths[last - 1]
        assert len(batch) <= length


def test_a_full_batch_does_not_wait_for_the_next_frame():
    running = iter(frames(3))
    assert len(next(still_batches(running, 2))[0]) == 2
    assert next(running).index == 2


@pytest.fixture
def folder(tmp_path):
    """A video, a folder of frames, and a video that breaks off."""
    write_video(tmp_path / "a.mp4", pictures(7))
    for index in (2, 10, 9):
        write_picture(tmp_path / "b" / f"frame{index}.png", picture(index))
    whole = write_video(tmp_path / "c.mkv", pictures(40), options={"g": "5"}).read_bytes()
    (tmp_path / "c.mkv").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_items(folder):
    stream = ClipStream(folder, 5, frame_rate=10)
    items = list(stream)
    assert [path.name for path in stream.sources] == ["a.mp4", "b", "c.mkv"]
    video, stills = ([item for item in items if item["id"] == name] for name in "ab")
    assert [item["frames"].tolist() for item in video] == [[0, 1, 2, 3, 4], [2, 3, 4, 5, 6]]
    assert [item["keep"].tolist() for item in video] == [[True, True, False, False, False], [True] * 5]
    assert stream.opened[0].size == (48, 64) and stream.opened[0].is_video and not stream.opened[1].is_video
    assert stills[0]["names"] == ["frame2", "frame2", "frame2", "frame9", "frame10"]
    np.testing.assert_allclose(stills[0]["times"], [0, 0, 0, 0.1, 0.2])
    assert stills[0]["keep"].tolist() == [False, False, True, True, True]
    assert stills[0]["image"][3].shape == (16, 24, 3) and stills[0]["image"][3].max() == 9
    assert stills[0]["picture"].shape == (5, 16, 24, 3)


def test_what_breaks_off_is_segmented_that_far_and_counted(folder, caplog):
    stream = ClipStream(folder, 5)
    with caplog.at_level(logging.ERROR):
        broken = [item for item in stream if item["id"] == "c"]
    assert broken and "c.mkv" in caplog.text
    with pytest.raises(
        InputError, match=r"1 of 3 videos could not be read to the end \(first: .*c\.mkv: .*the rest is done"
    ):
        stream.finish()


def test_one_video_that_breaks_off_is_the_error_itself(folder):
    stream = ClipStream(folder / "c.mkv", 5)
    assert list(stream)
    with pytest.raises(InputError, match=r"c\.mkv: .*frames") as error:
        stream.finish()
    assert error.value is stream.failures[0]


def test_nothing_to_report(folder):
    stream = ClipStream(folder / "a.mp4", 5)
    assert len(list(stream)) == 2
    stream.finish()


@pytest.mark.parametrize("source", [None, "", "None"])
def test_nothing_given(source):
    with pytest.raises(InputError, match="input: no video is given; pass --input"):
        ClipStream(source, 5)


def test_two_of_one_name(tmp_path):
    for suffix in ("mp4", "mkv"):
        write_video(tmp_path / f"a.{suffix}", pictures(2))
    with pytest.raises(InputError, match=r"a\.mp4: would be written under the same name as .*a\.mkv; rename"):
        ClipStream(tmp_path, 5)


def test_a_data_set_is_its_frames(tmp_path):
    write_sequences(tmp_path, {"seq1": 2, "seq2": 3})
    (tmp_path / "masks").mkdir()
    write_picture(tmp_path / "masks" / "lonely.png", picture(0))
    stream = ClipStream(tmp_path, 5)
    assert stream.names == ["masks", "seq1", "seq2"]
    assert ClipStream(tmp_path / "seq1", 5).names == ["seq1"]
    assert ClipStream(tmp_path / "seq1" / "frames", 5).names == ["frames"]
    for name in ("images", "masks"):
        write_picture(tmp_path / "stills" / name / "0.png", picture(0))
    assert ClipStream(tmp_path / "stills", 5).names == ["images"]


@pytest.fixture
def stills(tmp_path):
    """A folder of pictures of two sizes, two of which cannot be read, and a video that breaks off beside it."""
    for index in range(7):
        write_picture(tmp_path / "in" / "p" / f"{index}.png", picture(index, (16, 24) if index < 4 else (20, 30)))
    (tmp_path / "in" / "p" / "0.png").write_text("no picture", encoding="utf-8")
    (tmp_path / "in" / "p" / "5.png").write_bytes((tmp_path / "in" / "p" / "5.png").read_bytes()[:60])
    return tmp_path / "in"


def test_pictures_that_are_looked_at_one_by_one(stills, caplog):
    stream = ClipStream(stills / "p", 2, still=True)
    for _ in range(2):  # the second run begins anew
        items = list(stream)
        assert [item["names"] for item in items] == [["1", "2"], ["3"], ["4", "6"]]
        assert [item["frames"].tolist() for item in items] == [[1, 2], [3], [4, 6]]
        assert all(item["keep"].all() and item["id"] == "p" for item in items)
        assert [tuple(item["picture"].shape[1:3]) for item in items] == [(16, 24), (16, 24), (20, 30)]
        assert stream.opened[0].size is None
        assert [error.where.rsplit("/", 1)[1] for error in stream.failures] == ["0.png", "5.png"]
    assert "0.png: cannot be read as a picture" in caplog.text
    with pytest.raises(InputError, match=r"p: 2 of 7 pictures could not be read \(first: .*0\.png: .*the rest is done"):
        stream.finish()


def test_pictures_and_videos_that_cannot_be_read(stills):
    whole = write_video(stills / "c.mkv", pictures(40), options={"g": "5"}).read_bytes()
    (stills / "c.mkv").write_bytes(whole[: len(whole) // 2])
    stream = ClipStream(stills, 4, still=True)
    video = [item for item in stream if item["id"] == "c"]
    assert len(video) > 1 and all(item["keep"].all() for item in video)
    assert [index for item in video for index in item["frames"].tolist()] == list(
        range(sum(len(v["keep"]) for v in video))
    )
    with pytest.raises(
        InputError, match=r"1 of 2 videos could not be read to the end, 2 of 7 pictures could not be read"
    ):
        stream.finish()


@pytest.mark.parametrize("length", [1, 3, 7, 8])
def test_no_frame_comes_twice_where_they_are_looked_at_one_by_one(tmp_path, length):
    items = list(ClipStream(write_video(tmp_path / "a.mp4", pictures(7)), length, still=True))
    assert [index for item in items for index in item["frames"].tolist()] == list(range(7))
    assert [len(item["image"]) for item in items] == [length] * (7 // length) + [7 % length] * bool(7 % length)


def test_a_single_picture(tmp_path, caplog):
    file = write_picture(tmp_path / "a.b.png", picture(9))
    with pytest.raises(InputError, match=r"a\.b\.png: is a single frame; pass the folder that it is in"):
        ClipStream(file, 5)
    stream = ClipStream(file, 5, still=True)
    (item,) = stream
    assert (stream.names, item["id"], item["names"], item["keep"].tolist()) == (["a.b"], "a.b", ["a.b"], [True])
    assert item["picture"].shape == (1, 16, 24, 3)
    stream.finish()
    file.write_text("no picture", encoding="utf-8")
    assert not list(stream)
    with pytest.raises(InputError, match=r"a\.b\.png: cannot be read as a picture"):
        stream.finish()
    assert not caplog.text  # it is said once
