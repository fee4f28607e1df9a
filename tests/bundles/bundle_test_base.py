"""What every bundle of the collection has to pass, whatever its data are."""

from __future__ import annotations

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
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle.workflows import _apply_logging_file
from monai.data import decollate_batch

import common
from common.data.provenance import sha256_of
from common.engines.launch import refusals
from common.errors import InputError
from common.inferers import AutocastInferer, GatedInferer, HybridInferer
from tests.bundles.host_tests import HostTests
from tests.bundles.runs import (
    ROOT,
    Finished,
    content_of,
    copy_of,
    equal,
    files_of,
    read_csv,
    read_json,
    released_copy,
    run,
    run_in_ranks,
    undone,
    words,
    workflow,
)

SCHEMA = ROOT.parent / "shared" / "schemas" / "meta_schema_20240725.json"
ORIENTATIONS = ("RAS", "LPS", "PIR", "SRP", "LAS")  # two of them left-handed; the sagittal one is the phantom's
TRACE = "Traceback (most recent call last)"


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


def without(content: Any, names: Sequence[str]) -> Any:
    """A configuration without the entries of these names, at any depth."""
    if not isinstance(content, dict):
        return content
    return {name: without(value, names) for name, value in content.items() if name not in names}


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
    "empty data": Mistake("train", {"dataset_dir": "{empty}"}, ["{empty}", "README"]),
    "data is a file": Mistake("train", {"dataset_dir": "{file}"}, ["{file}", "is not a folder", "--dataset_dir"]),
    "holds a training": Mistake(
        "train", {"output_dir": "{trained}"}, ["{trained}", "--resume true", "another --output_dir"]
    ),
    "nothing to resume": Mistake("train", {"resume": "true"}, ["{output}", "leave --resume out"]),
    "unknown precision": Mistake("train", {"precision": "fp8"}, ["--precision fp8", "fp32"]),
    "unknown schedule": Mistake("train", {"schedule": "linear"}, ["--schedule linear", "plateau, step or cosine"]),
    "loss not finite": Mistake("train", {"lr": "1e30"}, ["loss", "--lr"]),
    "not writable": Mistake("train", {"output_dir": "{file}"}, ["{file}", "--output_dir"], logged=False),
    "no number": Mistake("train", {"lr": "abc"}, ["--lr abc", "not a number", "--lr 0.0"], logged=False),
    "no such device": Mistake("inference", {"device": "gpu"}, ["--device gpu", "--device cpu"], logged=False),
    "a folder that cannot be made": Mistake("train", {"output_dir": "/proc/out"}, ["/proc/out", "--output_dir"], False),
    "a path that MONAI changes": Mistake("train", {"output_dir": "a#b"}, ["--output_dir a#b", "without it"], False),
    "nothing to start from": Mistake("train", {"init_checkpoint": "{missing}"}, ["{missing}", "no weights"]),
    "several processes without torchrun": Mistake(
        "multi_gpu_train", {}, ["multi_gpu: needs several processes", "torchrun"], logged=False
    ),
    "nothing to evaluate": Mistake("evaluate", {"checkpoint": "{missing}"}, ["{missing}", "--checkpoint"]),
    "no such part": Mistake("evaluate", {"part": "tset"}, ["part=tset", "test"]),
    "no weights": Mistake("inference", {"checkpoint": "{missing}"}, ["{missing}", "--checkpoint"]),
    "no input": Mistake("inference", {"input": None}, ["input", "--input"]),
    "input missing": Mistake("inference", {"input": "{missing}"}, ["{missing}", "--input"]),
    "weights of another network": Mistake(
        "inference", {"checkpoint": "{another}"}, ["{another}", "does not fit this network", "same settings"]
    ),
    "weights are none": Mistake("inference", {"checkpoint": "{file}"}, ["{file}", "not a file of weights"]),
    "another bundle's folder": Mistake("inference", {"bundle_root": "{other}"}, ["{other}", "--bundle_root"], False),
    "not a bundle": Mistake("inference", {"bundle_root": "{empty}"}, ["{empty}", "--bundle_root"], logged=False),
}


class BundleTests(HostTests):
    """The base of the bases for one kind of data, from which a bundle's own class inherits.

    A base for a kind of data sets what is below, writes the methods that raise ``NotImplementedError``, and has three
    fixtures: ``dataset``, a small data set for training; ``example``, a small input that inference takes; and
    ``own_places``, paths by name for the mistakes of its own.
    """

    # The bundle's folder, and what its metadata states as `bundle`.
    name: str
    # Ids that make every run small: whatever the plan holds belongs here.
    tiny: Mapping[str, Any]
    # Further ids of a tiny training on `dataset`; three epochs of it have to lower the loss by a tenth.
    training: Mapping[str, Any]
    # Those of them that say what its cases are: an evaluation needs them too.
    split: Mapping[str, Any] = {}
    # An id of the plan and another value: weights trained with `tiny` must be refused.
    other_setting: tuple[str, Any]
    # Shape of a batch that the tiny network takes.
    batch_shape: Sequence[int]
    # What decides about the network: the same in all runs.
    network_ids: Sequence[str] = ("plan",)
    # Where a training's transforms are, but for the random ones.
    train_transforms: Sequence[str] = ("train#deterministic_transforms",)
    # Configurations that are laid over inference.json, not over train.json.
    inference_overlays: Sequence[str] = ()
    # Configurations that are laid over train.json and evaluate.json.
    evaluation_overlays: Sequence[str] = ()
    # What else a configuration is laid over, by its name.
    laid_over: Mapping[str, Sequence[str]] = {}
    # What a training's output folder holds besides what every training leaves.
    also_left: Sequence[str] = ()
    # Settings of the network that matter in training only.
    training_arguments: Sequence[str] = ("pretrained_path",)
    # What a validation computes; the first chooses the best weights.
    metrics: Sequence[str]
    # What is behind an input's name in the name of its segmentation.
    segmentation: str
    # The table that an evaluation writes.
    table: str
    # Of test-time flips: the axis of the network's input, what an inferer gives, and ids with which it gives it.
    flips: tuple[int, str, Mapping[str, Any]]
    # Trainings that pause: number of epochs, behind which one they pause, and ids. A patience of 0 lets the schedule
    # act within the four epochs: its state has to be there again.
    pauses: Mapping[str, tuple[int, int, Mapping[str, Any]]] = {
        "in one process": (4, 2, {"schedule": "plateau", "lr_patience": 0}),
        "with workers": (2, 1, {"num_workers": 2}),
        "from other weights": (2, 1, {"init_checkpoint": "{trained}/model_last.pt"}),
    }
    # Mistakes beyond those that every bundle answers for.
    mistakes: Mapping[str, Mistake] = {}

    def cases(self, dataset: Path) -> list[str]:
        """The names under which inference on ``dataset`` writes."""
        raise NotImplementedError

    def labelled_item(self, dataset: Path) -> dict[str, Any]:
        """What the transforms of a training take."""
        raise NotImplementedError

    def host_items(self, dataset: Path) -> list[dict[str, Any]]:
        """Four items as an application hands them over: an image and its label."""
        raise NotImplementedError

    @property
    def root(self) -> Path:
        return ROOT / "bundles" / self.name

    @property
    def channel_axis(self) -> int:
        return -1 - len(self.tiny["spatial_size"])

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "mistake" in metafunc.fixturenames:
            table = MISTAKES | dict(metafunc.cls.mistakes)
            metafunc.parametrize("mistake", list(table.values()), ids=list(table))
        if "pause" in metafunc.fixturenames:
            table = metafunc.cls.pauses
            metafunc.parametrize(("epochs", "pause", "ids"), list(table.values()), ids=list(table))

    # ------------------------------------------------------------------------------------------------ what tests share

    def train(self, dataset: Path, output: Path, **ids: Any) -> Path:
        """Train in this process; return the output folder."""
        given = {**self.tiny, **self.training, "dataset_dir": str(dataset), "output_dir": str(output)} | ids
        run(self.root, "train", **given)
        return output

    @staticmethod
    def without_weights(config: str) -> dict[str, str]:
        """Ids with which inference has its own defaults: otherwise it takes settings from the shipped weights' plan."""
        return {"checkpoint": "none.pt"} if config == "inference" else {}

    @pytest.fixture(scope="class")
    def trained(self, dataset: Path, shared: Path) -> Path:
        """The output of a training of three epochs."""
        return self.train(dataset, shared / "trained", max_epochs=3)

    @pytest.fixture(scope="class")
    def released(self, shared: Path) -> Path:
        """A copy of the bundle as a zip holds it, with random weights in ``models/``."""
        return released_copy(self.root, shared / "elsewhere" / self.name, **self.tiny)

    def segmentation_of(self, example: Path, output: Path) -> Path:
        """Where the segmentation of ``example`` is."""
        return output / (example.name.split(".")[0] + self.segmentation)

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
        pins = dict(
            re.findall(r"^(\w+)==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
        )
        assert metadata["monai_version"] == pins["monai"] and metadata["pytorch_version"] == pins["torch"]

    def test_metadata_describes_the_network(self, metadata):
        ins, outs = (metadata["network_data_format"][key] for key in ("inputs", "outputs"))
        assert next(iter(ins)) == "image" and next(iter(outs)) == "pred"
        assert ins["image"]["num_channels"] == self.batch_shape[self.channel_axis]

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
        bases = {kind: ConfigParser.load_config_file(files_of(self.root, kind)[0]) for kind in ("train", "inference")}
        for file in sorted((self.root / "configs").glob("*.json")):
            if file.name in ("metadata.json", "train.json", "inference.json", "evaluate.json"):
                continue
            content = read_json(file)
            base = bases["inference" if file.stem in self.inference_overlays else "train"]
            for name in self.laid_over.get(file.stem, ()):
                base = base | ConfigParser.load_config_file(self.root / "configs" / f"{name}.json")
            if file.stem in self.evaluation_overlays:
                base = base | ConfigParser.load_config_file(self.root / "configs" / "evaluate.json")
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

    def test_inference_from_inside_the_bundle(self, repository, example, launch):
        bundle = repository / "bundles" / self.name
        ids = {**self.tiny, "input": example, "overlay": "false"}
        finished = launch("run", "--config_file", "configs/inference.json", *words(ids), cwd=bundle)
        assert finished.status == 0, finished.err
        assert self.segmentation_of(example, bundle / "output" / "inference").exists()

    def test_a_released_bundle_alone_in_a_fresh_process(self, released, example, launch, tmp_path):
        assert not (released / "common").is_symlink()
        ids = {**self.tiny, "bundle_root": released, "input": example, "output_dir": tmp_path / "out"}
        config = released / "configs" / "inference.json"
        finished = launch("run", "--config_file", config, *words(ids), cwd=tmp_path, fresh=True)
        assert finished.status == 0, finished.err
        assert self.segmentation_of(example, tmp_path / "out").exists()

    def test_verify_net_in_out(self, released, launch, tmp_path):
        given = {"config_file": released / "configs" / "inference.json", "bundle_root": released, "device": "cpu"}
        given |= {"meta_file": released / "configs" / "metadata.json"}
        finished = launch("verify_net_in_out", "network_def", *words(given), cwd=tmp_path)
        assert finished.status == 0, finished.err
        assert "data shape of network is verified with no error" in finished.out + finished.err

    def test_torchscript_gives_the_networks_numbers(self, released, launch, tmp_path):
        given = {"config_file": released / "configs" / "inference.json", "bundle_root": released}
        given |= self.tiny
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
            ids = {
                **self.tiny,
                "bundle_root": str(released),
                "output_dir": str(tmp_path / "out"),
                "logging_file": False,
            }
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
                    **({} if config == "inference" else self.split),
                )
                with warnings.catch_warnings(record=True) as complaints:
                    warnings.simplefilter("always")
                    assert not made.check_properties()
                wrong = [str(one.message) for one in complaints if "properties" in str(one.message)]
                assert not wrong, f"{config}: {wrong}"  # of references that are not what MONAI's tools expect

    def test_two_bundles_in_one_process(self, released, metadata, tmp_path):
        second = copy_of(released, tmp_path / f"{self.name}_two")
        with undone():
            for bundle in (released, second):
                made = workflow(bundle, "inference", **self.tiny)
                made.parser.parse(reset=True)
                network = made.parser.get_parsed_content("network")
                with torch.no_grad():
                    output = network.eval()(torch.zeros(*self.batch_shape))
                described = metadata["network_data_format"]["outputs"]["pred"]
                assert output.shape[self.channel_axis] == described["num_channels"]
                assert made.parser.get_parsed_content("checked") == str(bundle.resolve())

    def test_another_release_of_the_shared_code(self, released, launch, tmp_path):
        bundle = copy_of(self.root, tmp_path / "another")
        metadata = read_json(bundle / "configs" / "metadata.json")
        (bundle / "configs" / "metadata.json").write_text(
            json.dumps(metadata | {"common_version": "99.0"}), encoding="utf-8"
        )
        given = ["--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle]
        line = the_line(launch("run", *given, cwd=tmp_path))
        assert "99.0" in line and common.__version__ in line and "one release" in line

    # ------------------------------------------------------------------------------------------------ one preprocessing

    def test_all_runs_have_one_network_and_one_plan(self, dataset, released):
        found = {}
        for config in ("train", "evaluate", "inference"):
            with undone():
                made = workflow(self.root, config, **self.without_weights(config))
                made.parser.parse(reset=True)
                parsed = {key: made.parser.get_parsed_content(key) for key in self.network_ids}
                network = made.parser.get_parsed_content("network_def")
                shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
                arguments = without(made.parser["network_def"], self.training_arguments)
                found[config] = parsed | {"network": str(network), "shapes": shapes, "arguments": arguments}
        assert found["train"] == found["evaluate"] == found["inference"]

    def test_all_runs_preprocess_alike(self, dataset):
        results = []
        for config, keys in (
            ("inference", ["preprocessing"]),
            ("train", self.train_transforms),
            ("train", ["validate#preprocessing"]),
            ("evaluate", ["validate#preprocessing"]),
        ):
            with undone():
                made = workflow(self.root, config, **self.without_weights(config))
                made.parser.parse(reset=True)
                steps = [made.parser.get_parsed_content(key) for key in keys]
                data = self.labelled_item(dataset)
                for step in steps:
                    data = monai.transforms.Compose(step)(data)
                results.append(data["image"])
        assert len({tuple(result.shape) for result in results}) == 1
        for result in results[1:]:
            assert torch.equal(result.as_tensor(), results[0].as_tensor())
            assert torch.equal(result.affine, results[0].affine)

    # ------------------------------------------------------------------------------------------------ several processes

    def test_training_in_two_processes(self, dataset, scratch):
        ids = {**self.tiny, **self.training, "dataset_dir": dataset, "output_dir": scratch}
        run_in_ranks(self.root, "train", 2, **ids, max_epochs=1)
        weights = torch.load(scratch / "model.pt", weights_only=True)
        assert not [name for name in weights if name.startswith("module.")]
        run_in_ranks(self.root, "train", 2, **ids, max_epochs=2, resume="true")
        history = read_csv(scratch / "history.csv")
        assert [row["epoch"] for row in history] == ["1", "2"]
        assert float(history[1]["loss"]) < float(history[0]["loss"])

    # ---------------------------------------------------------------------------------------------------------- errors

    @pytest.fixture(scope="class")
    def places(self, own_places: Mapping[str, object], trained: Path, released: Path, example: Path, shared: Path):
        """Paths that mistakes name."""
        folder = shared / "places"
        (folder / "empty").mkdir(parents=True)
        (folder / "file").write_text("text", encoding="utf-8")
        torch.save({"weight": torch.zeros(2)}, folder / "another.pt")
        other = folder / "other"
        (other / "configs").mkdir(parents=True)
        (other / "configs" / "metadata.json").write_text('{"bundle": "other"}', encoding="utf-8")
        shutil.copytree(ROOT / "common", other / "common", ignore=shutil.ignore_patterns("__pycache__"))
        named = {name: folder / name for name in ("missing", "empty", "file", "other")}
        named |= {"another": folder / "another.pt", "trained": trained, "example": example}
        named |= {"checkpoint": released / "models" / "model.pt"}
        return {name: str(path) for name, path in {**named, **own_places}.items()}

    def test_mistake(self, mistake, places, dataset, launch, scratch, tmp_path):
        ids: dict[str, Any] = {"bundle_root": self.root, "output_dir": scratch / "output", **self.tiny}
        if mistake.config == "inference":
            ids |= {"input": places["example"], "checkpoint": places["checkpoint"]}
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

    def test_weights_of_other_settings(self, released, example, launch, tmp_path):
        name, value = self.other_setting
        ids = {**self.tiny, name: value, "bundle_root": released, "input": example, "output_dir": tmp_path / "out"}
        config = released / "configs" / "inference.json"
        line = the_line(launch("run", "--config_file", config, *words(ids), cwd=tmp_path))
        trained = json.dumps(self.tiny[name], separators=(",", ":"))
        assert str(released / "models" / "model.pt") in line and f"pass --{name} '{trained}'" in line

    def test_full_disk(self, trained, dataset, launch, scratch):
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

    # -------------------------------------------------------------------------------------------------- names of files

    def test_a_whole_run_under_any_name(self, dataset, scratch, monkeypatch):
        folder = scratch / "Frau Müller 脊柱 'a' \"b\" $c @d %e {f} [g]"
        data = shutil.copytree(dataset, folder / "data")
        monkeypatch.chdir(folder)
        trained = self.train(data, folder / "run", max_epochs=1)
        ids = {**self.tiny, "dataset_dir": str(data), "checkpoint": str(trained / "model.pt")}
        run(self.root, "evaluate", output_dir=str(folder / "eval"), **ids, **self.split)
        assert read_csv(folder / "eval" / self.table)
        run(self.root, "inference", output_dir=str(folder / "seg"), **ids)
        wanted = {case + self.segmentation for case in self.cases(data)}
        assert {path.name for path in (folder / "seg").glob(f"*{self.segmentation}")} == wanted
        assert not [path for path in scratch.iterdir() if path != folder]

    # -------------------------------------------------------------------------------------------------------- training

    def test_what_a_training_leaves(self, trained, dataset):
        assert {path.name for path in trained.iterdir()} == {
            "history.csv", "log.txt", "model.json", "model.pt", "model_last.json", "model_last.pt", "provenance.json",
            "split.json", "training_state.pt", *self.also_left,
        }  # fmt: skip
        origin = read_json(trained / "provenance.json")
        assert origin["bundle"] == self.name and origin["weights"]["sha256"] == sha256_of(trained / "model.pt")
        weights = torch.load(trained / "model.pt", weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in weights.values())
        assert read_json(trained / "split.json")["dataset_dir"] == str(dataset)
        plan = read_json(trained / "model.json")
        assert {key: plan[key] for key in self.tiny if key in plan} == {k: v for k, v in self.tiny.items() if k in plan}
        assert not list((self.root / "models").glob("*.tmp*"))

    def test_the_loss_falls(self, trained):
        losses = [float(row["loss"]) for row in read_csv(trained / "history.csv")]
        assert len(losses) == 3 and losses[-1] < 0.9 * losses[0]

    def validated(self, dataset: Path, checkpoint: Path) -> dict[str, float]:
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
        best = max(history, key=lambda row: float(row[self.metrics[0]]))
        state = torch.load(trained / "training_state.pt", weights_only=True)
        assert state["best_epoch"] == int(best["epoch"]) and state["epoch"] == len(history)
        for file, row in (("model.pt", best), ("model_last.pt", history[-1])):
            scores = self.validated(dataset, trained / file)
            for metric in self.metrics:
                assert scores[metric] == pytest.approx(float(row[metric]), abs=1e-6), metric

    def test_a_resumed_training_equals_one_without_a_break(self, epochs, pause, ids, trained, dataset, scratch):
        ids = {name: value.format(trained=trained) if isinstance(value, str) else value for name, value in ids.items()}
        whole = self.train(dataset, scratch / "whole", max_epochs=epochs, **ids)
        self.train(dataset, scratch / "parts", max_epochs=pause, **ids)
        first = (scratch / "parts" / "history.csv").read_text(encoding="utf-8")
        parts = self.train(dataset, scratch / "parts", max_epochs=epochs, resume=True, **ids)

        history = (whole / "history.csv").read_text(encoding="utf-8")
        assert history.startswith(first) and len(history.splitlines()) == epochs + 1
        assert (parts / "history.csv").read_text(encoding="utf-8") == history
        for file in ("model.pt", "model_last.pt", "training_state.pt"):
            states = [torch.load(folder / file, weights_only=True) for folder in (whole, parts)]
            assert equal(*states), f"{file} differs"
        assert not equal(torch.load(whole / "model_last.pt"), torch.load(self.first_weights(scratch)))
        state = torch.load(whole / "training_state.pt", weights_only=True)
        key = self.key_metric(ids)
        assert state["best"] == max(float(row[key]) for row in read_csv(whole / "history.csv"))

    def key_metric(self, ids: Mapping[str, Any]) -> str:
        """What chooses the best weights of a training with these ids."""
        return self.metrics[0]

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

    @pytest.mark.parametrize("config", ["inference", "evaluate"])
    def test_flips_average_both_sides(self, config, dataset):
        """Off, which is the default, the inferer is the one without them."""
        axis, kind, ids = self.flips
        probabilities = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, "probabilities": lambda x: x}[
            kind
        ]
        inferers = {}
        with undone(), torch.no_grad():
            for flips in ("true", "false", None):
                given = {**self.tiny, **ids, "dataset_dir": str(dataset)} | ({"flips": flips} if flips else {})
                made = workflow(self.root, config, **given)
                made.parser.parse(reset=True)
                inferers[flips] = made.parser.get_parsed_content(
                    "inferer" if config == "inference" else "validate#inferer"
                )
            torch.manual_seed(0)
            network = made.parser.get_parsed_content("network_def").eval()
            x = torch.rand(*self.batch_shape)
            found = {flips: inferer(x, network) for flips, inferer in inferers.items()}
            mirrored = inferers["false"](x.flip(axis), network).flip(axis)
        assert torch.equal(found["false"], found[None])
        assert {type(inferers[flips]) for flips in ("false", None)} <= {
            AutocastInferer, GatedInferer, HybridInferer,
        }  # fmt: skip
        wanted = (probabilities(found["false"]) + probabilities(mirrored)) / 2
        torch.testing.assert_close(probabilities(found["true"]), wanted)
        assert not torch.equal(found["true"], found["false"])

    @pytest.mark.parametrize("config", ["inference", "evaluate"])
    def test_flips_are_a_boolean(self, config):
        says = "^--flips maybe: is neither true nor false; pass --flips true or false$"
        with undone(), pytest.raises(InputError, match=says), refusals():
            made = workflow(self.root, config, **self.tiny, flips="maybe")
            made.parser.get_parsed_content("switches")

    # ------------------------------------------------------------------------------------------------------ evaluation

    # ---------------------------------------------------------------------------------------------- host applications

    def test_a_host_trains_the_bundle(self, released, dataset, scratch, monkeypatch):
        """MONAI Label's overrides: items with image and label alone, the device as a word, a loader in front."""
        monkeypatch.chdir(scratch)
        bundle = copy_of(released, scratch / self.name)
        before = torch.load(bundle / "models" / "model.pt", weights_only=True)
        config = ConfigParser()
        config.read_config(bundle / "configs" / "train.json")
        items = self.host_items(dataset)
        loader = {
            "_target_": "CheckpointLoader",
            "load_path": str(bundle / "models" / "model.pt"),
            "load_dict": {"model": "$@network"},
        }
        tiny = {key: value for key, value in {**self.tiny, **self.training}.items() if key not in self.split}
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
        # What it left is what inference takes.
        with undone():
            made = workflow(bundle, "inference", **self.tiny)
            made.parser.parse(reset=True)
            assert made.parser.get_parsed_content("weights") is not None
        self.check_host_training(bundle)

    def check_host_training(self, bundle: Path) -> None:
        """Look at what a training by an application left in ``models/``."""

    def host_inference(self, bundle: Path, image: Path, network: torch.nn.Module | None, **ids: Any) -> dict[str, Any]:
        """Do what MONAI Label does with a bundle's inference.json.

        Args:
            bundle: its folder.
            image: the scan or frame.
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
