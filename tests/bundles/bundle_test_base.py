"""What every bundle of the collection has to pass; a bundle's own test class inherits from it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle.workflows import _apply_logging_file
from monai.data import MetaTensor, decollate_batch
from PIL import Image
from scipy import ndimage

import common
from common.data import LabelScheme
from common.data.provenance import sha256_of
from common.data.scan_reader import read_scan
from common.engines.launch import _first_cause
from tests.bad_scans import BAD_SCANS
from tests.bundles.runs import (
    ROOT,
    BlockFinder,
    Finished,
    Launcher,
    block_scan,
    content_of,
    copy_of,
    equal,
    files_of,
    overlap,
    run,
    run_in_ranks,
    undone,
    words,
    workflow,
)
from tests.dicom_files import SERIES, write_slices
from tests.helpers import affine_of, noise, write_nifti
from tests.scan_files import LPS, open_elsewhere, picture, write_itk, write_scan

SCHEMA = ROOT.parent / "shared" / "schemas" / "meta_schema_20240725.json"
ORIENTATIONS = ("RAS", "LPS", "PIR", "SRP", "LAS")  # two of them left-handed; the sagittal one is the phantom's
TRACE = "Traceback (most recent call last)"


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def strings(content: Any) -> Iterator[str]:
    """Every string in a configuration, keys included."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield key
            yield from strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from strings(value)
    elif isinstance(content, str):
        yield content


def the_line(finished: Finished) -> str:
    """The one line that a failed run shows."""
    assert finished.status not in (0, None), f"status {finished.status}\n{finished.out}"
    lines = finished.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), finished.err
    return lines[0]


@dataclass(frozen=True)
class Mistake:
    """Something that a user gets wrong.

    Args:
        config: the kind of run.
        ids: what is passed besides the tiny settings; ``{...}`` stands for a path of the fixture ``places``. None takes
            a tiny setting away.
        says: regular expressions that the one line has to match: where, and what to do.
        logged: whether the traceback is in the run's log file.
    """

    config: str
    ids: Mapping[str, Any]
    says: Sequence[str]
    logged: bool = True


MISTAKES = {
    "unknown id": Mistake("train", {"resmue": "true"}, ["--resmue", "did you mean --resume"], logged=False),
    "no boolean": Mistake("train", {"resume": "maybe"}, ["--resume maybe", "true or false"]),
    "no data": Mistake("train", {"dataset_dir": "{missing}"}, ["{missing}", "--dataset_dir"]),
    "empty data": Mistake("train", {"dataset_dir": "{empty}"}, ["{empty}", "images/", "README"]),
    "data is a file": Mistake("train", {"dataset_dir": "{file}"}, ["{file}", "is not a folder", "--dataset_dir"]),
    "no such fold": Mistake("train", {"fold": 3}, ["fold=3", "--fold 0 to 2"]),
    "label outside the scheme": Mistake("train", {"dataset_dir": "{strange}"}, ["case1.nii.gz", "42", "MRSpineSeg"]),
    "the same in a worker": Mistake(
        "train", {"dataset_dir": "{strange}", "num_workers": 1, "cache_rate": 0}, ["case1.nii.gz", "42", "MRSpineSeg"]
    ),
    "holds a training": Mistake(
        "train", {"output_dir": "{trained}"}, ["{trained}", "--resume true", "another --output_dir"]
    ),
    "nothing to resume": Mistake("train", {"resume": "true"}, ["{output}", "leave --resume out"]),
    "unknown precision": Mistake("train", {"precision": "fp8"}, ["--precision fp8", "fp32"]),
    "loss not finite": Mistake("train", {"lr": "1e30"}, ["loss", "--lr"]),
    "not writable": Mistake("train", {"output_dir": "{file}"}, ["{file}", "--output_dir"], logged=False),
    "no number": Mistake("train", {"lr": "abc"}, ["--lr abc", "not a number", "--lr 0.0"], logged=False),
    "too few numbers": Mistake(
        "inference", {"spatial_size": "[18,256]"}, ["--spatial_size [18,256]", "3 whole numbers", "'["], logged=False
    ),
    "no such device": Mistake("inference", {"device": "gpu"}, ["--device gpu", "--device cpu"], logged=False),
    "a folder that cannot be made": Mistake("train", {"output_dir": "/proc/out"}, ["/proc/out", "--output_dir"], False),
    "a path that MONAI changes": Mistake("train", {"output_dir": "a#b"}, ["--output_dir a#b", "without it"], False),
    "a label map that lies elsewhere": Mistake(
        "train", {"datalist": "{moved}", "num_workers": 1, "cache_rate": 0}, ["{elsewhere}", "{image}", "resample it"]
    ),
    "nothing to start from": Mistake("train", {"init_checkpoint": "{missing}"}, ["{missing}", "no weights"]),
    "nothing to evaluate": Mistake("evaluate", {"checkpoint": "{missing}"}, ["{missing}", "--checkpoint"]),
    "no such part": Mistake("evaluate", {"part": "tset"}, ["part=tset", "test"]),
    "no weights": Mistake("inference", {"checkpoint": "{missing}"}, ["{missing}", "--checkpoint"]),
    "no input": Mistake("inference", {"input": None}, ["input", "--input"]),
    "input missing": Mistake("inference", {"input": "{missing}"}, ["{missing}", "--input"]),
    "input broken": Mistake("inference", {"input": "{broken}"}, ["{broken}", "cannot be read", "re-export"]),
    "weights of another network": Mistake(
        "inference", {"checkpoint": "{another}"}, ["{another}", "does not fit this network", "same settings"]
    ),
    "weights are none": Mistake("inference", {"checkpoint": "{file}"}, ["{file}", "not a file of weights"]),
    "another bundle's folder": Mistake("inference", {"bundle_root": "{other}"}, ["{other}", "--bundle_root"], False),
    "not a bundle": Mistake("inference", {"bundle_root": "{empty}"}, ["{empty}", "--bundle_root"], logged=False),
}


class BundleTests:
    """Inherit as ``class TestMyBundle(BundleTests)``, set what is below and add the bundle's own tests."""

    # The bundle's folder, and what its metadata states as `bundle`.
    name: str
    # Ids that make every run small: whatever the plan holds belongs here.
    tiny: Mapping[str, Any] = {"spatial_size": [4, 32, 16], "precision": "fp32"}
    # Further ids of a tiny training on six phantoms; three epochs of it have to lower the loss.
    training: Mapping[str, Any] = {"num_folds": 3, "num_validation": 1, "batch_size": 2}
    # Ids under which the network sees all of a scan of 14 x 40 x 44 voxels, about as fine as it is.
    whole: Mapping[str, Any] = {"spatial_size": [14, 48, 48], "precision": "fp32"}
    # An id of the plan and another value: weights trained with `tiny` must be refused.
    other_setting: tuple[str, Any] = ("spatial_size", [4, 32, 32])
    # Shape of a batch for the comparison with TorchScript.
    batch_shape: Sequence[int] = (2, 1, 4, 32, 16)
    # Mistakes beyond those that every bundle answers for.
    mistakes: Mapping[str, Mistake] = {}

    @property
    def root(self) -> Path:
        return ROOT / "bundles" / self.name

    @property
    def scheme(self) -> LabelScheme:
        return LabelScheme.load(ConfigParser.load_config_file(files_of(self.root, "inference")[0])["label_scheme"])

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "mistake" in metafunc.fixturenames:
            table = MISTAKES | dict(metafunc.cls.mistakes)
            metafunc.parametrize("mistake", list(table.values()), ids=list(table))

    # ------------------------------------------------------------------------------------------------ what tests share

    def train(self, dataset: Path, output: Path, **ids: Any) -> Path:
        """Train in this process; return the output folder."""
        given = {**self.tiny, **self.training, "dataset_dir": str(dataset), "output_dir": str(output)} | ids
        run(self.root, "train", **given)
        return output

    @pytest.fixture(scope="class")
    def trained(self, dataset: Path, shared: Path) -> Path:
        """The output of a training of three epochs."""
        return self.train(dataset, shared / "trained", max_epochs=3)

    @pytest.fixture(scope="class")
    def released(self, shared: Path, request: pytest.FixtureRequest) -> Path:
        """A copy of the bundle as a zip holds it, with random weights in ``models/``."""
        bundle = copy_of(self.root, shared / "elsewhere" / self.name)
        with undone():
            made = workflow(self.root, "inference", **self.tiny)
            made.parser.parse(reset=True)
            torch.manual_seed(0)
            network = made.parser.get_parsed_content("network_def")
            plan = made.parser.get_parsed_content("plan")
        torch.save(network.state_dict(), bundle / "models" / "model.pt")
        (bundle / "models" / "model.json").write_text(json.dumps(plan), encoding="utf-8")
        return bundle

    @pytest.fixture(scope="class")
    def scans(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A file of each kind that inference has to take, each kind of bad scan, and two files of one name."""
        folder = tmp_path_factory.mktemp("scans")
        values = noise((9, 20, 24), seed=3) * 1000
        oblique = affine_of((4, 1.2, 1.3), (0.15, -0.2, 0.1))
        for code in ORIENTATIONS:
            write_nifti(folder / f"{code}.nii.gz", values.astype(np.int16), oblique, code)
        write_nifti(folder / "plain.nii", values, affine_of((4, 1, 1)))
        scaled = nib.Nifti1Image((values / 4).astype(np.uint8), oblique)
        scaled.header.set_slope_inter(0.5, 3)
        nib.save(scaled, folder / "scaled.nii.gz")
        # The two matrices of a header may differ, and each may be absent.
        straight = affine_of((4, 1.2, 1.3))
        for name, sform, qform in (("both", 2, 1), ("sform", 4, 0), ("qform", 0, 3), ("neither", 0, 0)):
            image = nib.Nifti1Image(values, None)
            image.set_qform(oblique, qform)
            image.set_sform(straight, sform)
            nib.save(image, folder / f"{name}.nii.gz")
        stretched = nib.Nifti1Image(values, None)
        stretched.set_qform(oblique, 1)
        stretched.set_sform(straight @ np.diag([1.5, 1, 1, 1]), 1)  # its spacing is not the header's
        nib.save(stretched, folder / "stretched.nii.gz")
        nib.save(nib.Nifti1Image(values[..., None], oblique), folder / "series.nii.gz")  # a series of one volume
        for bad in BAD_SCANS.values():
            bad.make(folder)
        write_itk(folder / "scaled.nrrd", values, straight)  # scaled.nii.gz has its name
        return folder

    @pytest.fixture(scope="class")
    def segmented(self, released: Path, scans: Path, launch: Launcher, shared: Path) -> tuple[Path, Finished]:
        """What an inference run on ``scans`` wrote and said; started outside of everything."""
        output = shared / "segmented"
        ids = {**self.tiny, "bundle_root": released, "input": scans, "output_dir": output, "overlay": "true"}
        config = released / "configs" / "inference.json"
        finished = launch("run", "--config_file", config, *words(ids), cwd=shared / "elsewhere")
        return output, finished

    # ------------------------------------------------------------------------------------------------------- documents

    @pytest.fixture
    def metadata(self) -> dict[str, Any]:
        return read_json(self.root / "configs" / "metadata.json")

    def test_metadata_follows_the_published_schema(self, metadata):
        if not SCHEMA.is_file():
            pytest.skip(f"{SCHEMA.name} is not beside the repository")
        jsonschema.validate(metadata, read_json(SCHEMA))
        assert metadata["schema"].endswith(SCHEMA.name)

    def test_metadata_is_about_this_version(self, metadata):
        assert metadata["bundle"] == self.name
        assert next(iter(metadata["changelog"])) == metadata["version"]
        assert metadata["common_version"] == common.__version__
        packages = {key: metadata[f"{key}_version"] for key in ("monai", "pytorch", "numpy")}
        for package, version in (packages | metadata["required_packages_version"]).items():
            assert re.fullmatch(r"\d+(\.\d+)+", version), f"{package} {version} is not one exact version"
        pins = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
        assert metadata["monai_version"] == pins["monai"] and metadata["pytorch_version"] == pins["torch"]

    def test_metadata_names_what_is_written(self, metadata):
        outputs = metadata["network_data_format"]["outputs"]
        assert next(iter(metadata["network_data_format"]["inputs"])) == "image"
        assert next(iter(outputs)) == "pred"
        assert outputs["pred"]["channel_def"] == self.scheme.channel_def()
        assert outputs["pred"]["channel_def"]["11"] == "L5/S"
        assert outputs["pred"]["num_channels"] == self.scheme.num_channels

    def test_license_and_documents(self):
        text = (self.root / "LICENSE").read_text(encoding="utf-8")
        assert re.match(r"\s+Apache License\s+Version 2\.0, January 2004", text)
        assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
        assert "END OF TERMS AND CONDITIONS" in text
        assert (self.root / "docs" / "README.md").stat().st_size > 0
        assert (self.root / "docs" / "data_license.txt").stat().st_size > 0

    def test_configurations_are_well_formed(self):
        files = sorted((self.root / "configs").glob("*.json"))
        assert {"train.json", "evaluate.json", "inference.json", "metadata.json"} <= {file.name for file in files}
        for file in files:
            text = file.read_text(encoding="utf-8")

            def once(pairs: list[tuple[str, Any]], name: str = file.name) -> dict[str, Any]:
                assert len({key for key, _ in pairs}) == len(pairs), f"{name}: a key occurs twice"
                return dict(pairs)

            content = json.loads(text, object_pairs_hook=once)
            assert text == json.dumps(content, indent=4, ensure_ascii=False) + "\n", f"{file.name}: not indented by 4"
            if file.name == "metadata.json":
                continue
            # MONAI turns each '#' of a value into '::'; keys may have it between ids.
            spoilt = [word for word in strings(content) if "#" in word and not re.search(r"[@%+\w]\w*#\w", word)]
            assert not spoilt, f"{file.name}: {spoilt}"
            assert not [word for word in strings(content) if re.match(r"\$import common|\$from common", word)]

    def test_overrides_name_ids_that_are_used(self):
        base = ConfigParser.load_config_file(files_of(self.root, "train")[0])
        for file in sorted((self.root / "configs").glob("*.json")):
            if file.name in ("metadata.json", "train.json", "inference.json", "evaluate.json"):
                continue
            content = read_json(file)
            new = {key.lstrip("+").split("#")[0] for key in content} - base.keys()
            new -= {"initialize", "run", "finalize"}  # what `monai.bundle run` itself asks for
            unused = {key for key in new if not any(f"@{key}" in word for word in strings(content))}
            assert not unused, f"{file.name}: nothing uses {unused}"

    def test_logging_configuration_passes_monais_vetting(self):
        with undone():
            _apply_logging_file(str(self.root / "configs" / "logging.conf"))

    # -------------------------------------------------------------------------------------------- works from everywhere

    @pytest.fixture(scope="class")
    def repository(self, released: Path, shared: Path) -> Path:
        """The repository's layout: the link to the shared code, and the bundle with its weights."""
        bundle = shared / "repository" / "bundles" / self.name
        bundle.mkdir(parents=True)
        for name in ("configs", "models"):
            shutil.copytree(released / name, bundle / name)
        (bundle / "common").symlink_to("../../common")
        (shared / "repository" / "common").symlink_to(ROOT / "common")
        return shared / "repository"

    def test_training_from_the_repositorys_root(self, repository, dataset, launch):
        before = content_of(repository / "bundles" / self.name / "models")
        ids = {**self.tiny, **self.training, "dataset_dir": dataset, "max_epochs": 1, "resume": "false"}
        config = f"bundles/{self.name}/configs/train.json"
        finished = launch("run", "--config_file", config, *words(ids), cwd=repository)
        assert finished.status == 0, finished.err
        bundle = repository / "bundles" / self.name
        assert (bundle / "output" / "train" / "model.pt").is_file()
        assert content_of(bundle / "models") == before
        shutil.rmtree(bundle / "output")

    def test_inference_from_inside_the_bundle(self, repository, scans, launch):
        bundle = repository / "bundles" / self.name
        ids = {**self.tiny, "input": scans / "RAS.nii.gz", "overlay": "false"}
        finished = launch("run", "--config_file", "configs/inference.json", *words(ids), cwd=bundle)
        assert finished.status == 0, finished.err
        assert (bundle / "output" / "inference" / "RAS_seg.nii.gz").is_file()

    def test_a_released_bundle_alone_in_a_fresh_process(self, released, scans, launch, tmp_path):
        assert not (released / "common").is_symlink()
        ids = {**self.tiny, "bundle_root": released, "input": scans / "RAS.nii.gz", "output_dir": tmp_path / "out"}
        config = released / "configs" / "inference.json"
        finished = launch("run", "--config_file", config, *words(ids), cwd=tmp_path, fresh=True)
        assert finished.status == 0, finished.err
        assert (tmp_path / "out" / "RAS_seg.nii.gz").is_file()

    def test_verify_net_in_out(self, released, launch, tmp_path):
        given = {"config_file": released / "configs" / "inference.json", "bundle_root": released, "device": "cpu"}
        given |= {"meta_file": released / "configs" / "metadata.json"}
        finished = launch("verify_net_in_out", "network_def", *words(given), cwd=tmp_path)
        assert finished.status == 0, finished.err
        assert "data shape of network is verified with no error" in finished.out + finished.err

    def test_torchscript_gives_the_networks_numbers(self, released, launch, tmp_path):
        given = {"config_file": released / "configs" / "inference.json", "bundle_root": released}
        finished = launch("ckpt_export", "network_def", tmp_path / "model.ts", *words(given), cwd=tmp_path)
        assert finished.status == 0, finished.err
        scripted = torch.jit.load(tmp_path / "model.ts").eval()
        with undone():
            made = workflow(self.root, "inference", **self.tiny)
            made.parser.parse(reset=True)
            network = made.parser.get_parsed_content("network_def").eval()
        network.load_state_dict(torch.load(released / "models" / "model.pt", weights_only=True))
        x = torch.randn(*self.batch_shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(scripted(x), network(x), rtol=1e-4, atol=1e-4)

    def test_load(self, released, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with undone():
            ids = {"bundle_root": str(released), "output_dir": str(tmp_path / "out"), "logging_file": False}
            network = monai.bundle.load(self.name, bundle_dir=released.parent, device="cpu", args_file=ids)
        weights = torch.load(released / "models" / "model.pt", weights_only=True)
        assert equal(dict(network.state_dict()), dict(weights))

    def test_create_workflow_and_its_properties(self, dataset, released, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        kinds = {"train": "train", "evaluate": "train", "inference": "infer"}
        for config, kind in kinds.items():
            with undone():
                made = monai.bundle.create_workflow(
                    config_file=files_of(released, config),
                    workflow_type=kind,
                    logging_file=False,
                    bundle_root=str(released),
                    dataset_dir=str(dataset),
                    output_dir=str(tmp_path / config),
                    **self.tiny,
                    **({} if config == "inference" else {key: self.training[key] for key in ("num_folds",)}),
                )
                with warnings.catch_warnings(record=True) as complaints:
                    warnings.simplefilter("always")
                    assert not made.check_properties()
                wrong = [str(one.message) for one in complaints if "properties" in str(one.message)]
                assert not wrong, f"{config}: {wrong}"  # of references that are not what MONAI's tools expect

    def test_two_bundles_in_one_process(self, released, launch, tmp_path):
        second = copy_of(released, tmp_path / f"{self.name}_two")
        with undone():
            for bundle in (released, second):
                made = workflow(bundle, "inference", **self.tiny)
                made.parser.parse(reset=True)
                network = made.parser.get_parsed_content("network")
                with torch.no_grad():
                    assert network.eval()(torch.zeros(*self.batch_shape)).shape[1] == self.scheme.num_channels
                assert made.parser.get_parsed_content("checked") == str(bundle.resolve())

    def test_another_release_of_the_shared_code(self, released, launch, tmp_path):
        bundle = copy_of(self.root, tmp_path / "another")
        metadata = read_json(bundle / "configs" / "metadata.json")
        (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata | {"common_version": "99.0"}))
        given = ["--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle]
        line = the_line(launch("run", *given, cwd=tmp_path))
        assert "99.0" in line and common.__version__ in line and "one release" in line

    # ------------------------------------------------------------------------------------------------ one preprocessing

    def test_all_runs_have_one_network_and_one_plan(self, dataset, released):
        found = {}
        for config in ("train", "evaluate", "inference"):
            with undone():
                made = workflow(self.root, config)
                made.parser.parse(reset=True)
                parsed = {key: made.parser.get_parsed_content(key) for key in ("plan", "label_scheme", "num_classes")}
                network = made.parser.get_parsed_content("network_def")
                shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
                found[config] = parsed | {"network": str(network), "shapes": shapes, "def": made.parser["network_def"]}
        assert found["train"] == found["evaluate"] == found["inference"]
        assert found["train"]["num_classes"] == self.scheme.num_channels

    def test_all_runs_preprocess_alike(self, dataset):
        item = {"image": str(dataset / "images" / "case0.nii.gz"), "label": str(dataset / "labels" / "case0.nii.gz")}
        results = []
        for config, key in (
            ("inference", "preprocessing"),
            ("train", "train#deterministic_transforms"),
            ("train", "validate#preprocessing"),
            ("evaluate", "validate#preprocessing"),
        ):
            with undone():
                made = workflow(self.root, config)
                made.parser.parse(reset=True)
                steps = made.parser.get_parsed_content(key)
                results.append(monai.transforms.Compose(steps)(dict(item))["image"])
        assert len({tuple(result.shape) for result in results}) == 1
        for result in results[1:]:
            assert torch.equal(result.as_tensor(), results[0].as_tensor())
            assert torch.equal(result.affine, results[0].affine)

    @pytest.mark.parametrize(
        ("kind", "output_format", "file"),
        [
            ("mha", None, "scan_seg.mha"),
            ("nrrd", None, "scan_seg.nrrd"),
            ("dicom", None, "series_seg.nii.gz"),
            ("enhanced", None, "enhanced_seg.nii.gz"),
            ("nii", "nrrd", "scan_seg.nrrd"),
        ],
    )
    def test_other_formats(self, kind, output_format, file, released, tmp_path):
        """The label map lies where the scan does, whatever both are stored as."""
        array, affine = picture(), affine_of((4, 1.2, 1.3), (0.15, -0.2, 0.1))
        source = write_scan(tmp_path / "in", kind, array, affine)
        ids = {**self.tiny, "bundle_root": str(released), "input": str(source), "output_dir": str(tmp_path / "out")}
        run(released, "inference", **ids, output_format=output_format)
        labels, its = open_elsewhere(tmp_path / "out" / file)
        whole, wanted = read_scan(source)
        assert labels.shape == whole.shape
        np.testing.assert_allclose(its, wanted["affine"], atol=1e-3)

    def test_a_data_set_of_all_formats(self, dataset, released, scratch):
        """It trains, and it is scored as the same set in NIfTI."""
        kinds = ("mha", "nrrd", "dicom", "nhdr", "nii", "mhd")
        cases = read_json(dataset / "index.json")["cases"]
        for number, (case, kind) in enumerate(zip(cases, kinds, strict=True)):
            for key, form in (("image", kind), ("label", "nii.gz" if kind == "dicom" else kinds[number - 1])):
                image = nib.load(dataset / case[key])
                array = np.asarray(image.dataobj)
                place = scratch / "data" / f"{key}s"
                place.mkdir(parents=True, exist_ok=True)
                if form == "dicom" and key == "image":
                    write_slices(place / case["id"], array, LPS @ image.affine)
                elif form.startswith("nii") or form == "dicom":
                    nib.save(nib.Nifti1Image(array, image.affine), place / f"{case['id']}.nii.gz")
                else:
                    write_itk(place / f"{case['id']}.{form}", array, image.affine)
        output = self.train(scratch / "data", scratch / "run", max_epochs=1)
        assert read_csv(output / "history.csv")[0]["val_mean_dice"]
        plain = shutil.copytree(dataset, scratch / "plain", ignore=shutil.ignore_patterns("index.json"))
        training = {key: self.training[key] for key in ("num_folds", "num_validation")}
        tables = []
        for folder in (plain, scratch / "data"):
            ids = {**self.tiny, **training, "dataset_dir": str(folder), "output_dir": str(folder / "out")}
            run(released, "evaluate", part="all", **ids)
            tables.append(read_csv(folder / "out" / "dice.csv"))
        assert tables[0] == tables[1] and len({row["case"] for row in tables[0]}) == 6

    # ------------------------------------------------------------------------------------------------ several processes

    @pytest.mark.parametrize(("part", "count"), [("heldout", 3), ("validation", 1)])
    def test_evaluation_in_two_processes_is_that_of_one(self, part, count, dataset, trained, tmp_path):
        # an odd number of cases, and fewer than processes: nobody waits for the other, no case comes twice
        listing = read_json(dataset / "index.json")
        for number, case in enumerate(listing["cases"]):
            case["fold"] = int(number < 3)
        datalist = tmp_path / "folds.json"
        datalist.write_text(json.dumps(listing), encoding="utf-8")
        ids = {**self.tiny, "dataset_dir": str(dataset), "datalist": str(datalist), "num_folds": 2, "fold": 1}
        ids |= {"part": part, "checkpoint": str(trained / "model.pt")}
        run(self.root, "evaluate", **ids, output_dir=str(tmp_path / "one"))
        run_in_ranks(self.root, "evaluate", 2, **ids, output_dir=tmp_path / "two")
        assert len({row["case"] for row in read_csv(tmp_path / "one" / "dice.csv")}) == count
        assert (tmp_path / "one" / "dice.csv").read_bytes() == (tmp_path / "two" / "dice.csv").read_bytes()

    def test_training_in_two_processes(self, dataset, scratch):
        ids = {**self.tiny, **self.training, "dataset_dir": dataset, "output_dir": scratch, "max_epochs": 2}
        run_in_ranks(self.root, "train", 2, **ids)
        history = read_csv(scratch / "history.csv")
        assert [row["epoch"] for row in history] == ["1", "2"]
        assert float(history[1]["loss"]) < float(history[0]["loss"])
        weights = torch.load(scratch / "model.pt", weights_only=True)
        assert not [name for name in weights if name.startswith("module.")]
        run_in_ranks(self.root, "train", 2, **(ids | {"max_epochs": 3, "resume": "true"}))
        assert [row["epoch"] for row in read_csv(scratch / "history.csv")] == ["1", "2", "3"]

    # ---------------------------------------------------------------------------------------------------------- errors

    @pytest.fixture(scope="class")
    def places(self, dataset: Path, trained: Path, released: Path, scans: Path, shared: Path) -> dict[str, str]:
        """Paths that mistakes name."""
        folder = shared / "places"
        (folder / "empty").mkdir(parents=True)
        (folder / "file").write_text("text")
        torch.save({"weight": torch.zeros(2)}, folder / "another.pt")
        strange = shutil.copytree(dataset, folder / "strange")
        label = nib.load(strange / "labels" / "case1.nii.gz")
        values = np.array(label.dataobj)
        values[0, 0, 0] = 42
        nib.save(nib.Nifti1Image(values, label.affine), strange / "labels" / "case1.nii.gz")
        moved = read_json(dataset / "index.json")["cases"]
        image = dataset / moved[1]["image"]
        elsewhere, label = folder / "elsewhere.nii.gz", nib.load(dataset / moved[1]["label"])
        nib.save(nib.Nifti1Image(np.asarray(label.dataobj), label.affine + 10 * np.eye(4, k=3)), elsewhere)
        moved[1]["label"] = str(elsewhere)
        (folder / "moved.json").write_text(json.dumps({"cases": moved}), encoding="utf-8")
        other = folder / "other"
        (other / "configs").mkdir(parents=True)
        (other / "configs" / "metadata.json").write_text('{"bundle": "other"}')
        shutil.copytree(ROOT / "common", other / "common", ignore=shutil.ignore_patterns("__pycache__"))
        return {
            "missing": str(folder / "missing"),
            "empty": str(folder / "empty"),
            "file": str(folder / "file"),
            "another": str(folder / "another.pt"),
            "strange": str(strange),
            "moved": str(folder / "moved.json"),
            "image": str(image),
            "elsewhere": str(elsewhere),
            "other": str(other),
            "trained": str(trained),
            "broken": str(scans / BAD_SCANS["truncated"].name),
            "checkpoint": str(released / "models" / "model.pt"),
            "scan": str(scans / "RAS.nii.gz"),
        }

    def test_mistake(self, mistake, places, dataset, launch, scratch, tmp_path):
        ids: dict[str, Any] = {"bundle_root": self.root, "output_dir": scratch / "output", **self.tiny}
        if mistake.config == "inference":
            ids |= {"input": places["scan"], "checkpoint": places["checkpoint"]}
        else:
            ids |= {**self.training, "dataset_dir": dataset, "max_epochs": 2}
        if mistake.config == "evaluate":
            ids |= {"checkpoint": places["checkpoint"]}
        named = places | {"output": str(scratch / "output")}
        given = {key: value.format(**named) if isinstance(value, str) else value for key, value in mistake.ids.items()}
        ids = {key: value for key, value in (ids | given).items() if value is not None}
        log = Path(str(ids["output_dir"])) / "log.txt"
        logged_before = log.read_text(encoding="utf-8") if log.is_file() else ""

        files = files_of(self.root, mistake.config)
        config = files[0] if len(files) == 1 else str(files)
        line = the_line(launch("run", "--config_file", config, *words(ids), cwd=tmp_path))

        for pattern in mistake.says:
            text = pattern.format(**named) if pattern.startswith("{") else pattern
            assert text in line, f"{text!r} is not in {line!r}"
        if mistake.logged:
            assert TRACE in log.read_text(encoding="utf-8")[len(logged_before) :]

    def test_weights_of_other_settings(self, released, scans, launch, tmp_path):
        name, value = self.other_setting
        ids = {**self.tiny, name: value, "bundle_root": released, "input": scans, "output_dir": tmp_path / "out"}
        config = released / "configs" / "inference.json"
        line = the_line(launch("run", "--config_file", config, *words(ids), cwd=tmp_path))
        trained = json.dumps(self.tiny[name], separators=(",", ":"))
        assert str(released / "models" / "model.pt") in line and f"pass --{name} '{trained}'" in line

    @pytest.mark.parametrize("part", ["train", "validate"])
    def test_bad_cases_are_named_before_they_are_used(self, part, dataset, tmp_path):
        with undone():
            made = workflow(self.root, "train", **self.tiny)
            made.parser.parse(reset=True)
            content = made.parser.get_parsed_content(f"{part}#preprocessing")
            label = str(dataset / "labels" / "case0.nii.gz")
            for bad in BAD_SCANS.values():
                path = bad.make(tmp_path)
                with pytest.raises(RuntimeError) as error:
                    content({"image": str(path), "label": label})
                line = str(_first_cause(error.value))
                assert line.startswith(f"{path}: ") and bad.problem in line
            image, reference = str(dataset / "images" / "case0.nii.gz"), nib.load(label)
            values = np.asarray(reference.dataobj)
            for voxels, affine, problem in (
                (values[..., :-1], reference.affine, f"its image {image} has "),
                (values, reference.affine @ np.diag([-1, 1, 1, 1]), f"does not lie where its image {image} does"),
                (np.where(values == 1, np.nan, values), reference.affine, "label values outside 0..19 (nan)"),
                (np.stack([values, values], axis=-1), reference.affine, "is not one 3D volume"),
            ):
                nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "label.nii")
                with pytest.raises(RuntimeError) as error:
                    content({"image": image, "label": str(tmp_path / "label.nii")})
                line = str(_first_cause(error.value))
                assert line.startswith(f"{tmp_path}/label.nii: ") and problem in line

    def test_full_disk(self, trained, dataset, released, scans, launch, scratch):
        """No file can grow beyond a limit: one line, nothing half written, and what was there is as it was."""
        output = shutil.copytree(trained, scratch / "trained")
        before = {name: data for name, data in content_of(output).items() if name.endswith(".pt")}
        ids = {**self.tiny, **self.training, "bundle_root": self.root, "dataset_dir": dataset, "output_dir": output}
        command = ["run", "--config_file", files_of(self.root, "train")[0]]
        line = the_line(
            launch(*command, *words(ids | {"max_epochs": 4, "resume": "true"}), cwd=scratch, largest_file=50_000)
        )
        assert f"{output}/model" in line and "cannot be written (File too large); free space" in line
        after = content_of(output)
        assert {name: data for name, data in after.items() if name.endswith(".pt")} == before
        assert not [name for name in after if ".tmp" in name]

        ids = {**self.tiny, "bundle_root": released, "input": scans / "RAS.nii.gz", "output_dir": scratch / "out"}
        command = ["run", "--config_file", files_of(released, "inference")[0]]
        line = the_line(launch(*command, *words(ids), cwd=scratch, largest_file=3_000))
        assert f"{scratch}/out/RAS_overlay.png: cannot be written (File too large); free space" in line
        assert {path.name for path in (scratch / "out").iterdir()} == {
            "RAS_seg.nii.gz", "labels.ctbl", "labels_itksnap.txt", "log.txt", "volumes.csv",
        }  # fmt: skip

    # -------------------------------------------------------------------------------------------------- names of files

    def test_a_whole_run_under_any_name(self, dataset, scratch, monkeypatch):
        folder = scratch / "Frau Müller 脊柱 'a' \"b\" $c @d %e {f} [g]"
        data = shutil.copytree(dataset, folder / "data")
        monkeypatch.chdir(folder)
        trained = self.train(data, folder / "run", max_epochs=1)
        ids = {**self.tiny, "dataset_dir": str(data), "checkpoint": str(trained / "model.pt")}
        training = {key: self.training[key] for key in ("num_folds", "num_validation")}
        run(self.root, "evaluate", output_dir=str(folder / "eval"), **ids, **training)
        assert read_csv(folder / "eval" / "dice.csv")
        run(self.root, "inference", output_dir=str(folder / "seg"), **ids)
        assert len(list((folder / "seg").glob("case*_seg.nii.gz"))) == 6
        assert not [path for path in scratch.iterdir() if path != folder]

    def test_names_that_the_command_line_could_misread(self, released, launch, tmp_path):
        """A series by its UID, below a folder with a '#', from a shell's words to files."""
        name = "脊柱 'é' #1 $x @y %z"
        voxels = picture()
        series = write_slices(tmp_path / name / "$t1", voxels, np.diag([1.0, 1, 4, 1]))
        write_slices(series, voxels, np.diag([1.0, 1, 4, 1]), [f"b{k}" for k in range(8)], series=SERIES)
        output = tmp_path / "out 脊 'é' $x @y %z"
        ids = {**self.tiny, "bundle_root": released, "input": f"{series}#{SERIES}", "output_dir": output}
        finished = launch("run", "--config_file", files_of(released, "inference")[0], *words(ids), cwd=tmp_path)
        assert finished.status == 0 and not finished.err, finished.err
        (labels,) = output.glob("*_seg.nii.gz")
        assert read_json(output / labels.name.replace(".nii.gz", ".json"))["input"]["file"] == f"{series}#{SERIES}"

    # -------------------------------------------------------------------------------------------------------- training

    def test_what_a_training_leaves(self, trained, dataset):
        assert {path.name for path in trained.iterdir()} == {
            "history.csv", "log.txt", "model.json", "model.pt", "model_last.json", "model_last.pt", "provenance.json",
            "split.json", "training_state.pt",
        }  # fmt: skip
        origin = read_json(trained / "provenance.json")
        assert origin["bundle"] == self.name and origin["weights"]["sha256"] == sha256_of(trained / "model.pt")
        weights = torch.load(trained / "model.pt", weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in weights.values())
        split = read_json(trained / "split.json")
        parts = [set(split[part]) for part in ("train", "validation", "test")]
        assert set.union(*parts) == {f"case{i}" for i in range(6)} and sum(map(len, parts)) == 6
        assert split["dataset_dir"] == str(dataset)
        plan = read_json(trained / "model.json")
        assert plan["learned"] == sorted(s.value for s in self.scheme.structures)
        assert {key: plan[key] for key in self.tiny if key in plan} == {k: v for k, v in self.tiny.items() if k in plan}
        assert not list((self.root / "models").glob("*.tmp*"))

    def test_the_loss_falls(self, trained):
        losses = [float(row["loss"]) for row in read_csv(trained / "history.csv")]
        assert len(losses) == 3 and losses[-1] < 0.9 * losses[0]

    def scores(self, dataset: Path, checkpoint: Path) -> dict[str, float]:
        """Validate weights anew."""
        with undone():
            made = workflow(self.root, "train", **self.tiny, **self.training, dataset_dir=str(dataset))
            made.parser.parse(reset=True)
            made.parser.get_parsed_content("network").load_state_dict(torch.load(checkpoint, weights_only=True))
            evaluator = made.parser.get_parsed_content("validate#evaluator")
            evaluator.run()
            return dict(evaluator.state.metrics)

    def test_the_best_epochs_weights_are_kept(self, trained, dataset):
        history = read_csv(trained / "history.csv")
        best = max(history, key=lambda row: float(row["val_mean_dice"]))
        state = torch.load(trained / "training_state.pt", weights_only=True)
        assert state["best_epoch"] == int(best["epoch"]) and state["epoch"] == len(history)
        for file, row in (("model.pt", best), ("model_last.pt", history[-1])):
            scores = self.scores(dataset, trained / file)
            assert scores["val_mean_dice"] == pytest.approx(float(row["val_mean_dice"]), abs=1e-6)
            assert scores["val_accuracy"] == pytest.approx(float(row["val_accuracy"]), abs=1e-6)

    # A patience of 0 lets the schedule act within the four epochs: its state has to be there again.
    @pytest.mark.parametrize(
        ("epochs", "pause", "ids"),
        [(4, 2, {"lr_patience": 0}), (2, 1, {"num_workers": 2, "selection": "accuracy"})],
        ids=["in one process", "with workers, by accuracy"],
    )
    def test_a_resumed_training_equals_one_without_a_break(self, epochs, pause, ids, dataset, scratch):
        whole = self.train(dataset, scratch / "whole", max_epochs=epochs, **ids)
        self.train(dataset, scratch / "parts", max_epochs=pause, **ids)
        first = (scratch / "parts" / "history.csv").read_text()
        parts = self.train(dataset, scratch / "parts", max_epochs=epochs, resume=True, **ids)

        history = (whole / "history.csv").read_text()
        assert history.startswith(first) and len(history.splitlines()) == epochs + 1
        assert (parts / "history.csv").read_text() == history
        for file in ("model.pt", "model_last.pt", "training_state.pt"):
            states = [torch.load(folder / file, weights_only=True) for folder in (whole, parts)]
            assert equal(*states), f"{file} differs"
        assert not equal(torch.load(whole / "model_last.pt"), torch.load(self.first_weights(scratch)))
        state = torch.load(whole / "training_state.pt", weights_only=True)
        key = "val_accuracy" if ids.get("selection") == "accuracy" else "val_mean_dice"
        assert state["best"] == max(float(row[key]) for row in read_csv(whole / "history.csv"))

    def first_weights(self, folder: Path) -> Path:
        """Weights before any training."""
        with undone():
            made = workflow(self.root, "train", **self.tiny)
            made.parser.parse(reset=True)
            monai.utils.set_determinism(seed=0)
            torch.save(made.parser.get_parsed_content("network").state_dict(), folder / "first.pt")
        return folder / "first.pt"

    def test_the_seed_decides(self, trained, dataset, scratch):
        same = self.train(dataset, scratch / "same", max_epochs=1)
        other = self.train(dataset, scratch / "other", max_epochs=1, seed=1)
        first = [read_csv(folder / "history.csv")[0] for folder in (trained, same, other)]
        assert first[0] == first[1]
        assert first[0]["loss"] != first[2]["loss"]

    def test_resuming_a_finished_training_changes_nothing(self, trained, dataset, launch, tmp_path):
        before = content_of(trained)
        ids = {**self.tiny, **self.training, "dataset_dir": dataset, "output_dir": trained, "max_epochs": 3}
        ids |= {"bundle_root": self.root, "resume": "true"}
        finished = launch("run", "--config_file", files_of(self.root, "train")[0], *words(ids), cwd=tmp_path)
        assert finished.status == 0 and not finished.err, finished.err
        assert "finished" in finished.out
        after = content_of(trained)
        assert {name: data for name, data in after.items() if name != "log.txt"} == {
            name: data for name, data in before.items() if name != "log.txt"
        }

    # ------------------------------------------------------------------------------------------------------- inference

    def test_bad_scans_are_counted_and_the_rest_is_done(self, segmented, scans):
        output, finished = segmented
        # Among others, DICOM without an image is no scan at all, and passed over.
        bad = {str(scans / one.name): one.problem for name, one in BAD_SCANS.items() if name != "no image"}
        bad[str(scans / "scaled.nrrd")] = "has the same name as"
        good = {path.name.split(".nii")[0] for path in scans.iterdir()} - {
            Path(path).name.split(".nii")[0] for path in bad
        }
        good -= {BAD_SCANS["no image"].name}
        line = the_line(finished)
        assert finished.status == 1
        assert line.startswith(
            f"error: {scans}: {len(bad)} of {len(good) + len(bad)} scans were left out (first: {scans}/"
        )
        told = finished.out.splitlines()
        for path, problem in bad.items():
            assert len([word for word in told if f" {path}: " in word and problem in word]) == 1, path
        assert {path.name for path in output.glob("*_seg.nii.gz")} == {f"{name}_seg.nii.gz" for name in good}
        assert TRACE not in finished.out

    def test_label_maps_lie_on_their_scans(self, segmented, scans):
        output, _ = segmented
        allowed = {0, *(s.value for s in self.scheme.structures)}
        for path in sorted(output.glob("*_seg.nii.gz")):
            name = path.name.removesuffix("_seg.nii.gz")
            scan, labels = nib.load(next(scans.glob(f"{name}.nii*"))), nib.load(path)
            assert labels.shape == scan.shape[:3], name
            assert labels.get_data_dtype() == np.uint8 and labels.header.get_slope_inter() in ((None, None), (1, 0)), (
                name
            )
            np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-5, err_msg=name)
            for form in ("sform", "qform"):
                code = f"{form}_code"
                assert int(labels.header[code]) == int(scan.header[code]), f"{name}: {code}"
                matrices = [getattr(image, f"get_{form}")() for image in (labels, scan)]
                np.testing.assert_allclose(*matrices, atol=1e-4, err_msg=f"{name}: {form}")
            zooms = labels.header.get_zooms()
            np.testing.assert_allclose(zooms, scan.header.get_zooms()[:3], rtol=1e-5, err_msg=name)
            assert set(np.unique(labels.dataobj)) <= allowed, name

    def test_volumes_agree_with_the_label_maps(self, segmented):
        output, _ = segmented
        rows = read_csv(output / "volumes.csv")
        found = {(row["file"], int(row["value"])): row for row in rows}
        assert len(found) == len(rows)
        names = {s.value: s.name for s in self.scheme.structures}
        expected = 0
        for path in output.glob("*_seg.nii.gz"):
            image = nib.load(path)
            voxel = abs(np.linalg.det(image.affine[:3, :3])) / 1000
            for value, count in zip(*np.unique(np.asarray(image.dataobj), return_counts=True), strict=True):
                if value:
                    row = found[path.name, int(value)]
                    assert int(row["voxels"]) == count and row["structure"] == names[value]
                    assert row["case"] == path.name.removesuffix("_seg.nii.gz")
                    assert float(row["volume_ml"]) == pytest.approx(count * voxel, abs=6e-4)
                    expected += 1
        assert expected == len(rows) > 0

    def test_colour_tables_pictures_and_provenance(self, segmented, released, scans):
        output, _ = segmented
        slicer = dict(line.split()[:2] for line in (output / "labels.ctbl").read_text().splitlines() if line[0] != "#")
        assert slicer["11"] == "L5/S" and slicer["0"] == "background"
        assert re.search(r'^\s*11 .*"L5/S"$', (output / "labels_itksnap.txt").read_text(), re.MULTILINE)
        for path in output.glob("*_seg.nii.gz"):
            name = path.name.removesuffix("_seg.nii.gz")
            with Image.open(output / f"{name}_overlay.png") as picture:
                picture.load()
                assert np.ptp(np.asarray(picture.convert("L"))) > 0
            origin = read_json(output / f"{name}_seg.json")
            assert origin["bundle"] == self.name
            assert origin["weights"]["sha256"] == sha256_of(released / "models" / "model.pt")
            assert origin["input"]["sha256"] == sha256_of(next(scans.glob(f"{name}.nii*")))
            assert {key: origin["settings"][key] for key in self.tiny if key in origin["settings"]}.items() <= dict(
                self.tiny
            ).items()
            assert origin["libraries"]["torch"] == torch.__version__

    def test_a_second_run_keeps_other_cases(self, segmented, released, scans, tmp_path):
        output = shutil.copytree(segmented[0], tmp_path / "out")
        before = read_csv(output / "volumes.csv")
        run(
            released, "inference", overlay="false", input=str(scans / "LAS.nii.gz"), output_dir=str(output), **self.tiny
        )
        after = read_csv(output / "volumes.csv")
        others = [row for row in before if row["case"] != "LAS"]
        assert [row for row in after if row["case"] != "LAS"] == others and others
        assert len(after) == len(before)

    @pytest.fixture(scope="class")
    def found_block(self, released: Path, tmp_path_factory) -> Path:
        """Weights for :class:`BlockFinder`, which has none."""
        path = tmp_path_factory.mktemp("block") / "model.pt"
        torch.save({}, path)
        return path

    def test_every_orientation_gives_the_same_structure(self, found_block, tmp_path):
        picture, block, affine = block_scan()
        for code in ORIENTATIONS:
            write_nifti(tmp_path / "scans" / f"{code}.nii.gz", picture, affine, code)
            write_nifti(tmp_path / "truth" / f"{code}.nii.gz", block.astype(np.uint8), affine, code)
        structure = self.scheme.structures[-1]  # a disc: its channel is not its value where T9 is no class
        ids = {**self.whole, "input": str(tmp_path / "scans"), "output_dir": str(tmp_path / "out"), "overlay": False}
        finder = BlockFinder(self.scheme.num_channels, structure.channel)
        run(self.root, "inference", network_def=finder, checkpoint=str(found_block), **ids)
        for code in ORIENTATIONS:
            labels = np.asarray(nib.load(tmp_path / "out" / f"{code}_seg.nii.gz").dataobj)
            truth = np.asarray(nib.load(tmp_path / "truth" / f"{code}.nii.gz").dataobj) > 0
            assert set(np.unique(labels)) == {0, structure.value}
            assert overlap(labels > 0, truth) > 0.93, code

    @pytest.mark.parametrize("largest", ["true", "false"])
    def test_largest_component(self, largest, found_block, tmp_path):
        picture, block, affine = block_scan()
        picture[9:12, 26:34, 5:14] += 500  # a second, smaller block
        file = write_nifti(tmp_path / "scan.nii.gz", picture, affine)
        structure = self.scheme.structures[0]
        ids = {**self.whole, "input": str(file), "output_dir": str(tmp_path), "overlay": "false"}
        finder = BlockFinder(self.scheme.num_channels, structure.channel)
        run(self.root, "inference", network_def=finder, checkpoint=str(found_block), largest_component=largest, **ids)
        found = np.asarray(nib.load(tmp_path / "scan_seg.nii.gz").dataobj) == structure.value
        assert ndimage.label(found)[1] == (1 if largest == "true" else 2)
        assert overlap(found[:9], block[:9]) > 0.9

    # ------------------------------------------------------------------------------------------------------ evaluation

    @pytest.fixture(scope="class")
    def evaluated(self, released: Path, dataset: Path, shared: Path) -> Path:
        """The evaluation of all cases with random weights, and beside it their label maps."""
        ids = {**self.tiny, "dataset_dir": str(dataset)}
        output = shared / "evaluated"
        training = {key: self.training[key] for key in ("num_folds", "num_validation")}
        run(released, "evaluate", part="all", group_by="sequence", output_dir=str(output), **ids, **training)
        # no `input`: the data set is what is segmented
        run(released, "inference", output_dir=str(output / "labels"), overlay=False, **ids)
        return output

    def brute_force(self, evaluated: Path, dataset: Path) -> dict[tuple[str, str], float]:
        """Dice of each drawn structure of each case, from label maps."""
        result = {}
        for case in read_json(dataset / "index.json")["cases"]:
            labels = np.asarray(nib.load(evaluated / "labels" / f"{case['id']}_seg.nii.gz").dataobj)
            truth = np.asarray(nib.load(dataset / case["label"]).dataobj)
            for structure in self.scheme.structures:
                if structure.value in case.get("labelled", [structure.value]):
                    a, b = labels == structure.value, truth == structure.value
                    result[case["id"], structure.name] = overlap(a, b) if a.any() or b.any() else float("nan")
        return result

    def test_dice_is_that_of_the_label_maps(self, evaluated, dataset):
        rows = read_csv(evaluated / "dice.csv")
        expected = self.brute_force(evaluated, dataset)
        assert [key for key in expected if key[0] == "case5"] != []
        assert {(row["case"], row["structure"]) for row in rows} == expected.keys()  # nothing that was not drawn
        assert any(value > 0 for value in expected.values())
        for row in rows:
            dice = expected[row["case"], row["structure"]]
            assert row["dice"] == "" if np.isnan(dice) else float(row["dice"]) == pytest.approx(dice, abs=1e-5)
            image = nib.load(dataset / "images" / f"{row['case']}.nii.gz")
            voxel = abs(np.linalg.det(image.affine[:3, :3])) / 1000
            assert float(row["reference_ml"]) == pytest.approx(int(row["reference_voxels"]) * voxel, abs=6e-4)

    def test_the_summary_is_that_of_the_table(self, evaluated, dataset, released):
        expected = {key: value for key, value in self.brute_force(evaluated, dataset).items() if not np.isnan(value)}

        def means(cases: Sequence[str]) -> list[float]:
            return [float(np.mean([dice for (name, _), dice in expected.items() if name == case])) for case in cases]

        summary = read_json(evaluated / "summary.json")
        everyone = [f"case{i}" for i in range(6)]
        assert summary["dice"]["mean"] == pytest.approx(np.mean(means(everyone)), abs=1e-5)
        assert summary["dice"]["sd"] == pytest.approx(np.std(means(everyone), ddof=1), abs=1e-5)
        assert summary["dice"]["cases"] == 6
        assert set(summary["groups"]) == {"T1", "T2"}
        for group, cases in (("T2", everyone[::2]), ("T1", everyone[1::2])):
            assert summary["groups"][group]["dice"]["mean"] == pytest.approx(np.mean(means(cases)), abs=1e-5)
        for name, row in summary["structures"].items():
            dice = [value for (_, structure), value in expected.items() if structure == name]
            assert row["mean"] == pytest.approx(np.mean(dice), abs=1e-5) and row["cases"] == len(dice)
        assert summary["provenance"]["weights"]["sha256"] == sha256_of(released / "models" / "model.pt")

    def test_evaluation_and_inference_keep_the_same_components(self, found_block, dataset, tmp_path):
        structure = self.scheme.structures[0]
        finder = BlockFinder(self.scheme.num_channels, structure.channel)
        ids = {**self.tiny, "dataset_dir": str(dataset), "network_def": finder, "checkpoint": str(found_block)}
        training = {key: self.training[key] for key in ("num_folds", "num_validation")}
        counts = {}
        for largest in ("true", "false"):
            output = tmp_path / largest
            given = {**ids, "largest_component": largest, "output_dir": str(output)}
            run(self.root, "evaluate", part="all", **given, **training)
            run(self.root, "inference", overlay="false", **given)
            rows = [row for row in read_csv(output / "dice.csv") if row["structure"] == structure.name]
            counts[largest] = {row["case"]: int(row["predicted_voxels"]) for row in rows}
            written = {row["case"]: int(row["voxels"]) for row in read_csv(output / "volumes.csv")}
            assert written == counts[largest]
        assert sum(counts["true"].values()) < sum(counts["false"].values())

    @pytest.mark.parametrize("part", ["validation", "test", "heldout"])
    def test_parts(self, part, released, dataset, trained, tmp_path):
        training = {key: self.training[key] for key in ("num_folds", "num_validation")}
        ids = {**self.tiny, **training, "dataset_dir": str(dataset), "output_dir": str(tmp_path)}
        run(released, "evaluate", part=part, **ids)
        split = read_json(trained / "split.json")
        expected = split["validation"] + split["test"] if part == "heldout" else split[part]
        assert {row["case"] for row in read_csv(tmp_path / "dice.csv")} == set(expected)

    # ---------------------------------------------------------------------------------------------- host applications

    def test_a_host_trains_the_bundle(self, released, dataset, scratch, monkeypatch):
        """MONAI Label's overrides: items with image and label alone, the device as a word, a loader in front."""
        monkeypatch.chdir(scratch)
        bundle = copy_of(released, scratch / self.name)
        before = torch.load(bundle / "models" / "model.pt", weights_only=True)
        config = ConfigParser()
        config.read_config(bundle / "configs" / "train.json")
        items = [
            {key: str(dataset / f"{key}s" / f"case{i}.nii.gz") for key in ("image", "label")} for i in (0, 1, 2, 3)
        ]
        loader = {
            "_target_": "CheckpointLoader",
            "load_path": str(bundle / "models" / "model.pt"),
            "load_dict": {"model": "$@network"},
        }
        tiny = {key: value for key, value in {**self.tiny, **self.training}.items() if not key.startswith("num_")}
        with undone():
            monai.bundle.run(
                run_id="run",
                init_id="initialize",
                meta_file=str(bundle / "configs" / "metadata.json"),
                config_file=str(bundle / "configs" / "train.json"),
                logging_file=False,
                **tiny,
                **{
                    "bundle_root": str(bundle),
                    "device": "cpu",
                    "train#trainer#max_epochs": 1,
                    "train#dataset#data": items[:3],
                    "validate#dataset#data": items[3:],
                    "train#handlers": [loader, *config.get("train#handlers")],
                },
            )
        after = torch.load(bundle / "models" / "model.pt", weights_only=True)
        assert before.keys() == after.keys() and not equal(before, after)
        assert not (bundle / "data").exists()  # no phantom is made
        plan = read_json(bundle / "models" / "model.json")
        assert plan["learned"] == sorted(s.value for s in self.scheme.structures)
        # What it left is what inference takes.
        with undone():
            made = workflow(bundle, "inference", **self.tiny)
            made.parser.parse(reset=True)
            assert made.parser.get_parsed_content("learned") == plan["learned"]

    def host_inference(self, bundle: Path, image: Path, network: torch.nn.Module | None, **ids: Any) -> dict[str, Any]:
        """Do what MONAI Label does with a bundle's inference.json.

        Args:
            bundle: its folder.
            image: the scan.
            network: in the place of the bundle's own with its weights.
            ids: further overrides.
        """
        with undone():
            sys.path.insert(0, str(bundle))
            parser = ConfigParser()
            parser.read_config(bundle / "configs" / "inference.json")
            parser.update({"bundle_root": str(bundle), "device": "cpu", **ids})
            before = parser.get_parsed_content("preprocessing")
            data: dict[str, Any] = {"image": str(image), "image_path": str(image), "label_tag": "final", "model": "x"}
            for step in before.transforms:
                if isinstance(step, monai.transforms.LoadImaged):
                    step.image_only = False
                data = step(data)
            if network is None:
                network = parser.get_parsed_content("network_def")
                weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
                network.load_state_dict(weights.get("model", weights), strict=False)
            network.eval()
            inferer = parser.get_parsed_content("inferer")
            after = parser.get_parsed_content("postprocessing").transforms
            sys.path.remove(str(bundle))  # the bundle has left the path by now
            with torch.no_grad():
                outputs = inferer(data["image"][None].to(torch.device("cpu")), network)
            data["pred"] = decollate_batch(outputs)[0]
            for step in after:
                if not isinstance(step, monai.transforms.SaveImaged):
                    data = step(data)
        return data

    def test_a_host_segments_every_orientation(self, released, found_block, tmp_path):
        picture, block, affine = block_scan()
        structure = self.scheme.structures[-1]
        finder = BlockFinder(self.scheme.num_channels, structure.channel)
        for code in ("RAS", "LPS", "PIR", "SRP"):
            file = write_nifti(tmp_path / f"{code}.nii.gz", picture, affine, code)
            scan = nib.load(file)
            truth = nib.load(write_nifti(tmp_path / "truth" / f"{code}.nii.gz", block.astype(np.uint8), affine, code))
            pred = self.host_inference(self.root, file, finder, checkpoint=str(found_block), **self.whole)["pred"]
            assert isinstance(pred, MetaTensor) and pred.dtype == torch.uint8, code
            assert tuple(pred.shape) == (1, *scan.shape), code
            np.testing.assert_allclose(pred.affine.numpy(), scan.affine, atol=1e-4)
            assert set(np.unique(pred)) == {0, structure.value}, code
            assert overlap(pred[0].numpy() > 0, np.asarray(truth.dataobj) > 0) > 0.93, code

    def test_a_host_gets_what_the_command_line_writes(self, released, segmented, scans):
        pred = self.host_inference(released, scans / "PIR.nii.gz", None, **self.tiny)["pred"]
        written = np.asarray(nib.load(segmented[0] / "PIR_seg.nii.gz").dataobj)
        assert np.array_equal(pred[0].numpy(), written)
