from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from tools.reproduce.report.pictures import embed


def written(path: Path, size: tuple[int, int], mode: str = "RGB") -> Path:
    noise = np.random.default_rng(0).integers(0, 255, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def size_of(uri: str) -> tuple[int, int]:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))).size


def test_pictures_are_scaled_down_and_never_up(tmp_path):
    small, large = written(tmp_path / "s.png", (90, 60)), written(tmp_path / "l.png", (1440, 480), "P")
    found = embed([small, large, small])
    assert (size_of(found[small]), size_of(found[large])) == ((90, 60), (720, 240))


def test_all_together_stay_within_the_limit(tmp_path):
    paths = [written(tmp_path / f"{at}.png", (720, 720)) for at in range(3)]
    found = embed(paths, most=300_000)
    assert sum(len(uri) for uri in found.values()) <= 300_000
    assert len({size_of(uri) for uri in found.values()}) == 1 and size_of(found[paths[0]])[0] < 720


def test_what_is_no_picture(tmp_path):
    broken, cut = tmp_path / "a.png", tmp_path / "b.png"
    broken.write_text("text", encoding="utf-8")
    cut.write_bytes(written(tmp_path / "whole.png", (90, 60)).read_bytes()[:900])
    lost = tmp_path / "c.png"
    assert embed([broken, cut, lost]) == {broken: None, cut: None, lost: None}
