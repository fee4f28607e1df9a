"""The video phantoms: repeatable, smooth in time, with stretches without the nerve, and not to be solved by colour."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from common.data.video.phantom import VIDEO_PHANTOM_VERSION, make_video_phantom, write_video_phantoms
from common.errors import InputError

SMALL = (48, 84)
LENGTH = 20


@pytest.fixture(scope="module")
def phantoms():
    return [make_video_phantom(seed, LENGTH, SMALL) for seed in range(26)]


@pytest.fixture(scope="module")
def areas(phantoms):
    """Part of the round field of view that is nerve, for each frame that shows it."""
    parts = []
    for phantom in phantoms:
        view = np.count_nonzero(phantom.frames.max(axis=(0, 3)) > 40)
        parts.extend(np.count_nonzero(mask) / view for mask in phantom.masks[phantom.present])
    return np.array(parts)


def runs(present):
    """Return lengths of the stretches within a sequence that neither begin nor end it."""
    changes = np.flatnonzero(np.diff(present.astype(int)))
    return np.diff(changes)


def overlap(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


# -- one sequence ----------------------------------------------------------------------------------------------------


def test_shapes_and_types():
    phantom = make_video_phantom(0, length=2)
    assert phantom.frames.shape == (2, 256, 448, 3)
    assert phantom.masks.shape == (2, 256, 448)
    assert phantom.frames.dtype == phantom.masks.dtype == np.uint8
    assert phantom.present.shape == (2,) and phantom.present.dtype == bool
    assert phantom.frame_rate == 25.0


def test_same_seed_gives_the_same_bytes(phantoms):
    again = make_video_phantom(3, LENGTH, SMALL)
    assert again.frames.tobytes() == phantoms[3].frames.tobytes()
    assert again.masks.tobytes() == phantoms[3].masks.tobytes()


def test_a_shorter_sequence_is_the_beginning_of_a_longer_one(phantoms):
    short = make_video_phantom(4, 5, SMALL)
    assert np.array_equal(short.frames, phantoms[4].frames[:5])
    assert np.array_equal(short.masks, phantoms[4].masks[:5])


def test_other_seeds_differ_in_content_and_palette(phantoms):
    assert len({p.frames.tobytes() for p in phantoms}) == len(phantoms)
    hue = [p.frames.mean(axis=(0, 1, 2)) / p.frames.mean() for p in phantoms]
    assert np.std(hue, axis=0).min() > 0.04


@pytest.mark.parametrize("size", [(32, 32), (33, 57), (90, 40)])
def test_any_size(size):
    phantom = make_video_phantom(2, 2, size)
    assert phantom.frames.shape == (2, *size, 3)
    assert set(np.unique(phantom.masks)) <= {0, 255}


def test_another_size_shows_the_same_scene():
    small, large = make_video_phantom(6, 3, SMALL), make_video_phantom(6, 3, (96, 168))
    assert np.array_equal(small.present, large.present) and small.present.all()
    for frame in range(3):
        shrunk = large.masks[frame].reshape(48, 2, 84, 2).mean(axis=(1, 3)) >= 127.5
        assert overlap(shrunk, small.masks[frame] > 0) > 0.85
        halved = large.frames[frame].reshape(48, 2, 84, 2, 3).mean(axis=(1, 3))
        pair = [ndimage.gaussian_filter(image.astype(float), (1, 1, 0)) for image in (halved, small.frames[frame])]
        assert np.abs(pair[0] - pair[1]).mean() < 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed -1 is negative"),
        ({"seed": 0, "length": 0}, "length 0 is not a number of frames"),
        ({"seed": 0, "size": (31, 64)}, "size (31, 64) is not a height and a width of 32 or more"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_video_phantom(**arguments)


# -- what the sequences hold -----------------------------------------------------------------------------------------


def test_present_tells_whether_the_mask_holds_anything(phantoms):
    for phantom in phantoms:
        assert set(np.unique(phantom.masks)) <= {0, 255}
        assert np.array_equal(phantom.present, phantom.masks.any(axis=(1, 2)))


def test_a_part_of_the_frames_shows_no_nerve(phantoms):
    negative = 1 - np.mean([p.present.mean() for p in phantoms])
    assert 0.15 <= negative <= 0.35


def test_the_nerve_comes_and_goes_in_runs(phantoms):
    mixed = [p.present for p in phantoms if 0 < p.present.mean() < 1]
    assert len(mixed) >= 4
    assert max(np.count_nonzero(np.diff(present.astype(int))) for present in mixed) <= 2
    assert all(run >= 5 for present in mixed for run in runs(present))


def test_masks_have_sensible_sizes(areas):
    assert areas.max() < 0.32
    assert np.median(areas) > 0.05
    assert np.quantile(areas, 0.05) > 0.02


def test_everything_moves_and_masks_follow_smoothly(phantoms):
    overlaps = []
    for phantom in phantoms:
        change = np.abs(np.diff(phantom.frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
        assert change.min() > 0.3
        masks = phantom.masks > 0
        shown = phantom.present[1:] & phantom.present[:-1]
        overlaps.extend(overlap(masks[i], masks[i + 1]) for i in np.flatnonzero(shown))
        if phantom.present.all():
            assert overlap(masks[0], masks[-1]) < 0.98
    assert np.median(overlaps) > 0.8
    assert np.mean(np.array(overlaps) > 0.5) > 0.9


def test_corners_are_dark(phantoms):
    for phantom in phantoms:
        assert np.median(phantom.frames[:, 0, 0]) < 45
        assert not phantom.masks[:, 0, 0].any()


# -- colour alone ----------------------------------------------------------------------------------------------------


def colours(frames):
    """Return the colour channels a threshold might be set on, each 0 to 255, by name."""
    red, green, blue = np.moveaxis(frames.astype(np.float32), -1, 0)
    value, low = frames.max(axis=-1).astype(np.float32), frames.min(axis=-1).astype(np.float32)
    chroma = np.maximum(value - low, 1e-3)
    sector = np.select(
        [value == red, value == green], [(green - blue) / chroma, (blue - red) / chroma + 2], (red - green) / chroma + 4
    )
    channels = {
        "red": red,
        "green": green,
        "blue": blue,
        "hue": (sector / 6 + 0.5) % 1 * 255,  # half a turn on: red in the middle
        "saturation": 255 * chroma / np.maximum(value, 1),
        "value": value,
        "red against green": (red - green + 255) / 2,
        "yellow against blue": ((red + green) / 2 - blue + 255) / 2,
    }
    return {name: np.clip(channel, 0, 255).astype(np.uint8) for name, channel in channels.items()}


def dice(guess, truth):
    """Return Dice over all pixels, and the mean over the frames that show the nerve."""
    both, either = (guess & truth).sum(axis=(1, 2)), guess.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    shown = truth.any(axis=(1, 2))
    return 2 * both.sum() / either.sum(), (2 * both[shown] / either[shown]).mean()


def best_interval(channel, truth, thresholds_only):
    """Return the interval of values that gives the highest Dice over all pixels."""
    inside = np.concatenate([[0], np.bincount(channel[truth], minlength=256).cumsum()])
    every = np.concatenate([[0], np.bincount(channel.ravel(), minlength=256).cumsum()])
    low, high = np.meshgrid(np.arange(257), np.arange(257), indexing="ij")
    score = 2 * (inside[high] - inside[low]) / np.maximum(every[high] - every[low] + inside[-1], 1)
    allowed = high > low
    if thresholds_only:
        allowed &= (low == 0) | (high == 256)
    first, end = np.unravel_index(np.where(allowed, score, 0).argmax(), score.shape)
    return first, end - 1


@pytest.fixture(scope="module")
def split(phantoms):
    """Return frames and masks to fit on, and held-out ones of other seeds."""
    halves = []
    for part in (phantoms[::2], phantoms[1::2]):
        frames = np.concatenate([p.frames[::5] for p in part])
        halves.append((frames, np.concatenate([p.masks[::5] for p in part]) > 0))
    return halves


@pytest.mark.parametrize("thresholds_only", [True, False], ids=["threshold", "interval"])
def test_no_threshold_on_a_colour_finds_the_nerve(split, thresholds_only):
    (frames, truth), (held_frames, held_truth) = split
    held = colours(held_frames)
    for name, channel in colours(frames).items():
        low, high = best_interval(channel, truth, thresholds_only)
        scores = dice((held[name] >= low) & (held[name] <= high), held_truth)
        assert max(scores) < 0.3, (name, scores)


@pytest.mark.parametrize("shared", [True, False], ids=["linear", "quadratic"])
def test_no_discriminant_of_colours_finds_the_nerve(split, shared):
    (frames, truth), (held_frames, held_truth) = split
    seen = frames.max(axis=-1) > 30  # the dark corners would widen the background's distribution
    groups = [frames[where].astype(float) for where in (truth & seen, ~truth & seen)]
    spreads = [np.cov(group.T) for group in groups]
    if shared:
        spreads = [np.cov(np.concatenate([group - group.mean(axis=0) for group in groups]).T)] * 2

    def evidence(images):
        logs = []
        for group, spread in zip(groups, spreads, strict=True):
            away = images - group.mean(axis=0)
            distance = np.einsum("...i,ij,...j->...", away, np.linalg.inv(spread), away)
            logs.append(-0.5 * distance - 0.5 * np.linalg.slogdet(spread)[1])
        return np.where(images.max(axis=-1) > 30, logs[0] - logs[1], -np.inf)

    fitted, held = evidence(frames), evidence(held_frames)
    levels = np.quantile(fitted[seen], np.linspace(0, 0.99, 100))
    level = max(levels, key=lambda value: dice(fitted > value, truth)[0])
    assert max(dice(held > level, held_truth)) < 0.3


# -- the data set ----------------------------------------------------------------------------------------------------

SETTINGS = {"count": 5, "seed": 7, "length": 2, "size": (32, 56)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "made" / "phantoms"
    assert write_video_phantoms(folder, **SETTINGS) == folder / "index.json"
    return folder


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_index(folder):
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert index["frame_rate"] == 25.0
    assert index["generator"] == {
        "version": VIDEO_PHANTOM_VERSION, "seed": 7, "count": 5, "length": 2, "size": [32, 56]
    }  # fmt: skip
    assert [s["id"] for s in index["sequences"]] == [f"phantom_00{i}" for i in range(5)]
    assert [s["subject"] for s in index["sequences"]] == [f"phantom_00{i}" for i in range(5)]
    assert [s["part"] for s in index["sequences"]] == ["train", "validation", "train", "test", "train"]
    for sequence in index["sequences"]:
        masks = [np.asarray(Image.open(folder / sequence["id"] / "masks" / f"{i:04d}.png")) for i in range(2)]
        assert sequence["present"] == [bool(mask.any()) for mask in masks]


def test_files_hold_the_phantom(folder):
    phantom = make_video_phantom(70_003, 2, (32, 56))
    for i in range(2):
        for kind, images in (("frames", phantom.frames), ("masks", phantom.masks)):
            assert np.array_equal(np.asarray(Image.open(folder / "phantom_003" / kind / f"000{i}.png")), images[i])
    assert len(files(folder)) == 5 * 2 * 2 + 1


def test_same_settings_give_the_same_bytes_and_a_second_call_does_nothing(folder, tmp_path):
    write_video_phantoms(tmp_path / "again", **SETTINGS)
    assert files(tmp_path / "again") == files(folder)

    def fail(_line):
        raise AssertionError("made again")

    assert write_video_phantoms(folder, **SETTINGS, report=fail) == folder / "index.json"


def test_other_settings_are_refused(folder):
    before = files(folder)
    common = f"version {VIDEO_PHANTOM_VERSION}, seed 7, count 5"
    message = (
        f"{folder}: holds phantoms made with {common}, length 2, size [32, 56], not {common}, length 3, size [32, 56]; "
        "choose another folder or delete this one"
    )
    with pytest.raises(InputError) as caught:
        write_video_phantoms(folder, **SETTINGS | {"length": 3})
    assert str(caught.value) == message
    assert files(folder) == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("thesis.txt", "years of work", "holds files but no index.json; choose a new or an empty folder"),
        ("index.json", "{}", "is not an index of phantoms; choose a new or an empty folder"),
        ("index.json", '{"generator": 3}', "is not an index of phantoms; choose a new or an empty folder"),
    ],
)
def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f": {re.escape(message)}$"):
        write_video_phantoms(tmp_path, **SETTINGS)
    assert files(tmp_path) == {name: text.encode()}


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"file: is a file; choose a folder for the phantoms$"):
        write_video_phantoms(tmp_path / "file", **SETTINGS)
    with pytest.raises(InputError, match=r"cannot be written \(File exists\); free space or choose another folder$"):
        write_video_phantoms(tmp_path / "file" / "new", **SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count: 0 is not a number of sequences; use 1 or more"),
        ({"seed": -1}, "seed: -1 is negative; use 0 or more"),
        ({"length": 0}, "length: 0 is not a number of frames; use 1 or more"),
        ({"size": (16, 64)}, "size: [16, 64] is not a height and a width; use two numbers of 32 or more"),
    ],
)
def test_settings_out_of_range(tmp_path, change, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        write_video_phantoms(tmp_path / "new", **SETTINGS | change)
    assert list(tmp_path.iterdir()) == []


def test_interruption_leaves_nothing(tmp_path):
    lines = []

    def stop(line):
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video_phantoms(tmp_path / "new", **SETTINGS, report=stop)
    assert lines == ["phantom_000 (1 of 5)", "phantom_001 (2 of 5)"]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path):
    write_video_phantoms(tmp_path, **SETTINGS | {"count": 1, "length": 1})
    assert sorted(files(tmp_path)) == ["index.json", "phantom_000/frames/0000.png", "phantom_000/masks/0000.png"]
