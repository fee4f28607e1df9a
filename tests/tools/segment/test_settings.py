from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from common.errors import InputError
from tests.bundles.runs import ROOT
from tools.bundle_files import bundle_names, find_bundle
from tools.segment.settings import BundleSettings

SAFNET, SSHSNET, FUNET, BESS = (ROOT / "bundles" / name for name in ("safnet", "sshsnet", "funet", "bess"))


def message(call, *args, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def plan(folder: Path, **settings) -> Path:
    """A file of weights (of which only its place matters) with a plan beside it."""
    (folder / "model.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder / "model.pt"


class TestFindBundle:
    def test_by_name_and_by_folder(self, tmp_path):
        assert bundle_names() == ["bess", "funet", "safnet", "sshsnet"]
        assert find_bundle("safnet") == SAFNET
        release = shutil.copytree(SAFNET / "configs", tmp_path / "any name" / "configs").parent
        assert find_bundle(release) == find_bundle(str(release)) == release

    def test_a_name_from_any_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert find_bundle("bess") == BESS

    def test_what_is_no_bundle(self, tmp_path):
        names = "bess, funet, safnet or sshsnet"
        assert message(find_bundle, "safent") == "safent: is not a model; did you mean safnet?"
        assert message(find_bundle, "x") == f"x: is not a model; choose {names}, or pass a bundle's folder"
        (tmp_path / "a.zip").write_text("", encoding="utf-8")
        problem = "is a file, not the folder of a bundle; unzip a release, and pass its folder"
        assert message(find_bundle, tmp_path / "a.zip") == f"{tmp_path}/a.zip: {problem}"
        problem = f"is not a bundle (it has no configs/inference.json); pass {names}"
        assert message(find_bundle, tmp_path) == f"{tmp_path}: {problem}"


class TestBundleSettings:
    def test_the_bundles_own_weights(self):
        settings = BundleSettings(SAFNET)
        assert settings.files == [SAFNET / "configs" / "inference.json"]
        own = {"bundle_root": str(SAFNET), "checkpoint": str(SAFNET / "models" / "model.pt")}
        assert own.items() <= settings.ids.items()
        shipped = SAFNET / "models" / "model.json"
        if shipped.is_file():  # then its settings, too
            trained = json.loads(shipped.read_text(encoding="utf-8"))
            assert settings.ids["spatial_size"] == trained["spatial_size"]
        else:
            assert settings.ids == own

    def test_settings_beside_the_weights(self, tmp_path):
        weights = plan(tmp_path, spatial_size=[8, 64, 32], aspp=False, learned=[1, 2])
        ids = BundleSettings(SAFNET, weights).ids
        assert ids == {
            "bundle_root": str(SAFNET), "checkpoint": str(weights), "spatial_size": [8, 64, 32], "aspp": False,
        }  # fmt: skip

    def test_the_scheme_decides_about_the_channels(self, tmp_path):
        ids = BundleSettings(SAFNET, plan(tmp_path, label_scheme="mrspineseg19")).ids
        assert (ids["label_scheme"], ids["num_classes"]) == ("mrspineseg19", 20)

    def test_given_ids_go_first(self, tmp_path):
        weights = plan(tmp_path, spatial_size=[8, 64, 32])
        ids = BundleSettings(SAFNET, weights, ids={"spatial_size": [4, 32, 32], "precision": "bf16"}).ids
        assert (ids["spatial_size"], ids["precision"]) == ([4, 32, 32], "bf16")

    def test_relative_weights(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert BundleSettings(SAFNET, "m.pt").ids["checkpoint"] == str(tmp_path / "m.pt")

    def test_another_network_of_the_bundle(self, tmp_path):
        settings = BundleSettings(FUNET, plan(tmp_path, model="clip_unet", frames=3))
        assert [file.name for file in settings.files] == ["inference.json", "clip_unet.json"]
        assert settings.ids["model"] == "clip_unet"
        settings = BundleSettings(FUNET, plan(tmp_path, model="funet"))
        assert [file.name for file in settings.files] == ["inference.json"]
        line = message(BundleSettings, FUNET, plan(tmp_path, model="../x"))
        problem = "is of the model ../x, which this bundle does not have; pass other --weights"
        assert line == f"{tmp_path}/model.json: {problem}"

    def test_fast(self):
        settings = BundleSettings(SSHSNET, fast=True)
        assert [file.name for file in settings.files] == ["inference.json", "fast.json"]
        assert json.loads(settings.files[1].read_text(encoding="utf-8")) == {"mode": "fast"}

    @pytest.mark.parametrize("root", [SAFNET, FUNET, BESS], ids=lambda root: root.name)
    def test_no_faster_mode(self, root):
        line = f"--fast: {root.name} has no faster mode (on CUDA it uses half precision anyway); leave it out"
        assert message(BundleSettings, root, fast=True) == line

    @pytest.mark.parametrize(
        ("ids", "line"),
        [
            ({"presision": "fp32"}, "--presision: is not an id of this configuration; did you mean --precision?"),
            ({"spatial_size": [1, 2]}, "--spatial_size [1, 2]: is not a list of 3 whole numbers; pass one such as"),
            ({"spatial_size": "[4,32,16"}, "--spatial_size [4,32,16: is not a list of 3 whole numbers; pass one"),
            ({"crop_fraction": 2.0}, "--crop_fraction 2.0: is out of range; it has to be above 0 and at most 1"),
            ({"input": "x"}, "input: is INPUT here; pass it as INPUT"),
            ({"bundle_root": "x"}, "bundle_root: is MODEL here; pass it as MODEL"),
            ({"checkpoint": "x"}, "checkpoint: is --weights here; pass it as --weights"),
            ({"output_format": "mha"}, "output_format: is --format here; pass it as --format"),
        ],
    )
    def test_ids_that_cannot_be_set(self, ids, line):
        assert message(BundleSettings, SAFNET, ids=ids).startswith(line)

    def test_plans_that_cannot_be_used(self, tmp_path):
        line = message(BundleSettings, SAFNET, plan(tmp_path, spatial_size="large"))
        assert line.startswith("--spatial_size large: is not a list of 3 whole numbers")
        line = message(BundleSettings, SAFNET, plan(tmp_path, label_scheme="other"))
        assert line.startswith(f"{tmp_path}/model.json: unknown label scheme 'other'")
        (tmp_path / "model.json").write_text("{", encoding="utf-8")
        assert "model.json: is not valid JSON" in message(BundleSettings, SAFNET, tmp_path / "model.pt")

    @pytest.mark.parametrize(
        ("root", "word", "ids"),
        [
            (SAFNET, "nifti", {"output_format": "nii.gz"}),
            (SSHSNET, "dicom-seg", {"output_format": "dicom-seg"}),
            (FUNET, "png", {"mask_format": "png"}),
            (BESS, None, {}),
        ],
    )
    def test_formats(self, root, word, ids):
        settings = BundleSettings(root)
        before = dict(settings.ids)
        settings.set_format(word)
        assert settings.ids == before | ids

    def test_formats_that_are_not_written(self):
        line = "--format png: is nothing that safnet writes; choose nifti, mha, nrrd or dicom-seg"
        assert message(BundleSettings(SAFNET).set_format, "png") == line
        line = "--format dicom-seg: is nothing that bess writes; choose video or png"
        assert message(BundleSettings(BESS).set_format, "dicom-seg") == line

    def test_what_was_set_stays(self):
        settings = BundleSettings(SAFNET, ids={"overlay": "true"})
        settings.set(overlay=False, output_dir="/out")
        assert (settings.ids["overlay"], settings.ids["output_dir"]) == ("true", "/out")
        assert message(settings.set, output_dir="/a#b").startswith("--output_dir /a#b: has a '#'")

    @pytest.mark.parametrize("text", ["{", "[]"])
    def test_a_broken_configuration(self, tmp_path, text):
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "inference.json").write_text(text, encoding="utf-8")
        line = message(BundleSettings, tmp_path)
        assert line.startswith(f"{tmp_path}/configs/inference.json: ") and line.endswith("the bundle's release")
