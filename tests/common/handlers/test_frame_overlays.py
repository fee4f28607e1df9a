from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.handlers.frame_overlays import FrameOverlay, overlays_in, spread_frames, write_overlays


def overlay(folder: Path, case: str, **changes) -> FrameOverlay:
    path = folder / "frame.png"
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(path)
    return FrameOverlay(**{"case": case, "frame": str(path), "reference": None, "mask": None, "words": "w"} | changes)


def test_best_median_worst_and_evenly_between():
    scores = np.array([0.1 * at for at in range(17)])[::-1]
    ids = [f"{at:02d}" for at in range(17)]
    assert spread_frames(scores, ids) == list(range(0, 17, 2))
    even = spread_frames(scores[:16], ids[:16])
    assert len(even) == 9 and even[0] == 0 and even[4] == (16 - 1) // 2 and even[-1] == 15


def test_few_frames_are_all_there():
    assert spread_frames(np.array([0.2, 0.9, 0.5]), list("abc")) == [1, 2, 0]
    assert spread_frames(np.array([]), []) == []


def test_among_equals_the_id_decides():
    assert spread_frames(np.zeros(4), list("dbac")) == [2, 1, 3, 0]


@pytest.mark.parametrize(("marked", "text"), [(0, "0"), (1, "0.5"), (17, "8.5"), (40, "20"), (200, "100")])
def test_the_share_that_is_marked_is_told(tmp_path, marked, text):
    mask = np.arange(200).reshape(10, 20) < marked
    assert overlay(tmp_path, "a", mask=mask).caption == f"w · marks {text} %"
    assert overlay(tmp_path, "a").caption == "w"


def test_ids_with_folders_and_dots(tmp_path):
    write_overlays(tmp_path, [overlay(tmp_path, "p/1.5"), overlay(tmp_path, "q")])
    assert overlays_in(tmp_path) == {"p/1.5": tmp_path / "overlays/p/1.5.jpg", "q": tmp_path / "overlays/q.jpg"}


def test_no_picture_of_an_earlier_evaluation_stays(tmp_path):
    write_overlays(tmp_path, [overlay(tmp_path, "a"), overlay(tmp_path, "b")])
    (tmp_path / "overlays" / "notes.txt").write_text("mine", encoding="utf-8")
    write_overlays(tmp_path, [overlay(tmp_path, "b")])
    assert list(overlays_in(tmp_path)) == ["b"]
    write_overlays(tmp_path, [])
    assert overlays_in(tmp_path) == {} and (tmp_path / "overlays" / "notes.txt").is_file()


def test_a_folder_without_pictures(tmp_path):
    write_overlays(tmp_path, [])
    assert overlays_in(tmp_path) == {} and not (tmp_path / "overlays").exists()


def test_a_frame_that_cannot_be_read(tmp_path):
    write_overlays(tmp_path, [overlay(tmp_path, "a")])
    with pytest.raises(InputError, match=r"lost\.png"):
        write_overlays(tmp_path, [overlay(tmp_path, "b", frame=str(tmp_path / "lost.png"))])
    assert list(overlays_in(tmp_path)) == ["a"]
