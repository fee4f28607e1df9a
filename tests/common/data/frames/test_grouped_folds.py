from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from common.data.frames.grouped_folds import assign_groups, check_leak, split_frames
from common.data.frames.labelled_frame import LabelledFrame
from common.errors import InputError

PARTS = ("train", "validation", "test")


def random_frames(seed: int, patients: int = 28, most: int = 300) -> list[LabelledFrame]:
    """Patients with different numbers of frames and shares of positives, shuffled."""
    rng = np.random.default_rng(seed)
    frames = []
    for patient in range(patients):
        positive = rng.random(rng.integers(1, most)) < rng.beta(2, 2)
        frames += [
            LabelledFrame(f"{patient}_{i}", f"{patient}_{i}.png", None, bool(value), f"patient {patient}")
            for i, value in enumerate(positive)
        ]
    rng.shuffle(frames)
    return frames


def share(frames) -> float:
    return sum(frame.present for frame in frames) / len(frames)


def message(call, *arguments, **settings) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestAssignGroups:
    @pytest.mark.parametrize("seed", range(5))
    def test_mix_is_kept(self, seed):
        """With patients as the paper has them the folds are nearly alike, where chance makes them differ."""
        frames = random_frames(seed)
        parts = assign_groups([f.patient for f in frames], [f.present for f in frames], [1 / 3] * 3, seed)
        folds = [[f for f in frames if parts[f.patient] == fold] for fold in range(3)]
        assert all(abs(share(fold) - share(frames)) < 0.03 for fold in folds)
        assert all(abs(len(fold) / len(frames) - 1 / 3) < 0.03 for fold in folds)
        rng = np.random.default_rng(seed)
        by_chance = {patient: int(rng.integers(3)) for patient in parts}
        dealt = [share([f for f in frames if by_chance[f.patient] == fold]) for fold in range(3)]
        assert np.ptp([share(fold) for fold in folds]) < np.ptp(dealt)

    def test_single_frames_are_exact(self):
        groups, present = [str(i) for i in range(90)], [i < 30 for i in range(90)]
        parts = assign_groups(groups, present, [0.5, 0.3, 0.2])
        assert Counter((parts[g], p) for g, p in zip(groups, present, strict=True)) == {
            (0, True): 15, (1, True): 9, (2, True): 6, (0, False): 30, (1, False): 18, (2, False): 12
        }  # fmt: skip

    def test_order_does_not_matter_and_seed_does(self):
        frames = random_frames(1)
        shuffled = [frames[i] for i in np.random.default_rng(0).permutation(len(frames))]
        one, other = (
            assign_groups([f.patient for f in some], [f.present for f in some], [0.5, 0.5], 3)
            for some in (frames, shuffled)
        )
        assert one == other
        equal = [str(i) for i in range(20)]
        assert len({tuple(assign_groups(equal, [True] * 20, [0.5, 0.5], seed).items()) for seed in range(4)}) > 1

    def test_every_part_gets_a_group(self):
        groups = ["large"] * 90 + ["a", "b"]
        assert set(assign_groups(groups, [True] * 92, [0.98, 0.01, 0.01]).values()) == {0, 1, 2}
        with pytest.raises(ValueError, match="3 groups cannot be divided into 4 parts"):
            assign_groups(groups, [True] * 92, [0.25] * 4)
        with pytest.raises(ValueError, match="positive"):
            assign_groups(groups, [True] * 92, [1, 0])


class TestSplitFrames:
    @pytest.mark.parametrize("seed", range(5))
    def test_cross_validation_beside_a_fixed_test_part(self, seed):
        frames = random_frames(seed, most=40)
        validated, tested = Counter(), set()
        for fold in range(3):
            parts = split_frames(frames, fold, seed=seed)
            assert sorted(f.id for part in parts.values() for f in part) == sorted(f.id for f in frames)
            patients = [{f.patient for f in part} for part in parts.values()]
            assert sum(map(len, patients)) == len(set.union(*patients)) == 28
            assert all(patients)
            validated.update(patients[1])
            tested.add(frozenset(patients[2]))
        (test,) = tested
        assert len(validated) + len(test) == 28 and set(validated.values()) == {1}
        assert sum(f.patient in test for f in frames) / len(frames) == pytest.approx(6 / 28, abs=0.03)

    def test_without_validation(self):
        frames = random_frames(0)
        one, other = split_frames(frames, None), split_frames(frames, 1)
        assert not one["validation"] and one["test"] == other["test"]
        assert {f.id for f in one["train"]} == {f.id for f in other["train"] + other["validation"]}
        assert not split_frames(frames, 0, test_share=0)["test"]

    def test_stated_parts(self):
        names = {f"patient {i}": PARTS[min(i, 2)] for i in range(28)}
        frames = [replace(f, part=names[f.patient]) for f in random_frames(0)]
        for fold in range(3):
            parts = split_frames(frames, fold)
            assert parts == {name: [f for f in frames if f.part == name] for name in PARTS}
        assert len(split_frames(frames, None)["train"]) == sum(f.part != "test" for f in frames)

    def test_stated_test_part_leaves_folds(self):
        names = {f"patient {i}": "test" if i < 6 else "train" for i in range(28)}
        frames = [replace(f, part=names[f.patient]) for f in random_frames(0)]
        parts = [split_frames(frames, fold) for fold in range(3)]
        assert all({f.patient for f in part["test"]} == {f"patient {i}" for i in range(6)} for part in parts)
        assert sum(len({f.patient for f in part["validation"]}) for part in parts) == 22

    def test_stated_folds(self):
        frames = [replace(f, fold=int(f.patient.split()[1]) % 4) for f in random_frames(0)]
        parts = split_frames(frames, 3, num_folds=4)
        assert {f.fold for f in parts["validation"]} == {3} and {f.fold for f in parts["train"]} == {0, 1, 2}
        assert not parts["test"]
        assert message(split_frames, frames, 0) == ("datalist: has folds [3] outside 0..2; pass the right --num_folds")

    def test_errors(self):
        frames = random_frames(0, patients=3)
        assert message(split_frames, frames, 3) == "fold=3: is not one of the 3 folds; pass --fold 0 to 2"
        assert message(split_frames, frames, 0, test_share=1) == (
            "test_share=1: is not a share; pass 0 or more and less than 1"
        )
        assert message(split_frames, frames, 0) == (
            "dataset_dir: has frames of 2 patients, too few for 3 folds; "
            "add patients, state parts, or pass a smaller --num_folds"
        )
        stated = [replace(f, part="test") for f in frames]
        assert "leaves no frames" in message(split_frames, stated, 0)


@pytest.mark.parametrize(
    ("shared", "value"), [("patient", "patient 0"), ("image", "0_0.png"), ("image", ("v.mp4", 3)), ("id", "0_0")]
)
def test_leaks_fail(shared, value):
    first = LabelledFrame("a", "a.png", None, True, "A")
    second = LabelledFrame("b", "b.png", None, True, "B")
    check_leak({"train": [first, first], "test": [second]})
    leaking = {"train": [replace(first, **{shared: value})], "test": [replace(second, **{shared: value})]}
    assert f"its {shared} '{value}' is in the train part and in the test part; " in message(check_leak, leaking)
