"""What every bundle for MR volumes of the spine has to pass besides what all bundles have to."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from PIL import Image
from scipy import ndimage

from common.data import LabelScheme
from common.data.provenance import sha256_of
from common.data.scan_reader import read_scan
from common.engines.launch import _first_cause
from common.transforms import RandGhostingd
from tests.bad_scans import BAD_SCANS
from tests.bundles.bundle_test_base import TRACE, BundleTests, Mistake, read_csv, read_json, the_line
from tests.bundles.runs import (
    BlockFinder,
    Finished,
    Launcher,
    block_scan,
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
from tests.scan_files import LPS, centre, open_elsewhere, picture, write_itk, write_scan

ORIENTATIONS = ("RAS", "LPS", "PIR", "SRP", "LAS")  # two of them left-handed; the sagittal one is the phantom's
# Each axis may run either way along any of the patient's: 6 orders, 8 senses.
ALL_CODES = ["".join(code) for order in permutations(("RL", "AP", "SI")) for code in product(*order)]


class SpineBundleTests(BundleTests):
    """Trained and evaluated on six phantoms, of which three folds are made."""

    tiny: Mapping[str, Any] = {"spatial_size": [4, 32, 16], "precision": "fp32"}
    split: Mapping[str, Any] = {"num_folds": 3, "num_validation": 1}
    training: Mapping[str, Any] = {**split, "batch_size": 2}
    # Ids under which the network sees all of a scan of 14 x 40 x 44 voxels, about as fine as it is.
    whole: Mapping[str, Any] = {"spatial_size": [14, 48, 48], "precision": "fp32"}
    other_setting = ("spatial_size", [4, 32, 32])
    batch_shape = (2, 1, 4, 32, 16)
    network_ids = ("plan", "label_scheme", "num_classes")
    # Where a training's transforms are (configuration and id), and which spatial axes are in the slices' plane.
    augmented: Sequence[tuple[str, str]] = (("train", "train#preprocessing#transforms"),)
    plane: tuple[int, int]
    metrics = ("val_mean_dice", "val_accuracy")
    segmentation = "_seg.nii.gz"
    quick: Mapping[str, Any] = {"distances": False}
    table = "dice.csv"
    pauses = BundleTests.pauses | {"with workers": (2, 1, {"num_workers": 2, "selection": "accuracy"})}
    mistakes: Mapping[str, Mistake] = {
        "empty data": Mistake("train", {"dataset_dir": "{empty}"}, ["{empty}", "images/", "README"]),
        "no such fold": Mistake("train", {"fold": 3}, ["fold=3", "--fold 0 to 2"]),
        "label outside the scheme": Mistake(
            "train", {"dataset_dir": "{strange}"}, ["case1.nii.gz", "42", "MRSpineSeg"]
        ),
        "the same in a worker": Mistake(
            "train",
            {"dataset_dir": "{strange}", "num_workers": 1, "cache_rate": 0},
            ["case1.nii.gz", "42", "MRSpineSeg"],
        ),
        "too few numbers": Mistake(
            "inference",
            {"spatial_size": "[18,256]"},
            ["--spatial_size [18,256]", "3 whole numbers", "'["],
            logged=False,
        ),
        "a label map that lies elsewhere": Mistake(
            "train",
            {"datalist": "{moved}", "num_workers": 1, "cache_rate": 0},
            ["{elsewhere}", "{image}", "resample it"],
        ),
        "input broken": Mistake("inference", {"input": "{broken}"}, ["{broken}", "cannot be read", "re-export"]),
        "unknown selection": Mistake(
            "train", {"selection": "acuracy"}, ["--selection acuracy", "choose dice or accuracy"]
        ),
        "unknown group": Mistake("evaluate", {"group_by": "scanner"}, ["--group_by scanner", "add it to the datalist"]),
        "unknown scheme": Mistake("train", {"label_scheme": "other"}, ["other", "mrspineseg17"]),
    }

    # ------------------------------------------------------------------------------------------- what the base asks for

    @property
    def scheme(self) -> LabelScheme:
        return LabelScheme.load(ConfigParser.load_config_file(files_of(self.root, "inference")[0])["label_scheme"])

    def cases(self, dataset: Path) -> list[str]:
        return [case["id"] for case in read_json(dataset / "index.json")["cases"]]

    def labelled_item(self, dataset: Path) -> dict[str, Any]:
        return {key: str(dataset / f"{key}s" / "case0.nii.gz") for key in ("image", "label")}

    def host_items(self, dataset: Path) -> list[dict[str, Any]]:
        return [{key: str(dataset / f"{key}s" / f"case{i}.nii.gz") for key in ("image", "label")} for i in range(4)]

    def as_fine_as(self, slices: int) -> dict[str, Any]:
        """Ids under which the network sees all of so many slices of 40 x 44 voxels, 60 mm thick, about as fine."""
        return {"spatial_size": [slices, 48, 48]}

    def check_host_training(self, bundle: Path) -> None:
        plan = read_json(bundle / "models" / "model.json")
        assert plan["learned"] == sorted(s.value for s in self.scheme.structures)
        with undone():
            made = workflow(bundle, "inference", **self.tiny)
            made.parser.parse(reset=True)
            assert made.parser.get_parsed_content("learned") == plan["learned"]

    def key_metric(self, ids: Mapping[str, Any]) -> str:
        return "val_accuracy" if ids.get("selection") == "accuracy" else "val_mean_dice"

    @pytest.fixture(scope="class")
    def example(self, scans: Path) -> Path:
        return scans / "RAS.nii.gz"

    @pytest.fixture(scope="class")
    def own_places(self, dataset: Path, scans: Path, shared: Path) -> dict[str, object]:
        folder = shared / "own_places"
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
        named = {"strange": strange, "moved": folder / "moved.json", "image": image, "elsewhere": elsewhere}
        return named | {"broken": scans / BAD_SCANS["truncated"].name}

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

    def test_metadata_names_what_is_written(self, metadata):
        outputs = metadata["network_data_format"]["outputs"]
        assert outputs["pred"]["channel_def"] == self.scheme.channel_def()
        assert outputs["pred"]["channel_def"]["11"] == "L5/S"
        assert outputs["pred"]["num_channels"] == self.scheme.num_channels
        assert self.scheme.num_channels == ConfigParser.load_config_file(files_of(self.root, "train")[0])["num_classes"]

    # --------------------------------------------------------------------------------------------------- other formats

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
        tables = []
        for folder in (plain, scratch / "data"):
            ids = {**self.tiny, **self.split, "dataset_dir": str(folder), "output_dir": str(folder / "out")}
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

    # ---------------------------------------------------------------------------------------------------------- errors

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

    def test_full_disk_at_inference(self, released, scans, launch, scratch):
        ids = {**self.tiny, "bundle_root": released, "input": scans / "RAS.nii.gz", "output_dir": scratch / "out"}
        command = ["run", "--config_file", files_of(released, "inference")[0]]
        line = the_line(launch(*command, *words(ids), cwd=scratch, largest_file=3_000))
        assert f"{scratch}/out/RAS_overlay.png: cannot be written (File too large); free space" in line
        assert {path.name for path in (scratch / "out").iterdir()} == {
            "RAS_seg.nii.gz", "labels.ctbl", "labels_itksnap.txt", "log.txt", "volumes.csv", "measures.csv",
        }  # fmt: skip

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

    @pytest.mark.parametrize("prob", [None, 0.3])
    def test_ghosts_are_an_option(self, prob):
        """Off by default, as in the paper: nothing is drawn then, so that a training is what it was."""
        for config, key in self.augmented:
            with undone():
                made = workflow(self.root, config, **self.tiny, **({} if prob is None else {"ghosting_prob": prob}))
                made.parser.parse(reset=True)
                steps = made.parser.get_parsed_content(key)
            found = [step for step in steps if isinstance(step, RandGhostingd)]
            assert [step.prob for step in found] == ([] if prob is None else [prob])
            assert all(step.axes == self.plane for step in found)
            assert all(callable(step) for step in steps)

    def test_the_split_is_written(self, trained, dataset):
        split = read_json(trained / "split.json")
        parts = [set(split[part]) for part in ("train", "validation", "test")]
        assert set.union(*parts) == {f"case{i}" for i in range(6)} and sum(map(len, parts)) == 6
        assert read_json(trained / "model.json")["learned"] == sorted(s.value for s in self.scheme.structures)

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
        slicer = dict(
            line.split()[:2]
            for line in (output / "labels.ctbl").read_text(encoding="utf-8").splitlines()
            if line[0] != "#"
        )
        assert slicer["11"] == "L5/S" and slicer["0"] == "background"
        assert re.search(r'^\s*11 .*"L5/S"$', (output / "labels_itksnap.txt").read_text(encoding="utf-8"), re.MULTILINE)
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

    @pytest.mark.parametrize(("slices", "codes"), [(3, ORIENTATIONS), (14, ALL_CODES), (200, ORIENTATIONS)])
    def test_a_shape_is_found_where_it_is(self, slices, codes, found_block, tmp_path):
        """In the world, through the whole inference, within half a voxel along each axis; oblique and anisotropic."""
        box = (slice(slices // 4, slices // 4 + max(slices // 3, 1)), slice(12, 22), slice(21, 38))
        block = np.zeros((slices, 40, 44), dtype=bool)
        block[box] = True
        affine = affine_of((60 / slices, 1.3, 1.2), (0.2, -0.1, 0.3))
        for code in codes:
            write_nifti(tmp_path / "scans" / f"{code}.nii.gz", 40 * noise(block.shape) + 500 * block, affine, code)
        structure = self.scheme.structures[-1]
        ids = {**self.whole, **self.as_fine_as(slices), "input": str(tmp_path / "scans"), "overlay": "false"}
        finder = BlockFinder(self.scheme.num_channels, structure.channel)
        ids |= {"network_def": finder, "checkpoint": str(found_block), "output_dir": str(tmp_path / "out")}
        run(self.root, "inference", **ids)
        truth = centre(block, affine)
        for code in codes:
            found = nib.load(tmp_path / "out" / f"{code}_seg.nii.gz")
            away = centre(np.asarray(found.dataobj) == structure.value, found.affine) - truth
            assert np.abs(np.linalg.solve(found.affine[:3, :3], away)).max() < 0.5, code

    @pytest.mark.parametrize("flips", ["true", "false"])
    def test_flips_leave_the_geometry_alone(self, flips, found_block, tmp_path):
        """What lies on one side stays there, also where an even number of slices has no middle one."""
        picture, block, affine = block_scan()
        file = write_nifti(tmp_path / "scan.nii.gz", picture, affine)
        structure = self.scheme.structures[0]
        ids = {**self.whole, "input": str(file), "output_dir": str(tmp_path), "overlay": "false", "flips": flips}
        finder = BlockFinder(self.scheme.num_channels, structure.channel)
        run(self.root, "inference", network_def=finder, checkpoint=str(found_block), **ids)
        found = nib.load(tmp_path / "scan_seg.nii.gz")
        assert overlap(np.asarray(found.dataobj) == structure.value, block) > 0.93
        np.testing.assert_allclose(found.affine, affine, atol=1e-5)
        assert read_json(tmp_path / "scan_seg.json")["settings"]["flips"] is (flips == "true")

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
        run(released, "evaluate", part="all", group_by="sequence", output_dir=str(output), **ids, **self.split)
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
        counts = {}
        for largest in ("true", "false"):
            output = tmp_path / largest
            given = {**ids, "largest_component": largest, "output_dir": str(output)}
            run(self.root, "evaluate", part="all", **given, **self.split)
            run(self.root, "inference", overlay="false", **given)
            rows = [row for row in read_csv(output / "dice.csv") if row["structure"] == structure.name]
            counts[largest] = {row["case"]: int(row["predicted_voxels"]) for row in rows}
            written = {row["case"]: int(row["voxels"]) for row in read_csv(output / "volumes.csv")}
            assert written == counts[largest]
        assert sum(counts["true"].values()) < sum(counts["false"].values())

    @pytest.mark.parametrize("part", ["validation", "test", "heldout"])
    def test_parts(self, part, released, dataset, trained, tmp_path):
        ids = {**self.tiny, **self.split, "dataset_dir": str(dataset), "output_dir": str(tmp_path)}
        run(released, "evaluate", part=part, **ids)
        split = read_json(trained / "split.json")
        expected = split["validation"] + split["test"] if part == "heldout" else split[part]
        assert {row["case"] for row in read_csv(tmp_path / "dice.csv")} == set(expected)

    # ---------------------------------------------------------------------------------------------- host applications

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
