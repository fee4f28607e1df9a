from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image

from common.data import LabelScheme
from common.errors import InputError
from common.handlers import EvaluationReport
from tests.helpers import affine_of, noise, write_nifti

SCHEME = LabelScheme.load("mrspineseg17")
SHAPE, AFFINE = (6, 10, 8), affine_of((4, 1, 2))  # voxels of 8 mm3
VERTEBRA, DISC = 2, 11  # L5 and L5/S, as written


@pytest.fixture
def bundle(tmp_path) -> Path:
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text('{"bundle": "some_net", "version": "1.2.3"}', encoding="utf-8")
    (root / "model.pt").write_bytes(b"weights")
    return root


def volume(path: Path, **spans: tuple[int, int]) -> MetaTensor:
    """Channels with the written value, v11=(0, 5) in voxels 0 to 4, on the grid of a file."""
    flat = torch.zeros(int(np.prod(SHAPE)), dtype=torch.uint8)
    for name, (start, end) in spans.items():
        flat[start:end] = int(SCHEME.value_to_channel[int(name[1:])])
    return MetaTensor(flat.reshape(1, *SHAPE), affine=torch.tensor(AFFINE), meta={"filename_or_obj": str(path)})


def case(tmp_path: Path, name: str, pred: dict, label: dict, drawn=None, **entries) -> tuple[dict, dict]:
    path = tmp_path / f"{name}.nii.gz"
    item = {"id": name, "subject": name, "drawn": torch.from_numpy(SCHEME.drawn_channels(drawn))} | entries
    return item, {"pred": volume(path, **pred), "label": volume(path, **label)}


def report(
    bundle: Path, output: Path, *cases: tuple[dict, dict], scheme: str = "mrspineseg17", **kwargs
) -> tuple[list[dict], dict]:
    """Let an engine give these cases; return the table and the summary."""
    handler = EvaluationReport(output, scheme, bundle, bundle / "model.pt", **kwargs)

    def step(engine: Engine, batch: tuple[dict, dict]) -> list[dict]:
        engine.state.batch = [batch[0]]
        return [batch[1]]

    engine = Engine(step)
    handler.attach(engine)
    engine.run(list(cases))
    with open(output / "dice.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), json.loads((output / "summary.json").read_text(encoding="utf-8"))


def case_table(output: Path) -> dict[str, dict[str, str]]:
    with open(output / "cases.csv", newline="", encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def by_structure(rows: list[dict], name: str = "a") -> dict[str, dict[str, str]]:
    return {row["structure"]: row for row in rows if row["case"] == name}


def test_one_case_by_hand(tmp_path, bundle):
    # L5: 10 voxels each, 5 of them shared; the disc is found whole
    one = case(tmp_path, "a", {"v2": (0, 10), "v11": (20, 24)}, {"v2": (5, 15), "v11": (20, 24)})
    rows, summary = report(bundle, tmp_path, one)
    found = by_structure(rows)
    assert len(rows) == len(SCHEME.structures)
    assert float(found["L5"]["dice"]) == pytest.approx(0.5)
    assert float(found["L5/S"]["dice"]) == 1
    assert (found["L5"]["value"], found["L5/S"]["value"]) == ("2", "11")
    assert (found["L5"]["reference_voxels"], found["L5"]["predicted_voxels"]) == ("10", "10")
    assert float(found["L5/S"]["reference_ml"]) == float(found["L5/S"]["predicted_ml"]) == pytest.approx(0.032)
    assert found["L4"]["dice"] == found["L4"]["named_right"] == ""  # in neither
    assert summary["dice"] == {"mean": 0.75, "sd": 0.0, "cases": 1}
    assert summary["named_right"] == {"share": 1.0, "structures": 2}
    assert set(summary["structures"]) == {"L5", "L5/S"} and summary["cases"] == {"a": 0.75}


def test_missed_and_invented(tmp_path, bundle):
    one = case(tmp_path, "a", {"v3": (30, 40)}, {"v2": (0, 10)})
    found = by_structure(report(bundle, tmp_path, one)[0])
    assert float(found["L5"]["dice"]) == 0 and float(found["L5"]["named_right"]) == 0  # drawn, not found
    assert float(found["L4"]["dice"]) == 0 and found["L4"]["named_right"] == ""  # found, not there


def test_the_neighbours_name_is_wrong(tmp_path, bundle):
    # 6 of L5's 10 voxels are called L4
    one = case(tmp_path, "a", {"v3": (0, 6), "v2": (6, 10)}, {"v2": (0, 10)})
    rows, summary = report(bundle, tmp_path, one)
    assert float(by_structure(rows)["L5"]["named_right"]) == 0
    assert summary["named_right"] == {"share": 0.0, "structures": 1}


def test_what_was_not_drawn_is_not_scored(tmp_path, bundle):
    one = case(tmp_path, "a", {"v2": (0, 10), "v3": (20, 40)}, {"v2": (0, 10)}, drawn=[VERTEBRA, DISC])
    rows, summary = report(bundle, tmp_path, one)
    assert set(by_structure(rows)) == {"L5", "L5/S"}
    assert summary["dice"]["mean"] == 1  # L4, which nobody drew, does not count as invented


def test_summary_over_cases(tmp_path, bundle):
    cases = [
        case(tmp_path, "a", {"v2": (0, 10)}, {"v2": (0, 10), "v11": (20, 24)}, sequence="T1"),  # 1 and 0
        case(tmp_path, "b", {"v2": (0, 10)}, {"v2": (0, 10)}, sequence="T2"),  # 1
        case(tmp_path, "c", {"v2": (0, 10)}, {"v2": (5, 15)}, sequence="T1"),  # 0.5
    ]
    rows, summary = report(bundle, tmp_path, *cases, group_by="sequence")
    assert {row["case"]: row["group"] for row in rows} == {"a": "T1", "b": "T2", "c": "T1"}
    assert summary["cases"] == {"a": 0.5, "b": 1.0, "c": 0.5}
    assert summary["dice"]["mean"] == pytest.approx(2 / 3) and summary["dice"]["cases"] == 3
    assert summary["dice"]["sd"] == pytest.approx(np.std([0.5, 1, 0.5], ddof=1))
    assert summary["structures"]["L5"]["cases"] == 3
    assert summary["structures"]["L5"]["mean"] == pytest.approx(2.5 / 3)
    assert summary["structures"]["L5/S"] == {"mean": 0.0, "sd": 0.0, "cases": 1}
    assert summary["groups"]["T1"]["dice"] == {"mean": 0.5, "sd": 0.0, "cases": 2}
    assert summary["groups"]["T2"]["dice"]["mean"] == 1
    assert set(summary["groups"]["T2"]["structures"]) == {"L5"}


def test_the_rule_of_the_authors_program(tmp_path, bundle):
    """Of each case, the mean over the classes in either volume; against MONAI-free brute force on random volumes."""
    rng = np.random.default_rng(0)
    scheme, cases, wanted = LabelScheme.load("mrspineseg19"), [], {}
    for name in "abc":
        reference = rng.choice([0, 2, 3, 4, 11, 12], SHAPE)  # most classes are absent
        pred = np.where(rng.random(SHAPE) < 0.7, reference, rng.choice([0, 3, 5, 12, 13], SHAPE))
        pred[reference == 2] = 0  # missed
        volumes = {}
        for key, values in (("pred", pred), ("label", reference)):
            channels = torch.from_numpy(scheme.value_to_channel[values])[None]
            meta = {"filename_or_obj": f"{name}.nii.gz"}
            volumes[key] = MetaTensor(channels, affine=torch.tensor(AFFINE), meta=meta)
        cases.append(({"id": name, "drawn": torch.ones(20, dtype=torch.bool)}, volumes))
        found = {}
        for value in range(1, 20):
            one, other = pred == value, reference == value
            if one.any() or other.any():
                found[value] = 2 * (one & other).sum() / (one.sum() + other.sum())
        assert found[2] == found[5] == found[13] == 0
        wanted[name] = {"dice": np.mean([*found.values()])}
        for kind, values in (("vertebrae", range(1, 11)), ("discs", range(11, 20))):
            one, other = np.isin(pred, values), np.isin(reference, values)
            wanted[name][kind] = np.mean([dice for value, dice in found.items() if value in values])
            wanted[name][f"merged_{kind}"] = 2 * (one & other).sum() / (one.sum() + other.sum())
    rows, summary = report(bundle, tmp_path, *cases, scheme="mrspineseg19", distances=False)
    table = case_table(tmp_path)
    assert {row["structure"]: row["kind"] for row in rows} == {
        s.name: "vertebra" if s.value <= 10 else "disc" for s in scheme.structures
    }
    for name, scores in wanted.items():
        assert {key: float(table[name][key]) for key in scores} == pytest.approx(scores, abs=1e-6)
    everyone = {key: [scores[key] for scores in wanted.values()] for key in wanted["a"]}
    found = {"dice": summary["dice"]}
    for kind in ("vertebrae", "discs"):
        found |= {kind: summary[kind]["dice"], f"merged_{kind}": summary[kind]["merged"]}
    for key, values in everyone.items():
        assert found[key]["mean"] == pytest.approx(np.mean(values), abs=1e-6)
        assert found[key]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
        assert found[key]["cases"] == 3


def test_a_kind_that_is_not_there_or_was_not_drawn_has_no_score(tmp_path, bundle):
    cases = [
        case(tmp_path, "a", {"v3": (0, 10)}, {"v2": (0, 10)}, sequence="T1"),  # a vertebra by another's name; no discs
        case(tmp_path, "b", {"v11": (0, 10)}, {"v11": (0, 10)}, drawn=[DISC], sequence="T2"),
    ]
    _, summary = report(bundle, tmp_path, *cases, group_by="sequence")
    table = case_table(tmp_path)
    assert [table["a"][key] for key in ("group", "vertebrae", "merged_vertebrae")] == ["T1", "0.0", "1.0"]
    assert table["a"]["discs"] == table["a"]["merged_discs"] == ""
    assert table["b"]["vertebrae"] == table["b"]["merged_vertebrae"] == "" and table["b"]["discs"] == "1.0"
    assert summary["vertebrae"]["merged"] == {"mean": 1.0, "sd": 0.0, "cases": 1}
    assert summary["groups"]["T1"]["discs"]["dice"] == {"mean": None, "sd": 0.0, "cases": 0}
    assert summary["groups"]["T2"]["discs"]["dice"] == {"mean": 1.0, "sd": 0.0, "cases": 1}


def test_no_groups_unless_asked_for(tmp_path, bundle):
    one = case(tmp_path, "a", {"v2": (0, 10)}, {"v2": (0, 10)}, sequence="T1")
    rows, summary = report(bundle, tmp_path, one)
    assert "groups" not in summary and {row["group"] for row in rows} == {""}


def test_nothing_to_score_is_no_number(tmp_path, bundle):
    rows, summary = report(bundle, tmp_path, case(tmp_path, "a", {}, {}))
    assert {row["dice"] for row in rows} == {""}
    assert summary["dice"] == {"mean": None, "sd": 0.0, "cases": 0}


def test_names_of_cases_without_an_id(tmp_path, bundle):
    item, output = case(tmp_path, "a", {"v2": (0, 10)}, {"v2": (0, 10)})
    rows, _ = report(bundle, tmp_path, ({"drawn": item["drawn"]}, output))
    assert {row["case"] for row in rows} == {"a.nii.gz"}


def test_provenance(tmp_path, bundle):
    one = case(tmp_path, "a", {"v2": (0, 10)}, {"v2": (0, 10)})
    _, summary = report(bundle, tmp_path, one, settings={"fold": 1})
    assert summary["provenance"]["bundle"] == "some_net" and summary["provenance"]["settings"] == {"fold": 1}


def test_a_picture_of_each_case(tmp_path, bundle):
    write_nifti(tmp_path / "a.nii.gz", noise(SHAPE), AFFINE)
    report(bundle, tmp_path, case(tmp_path, "a", {"v2": (0, 50)}, {"v2": (25, 75)}), overlays=True)
    with Image.open(tmp_path / "a_overlay.png") as picture:
        picture.load()


def test_a_second_run_of_one_handler_starts_anew(tmp_path, bundle):
    handler = EvaluationReport(tmp_path, "mrspineseg17", bundle, bundle / "model.pt")
    one = case(tmp_path, "a", {"v2": (0, 10)}, {"v2": (0, 10)})

    def step(engine: Engine, batch: tuple[dict, dict]) -> list[dict]:
        engine.state.batch = [batch[0]]
        return [batch[1]]

    engine = Engine(step)
    handler.attach(engine)
    for _ in range(2):
        engine.run([one])
    assert len(handler.rows) == len(SCHEME.structures) and len(handler.cases) == 1


def cube(path: Path, first_slice: int) -> MetaTensor:
    """L5 as a cube of 3 x 4 x 3 voxels, its first slice (of 4 mm) given."""
    channels = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    channels[0, first_slice : first_slice + 3, 3:7, 2:5] = int(SCHEME.value_to_channel[VERTEBRA])
    return MetaTensor(channels, affine=torch.tensor(AFFINE), meta={"filename_or_obj": str(path)})


def test_distances_are_in_millimetres(tmp_path, bundle):
    item, _ = case(tmp_path, "a", {}, {})
    rows, summary = report(bundle, tmp_path, (item, {"pred": cube(tmp_path / "a.nii.gz", 2), "label": cube("", 1)}))
    found = by_structure(rows)["L5"]
    assert float(found["hd95_mm"]) == pytest.approx(4)  # one slice
    # of 34 surface voxels, the 12 of the last slice are 4 mm away and the others lie on the other surface or 1 step off
    assert 0 < float(found["msd_mm"]) == float(found["assd_mm"]) < 4
    assert summary["distances"]["hd95_mm"] == {"mean": pytest.approx(4), "sd": 0.0, "structures": 1, "blank": 0}


def test_a_missing_structure_has_no_distance_and_is_counted(tmp_path, bundle):
    one = case(tmp_path, "a", {"v3": (30, 40), "v11": (50, 60)}, {"v2": (0, 10), "v11": (50, 60)})
    rows, summary = report(bundle, tmp_path, one)
    found = by_structure(rows)
    assert [found[name]["hd95_mm"] for name in ("L5", "L4")] == ["", ""] and float(found["L5/S"]["hd95_mm"]) == 0
    assert found["L3"]["hd95_mm"] == ""  # in neither: not even counted
    assert summary["distances"]["assd_mm"] == {"mean": 0.0, "sd": 0.0, "structures": 1, "blank": 2}


def test_distances_can_be_left_out(tmp_path, bundle):
    rows, summary = report(bundle, tmp_path, case(tmp_path, "a", {"v2": (0, 10)}, {"v2": (0, 10)}), distances=False)
    assert by_structure(rows)["L5"]["hd95_mm"] == "" and summary["distances"] == {}


def test_an_unknown_group_is_refused(tmp_path, bundle):
    one = case(tmp_path, "a", {"v2": (0, 10)}, {"v2": (0, 10)})
    with pytest.raises(InputError, match=r"^--group_by scanner: is not an entry of every case; add it to the datalist"):
        report(bundle, tmp_path, one, group_by="scanner")
