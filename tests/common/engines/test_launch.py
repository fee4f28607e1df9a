from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from monai.transforms import Compose, Lambda
from torch.utils.data import DataLoader

import common
from common.engines import Switches, check_bundle, launch, start_run
from common.engines.launch import check_ids
from common.errors import InputError

CONFIG = {
    "unet_features": [64, 128],
    "imports": ["$import os"],
    "lr": 0.001,
    "resume": False,
    "output_dir": "out",
    "train": {"trainer": {"max_epochs": 3}},
    "validate#dataset": "x",
    "+extra": 1,
    "max_epochs": 50,
    "epochs": 50,
    "seed": 0,
    "size": [18, 256, 128],
    "range": [5.0, 8.0],
    "spacing": [1.0, 1.0, 4.5],
    "aspp_rates": [12, 24, 36],
    "turn_prob": 0.5,
    "crop_fraction": 0.5,
    "lr_factor": 0.5,
    "val_interval": 1,
    "spatial_size": [2, 2],
    "patch_size": "$@of_weights.get('patch_size', [4, 8])",
    "device": "$torch.device('cpu')",
    "datalist": None,
    "input": "@dataset_dir",
    "free": "@x",
    "name": "a",
}


def message(call, *args, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def refuse(where="scan.nii") -> None:
    """A component that finds fault with its input."""
    raise InputError(where, "is broken", "mend it")


@pytest.fixture
def config(tmp_path) -> str:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    return str(path)


@pytest.fixture(autouse=True)
def no_traces(monkeypatch):
    """Put back what a run changes in this process."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    monkeypatch.setattr(launch, "_log_file", None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    for handler in [h for h in root.handlers if h not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


class TestCheckIds:
    @pytest.mark.parametrize(
        "words",
        [
            "",
            "--lr 0.1",
            "--lr=0.1 --output-dir=here",
            "--output_dir --lr 3",
            "--train#trainer#max_epochs 3",
            "--train::trainer::max_epochs=3",
            "--+train#new 3",
            "--validate {}",
            "--extra 2 --+lr 3",
            "--run_id run --init_id initialize --final_id finalize --meta_file m.json --logging_file l --tracking x",
            "-- word",
            # numbers in any spelling, what MONAI evaluates or looks up, and None, which it ignores
            "--lr 1",
            "--lr 1e-4",
            "--lr None",
            "--lr $@base/2",
            "--lr @base",
            "--lr %other.json::lr",
            "--epochs 7 --seed 0",
            "--size 1,2,3",
            "--size [1,2,3]",
            "--size (1,2,3)",
            "--size [1,'@b','$3']",
            "--range [0,2.5]",
            "--unet_features [8,16,32] --unet_features [8]",
            "--turn_prob 0 --turn_prob=1",
            "--spacing [0.5,0.5,None]",
            "--aspp_rates [6,12,18]",
            "--aspp_rates [[2,2,1],[4,4,2],6]",
            "--device cpu",
            "--datalist 3 --free [1] --name 3",
            "--train#trainer#max_epochs many",
            "--input /scans#1.2.3",
            "--output_dir ./$x --datalist ./%y",
        ],
    )
    def test_known_ids_pass(self, config, words):
        check_ids(["run", "--config_file", config, *words.split()])

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("--resmue true", "--resmue: is not an id of this configuration; did you mean --resume?"),
            ("--resmue=true", "--resmue: is not an id of this configuration; did you mean --resume?"),
            ("--output-dri x", "--output_dri: is not an id of this configuration; did you mean --output_dir?"),
            ("--tarin#trainer 3", "--tarin#trainer: is not an id of this configuration; did you mean --train?"),
            ("--a#b 1", "--a#b: is not an id of this configuration; the ids are at the top of the configuration file"),
            ("--+x 1", "--+x: is not an id of this configuration; the ids are at the top of the configuration file"),
            ("--x=1", "--x: is not an id of this configuration; the ids are at the top of the configuration file"),
            ("--import x", "--import: is not an id of this configuration; "
                           "the ids are at the top of the configuration file"),
            ("--lr 1 --resmue", "--resmue: is not an id of this configuration; did you mean --resume?"),
        ],
    )  # fmt: skip
    def test_unknown_ids_are_refused(self, config, words, expected):
        assert message(check_ids, ["run", "--config_file", config, *words.split()]) == expected
        assert message(check_ids, ["run", *words.split(), f"--config_file={config}"]) == expected

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            *((f"--lr {word}", "is not a number; pass one such as --lr 0.001")
              for word in ("abc", "true", "True", "nan", "1e999", "[1]", "null", "1,5")),
            *((f"--epochs {word}", "is not a whole number; pass one such as --epochs 50")
              for word in ("2.5", "two", "2.0", "[2]", "True", "inf")),
            *((f"--size {word}", "is not a list of 3 whole numbers; pass one such as --size '[18,256,128]'")
              for word in ("18", "[18,256]", "[1,2,3,4]", "[1,2,3.5]", "[1,2,x]", "abc", "[1,2,None]")),
            *((f"--spacing {word}", "is not a list of 3 numbers; pass one such as --spacing '[1.0,1.0,4.5]'")
              for word in ("[1,1,null]", "[1,None]", "[1,1,'x']", "[[1],1,1]")),
            *((f"--aspp_rates {word}",
               "is not a list of 3 whole numbers; pass one such as --aspp_rates '[12,24,36]'")
              for word in ("[1,2]", "[[1,2,3],2,[1,2,3.5]]", "[1,2,[]]", "[1,2,[[3]]]", "[1,2,None]")),
            ("--aspp_rates [1,2,[0,1,1]]", "is out of range; each has to be 1 or more"),
            ("--spacing [-1,1,None]", "is out of range; each has to be 0 or more"),
            ("--range [1]", "is not a list of 2 numbers; pass one such as --range '[5.0,8.0]'"),
            ("--unet_features []", "is not a list of whole numbers; pass one such as --unet_features '[64,128]'"),
            ("--unet_features [8,1.5]", "is not a list of whole numbers; pass one such as --unet_features '[64,128]'"),
            ("--unet_features [8,0]", "is out of range; each has to be 1 or more"),
            ("--lr -1", "is out of range; it has to be 0 or more"),
            ("--seed -1", "is out of range; it has to be 0 or more"),
            ("--max_epochs 0", "is out of range; it has to be 1 or more"),
            ("--val_interval 0", "is out of range; it has to be 1 or more"),
            ("--spatial_size [8,0]", "is out of range; each has to be 1 or more"),
            ("--patch_size [8,0]", "is out of range; each has to be 1 or more"),
            ("--patch_size [8]", "is not a list of 2 whole numbers; pass one such as --patch_size '[4,8]'"),
            ("--range [-1,2]", "is out of range; each has to be 0 or more"),
            ("--turn_prob 1.1", "is out of range; it has to be from 0 to 1"),
            ("--crop_fraction 0", "is out of range; it has to be above 0 and at most 1"),
            ("--crop_fraction 7", "is out of range; it has to be above 0 and at most 1"),
            ("--lr_factor 1", "is out of range; it has to be above 0 and below 1"),
            ("--device gpu", "is not a device; pass --device cpu, or cuda:0 for a GPU"),
            ("--output_dir /a#b", "has a '#', which MONAI replaces by '::'; use a path without it"),
            ("--output_dir 2024", "is read as 2024, not as a folder's name; pass ./2024"),
        ],
    )  # fmt: skip
    def test_values_of_another_kind_are_refused(self, config, words, expected):
        assert message(check_ids, ["run", "--config_file", config, *words.split()]) == f"{words}: {expected}"

    def test_a_value_that_is_missing(self, config):
        for words in (["--lr"], ["--lr", "--epochs", "3"]):
            assert message(check_ids, ["run", "--config_file", config, *words]).endswith(
                ": is not a number; pass one such as --lr 0.001"
            )

    @pytest.mark.parametrize("device", ["cuda:99", "meta:x"])
    def test_a_device_that_is_not_there(self, config, device):
        found = message(check_ids, ["run", "--config_file", config, "--device", device])
        assert found.startswith(f"--device {device}: is not ")
        assert found.endswith("; pass --device cpu, or cuda:0 for a GPU") and len(found) < 200

    @pytest.mark.parametrize("mark", "$@%")
    def test_a_file_whose_name_means_something_to_monai(self, config, mark, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / f"{mark}scan.nii").touch()
        assert message(check_ids, ["run", "--config_file", config, "--input", f"{mark}scan.nii"]) == (
            f"--input {mark}scan.nii: begins with '{mark}', which has a meaning of its own; pass ./{mark}scan.nii"
        )

    def test_a_later_configuration_says_the_kind(self, config, tmp_path):
        second = tmp_path / "second.json"
        second.write_text(json.dumps({"epochs": 1.5, "size": None}), encoding="utf-8")
        check_ids(["run", "--config_file", f"{config},{second}", "--epochs", "2.5", "--size", "any"])

    @pytest.mark.parametrize("spelling", ["['{0}','{1}']", '["{0}", "{1}"]', "[{0},{1}]", "{0},{1}", "({0}, {1})"])
    def test_two_configuration_files(self, config, tmp_path, spelling):
        second = tmp_path / "demo.json"
        second.write_text(json.dumps({"only_here": 1}), encoding="utf-8")
        words = ["run", "--config_file", spelling.format(config, second)]
        check_ids([*words, "--only_here", "2", "--lr", "3"])
        assert message(check_ids, [*words, "--only_heer", "2"]) == (
            "--only_heer: is not an id of this configuration; did you mean --only_here?"
        )

    def test_arguments_from_a_file(self, config, tmp_path):
        arguments = tmp_path / "args.json"
        arguments.write_text(json.dumps({"config_file": config, "lr": 0.5}), encoding="utf-8")
        check_ids(["run", "--args_file", str(arguments), "--resume", "true"])
        arguments.write_text(json.dumps({"config_file": config, "resmue": True}), encoding="utf-8")
        assert message(check_ids, ["run", "--args_file", str(arguments)]) == (
            "--resmue: is not an id of this configuration; did you mean --resume?"
        )

    def test_other_commands_and_other_files_are_not_judged(self, config, tmp_path):
        check_ids(["ckpt_export", "--config_file", config, "--anything", "1"])
        check_ids(["run", "--anything", "1"])
        check_ids(["run", "--config_file", str(tmp_path / "missing.json"), "--anything", "1"])
        check_ids([])


class TestSwitches:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            *((value, True) for value in (True, "true", "True", "TRUE", " yes ", "Yes", 1, "1")),
            *((value, False) for value in (False, "false", "False", "FALSE", "no", " NO", 0, "0")),
        ],
    )
    def test_words(self, value, expected):
        assert Switches(resume=value).resume is expected

    @pytest.mark.parametrize("value", ["", "maybe", "2", 2, None, "on", 0.5, "truefalse"])
    def test_anything_else_is_refused(self, value):
        assert message(Switches, aspp=True, resume=value) == " ".join(
            f"--resume {value}: is neither true nor false; pass --resume true or false".split()
        )

    def test_each_id_is_an_attribute(self):
        assert vars(Switches(a="true", b="false", c=1)) == {"a": True, "b": False, "c": True}


class TestCheckBundle:
    @pytest.fixture
    def bundle(self, tmp_path) -> Path:
        self.write(tmp_path, bundle="some_net", common_version=common.__version__)
        return tmp_path

    @staticmethod
    def write(folder: Path, **metadata) -> None:
        (folder / "configs").mkdir(exist_ok=True)
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")

    def test_the_right_folder(self, bundle, monkeypatch):
        assert check_bundle(bundle, "some_net") == str(bundle)
        monkeypatch.chdir(bundle)
        assert check_bundle(".", "some_net") == str(bundle)

    def test_another_bundle(self, bundle):
        assert message(check_bundle, bundle, "other_net") == (
            f"{bundle}: is not the bundle 'other_net'; pass --bundle_root with the folder of other_net"
        )

    @pytest.mark.parametrize("wrong", ["99.0", None])
    def test_another_release(self, bundle, wrong):
        self.write(bundle, bundle="some_net", **({} if wrong is None else {"common_version": wrong}))
        assert message(check_bundle, bundle, "some_net") == (
            f"{bundle}: needs version {wrong} of the shared code, but {Path(common.__file__).parent} is version "
            f"{common.__version__}; use bundles of one release"
        )

    def test_no_metadata(self, tmp_path):
        file = tmp_path / "configs" / "metadata.json"
        found = message(check_bundle, tmp_path, "some_net")
        assert found.startswith(f"{file}: cannot be read (") and "No such file" in found
        assert found.endswith("); pass --bundle_root with the bundle")
        file.parent.mkdir()
        file.write_text("{", encoding="utf-8")
        assert message(check_bundle, tmp_path, "some_net").startswith(f"{file}: cannot be read (")

    def test_the_command_line_is_judged_under_monai_alone(self, bundle, config, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["monai", "run", "--config_file", config, "--resmue", "1"])
        hook = sys.excepthook
        check_bundle(bundle, "some_net")
        assert sys.excepthook is hook
        monkeypatch.setattr(launch, "_is_command_line", lambda: True)
        assert message(check_bundle, bundle, "some_net").startswith("--resmue: ")
        assert sys.excepthook is not hook


class TestStartRun:
    def test_makes_the_folder_and_the_log(self, tmp_path):
        logging.getLogger().setLevel(logging.INFO)
        folder = tmp_path / "a" / "b"
        assert start_run(folder, "some_net") == str(folder)
        logging.getLogger("somewhere.else").info("hello from afar")
        log = (folder / "log.txt").read_text(encoding="utf-8")
        assert f"some_net {common.__version__} writes to {folder}" in log and "hello from afar" in log

    def test_a_second_run_writes_to_its_own_log(self, tmp_path):
        logging.getLogger().setLevel(logging.INFO)
        start_run(tmp_path / "first", "some_net")
        start_run(str(tmp_path / "second"), "some_net")
        logging.getLogger("somewhere").info("only for the second")
        assert "only for the second" not in (tmp_path / "first" / "log.txt").read_text(encoding="utf-8")
        assert (tmp_path / "second" / "log.txt").read_text(encoding="utf-8").count("only for the second") == 1

    def test_a_run_that_goes_on_keeps_its_log(self, tmp_path):
        logging.getLogger().setLevel(logging.INFO)
        for _ in range(2):
            start_run(tmp_path, "some_net")
        assert (tmp_path / "log.txt").read_text(encoding="utf-8").count("writes to") == 2

    def test_a_log_on_a_full_disk_is_silent(self, tmp_path, capfd):
        logging.getLogger().setLevel(logging.INFO)
        start_run(tmp_path, "some_net")
        (log,) = [handler for handler in logging.getLogger().handlers if isinstance(handler, launch._RunLog)]
        with contextlib.suppress(OSError), open("/dev/full", "w", encoding="utf-8") as full:
            before = log.setStream(full)
            logging.getLogger("somewhere").info("nowhere to be kept")
            log.stream = before
        assert capfd.readouterr() == ("", "")

    def test_unwritable(self, tmp_path):
        (tmp_path / "file").touch()
        for place, reason in ((tmp_path / "file" / "run", "Not a directory"), (tmp_path / "file", "File exists")):
            assert (
                message(start_run, place, "x") == f"{place}: cannot be written ({reason}); choose another --output_dir"
            )
        (tmp_path / "run" / "log.txt").mkdir(parents=True)
        assert message(start_run, tmp_path / "run", "x") == (
            f"{tmp_path}/run: cannot be written (Is a directory); choose another --output_dir"
        )


def raised(call, *args) -> BaseException:
    with pytest.raises(BaseException) as error:
        call(*args)
    return error.value


def from_config(item) -> None:
    parser = ConfigParser({"imports": [], "item": item, "user": {"_target_": "builtins.dict", "a": "@item"}})
    parser.get_parsed_content("user")


class Items:
    """A data set for a loader's worker."""

    def __init__(self, call):
        self.call = call

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.call(index)


def broken(_=None) -> None:
    raise KeyError("image")


class TestFirstCause:
    """MONAI wraps what a component raises; the user reads what was raised first."""

    @pytest.mark.parametrize("depth", [1, 2])
    def test_component(self, depth):
        item = {"_target_": "common.data.ScanList", "source": None}
        for _ in range(depth - 1):
            item = {"_target_": "builtins.dict", "inner": item}
        error = raised(from_config, item)
        assert not isinstance(error, InputError)  # else there is nothing to unwrap
        assert str(launch._first_cause(error)) == (
            "input: no scan is given; pass --input with a scan or a folder of scans"
        )

    def test_expression(self):
        error = raised(from_config, "$__import__('common.engines', fromlist=['Switches']).Switches(resume='maybe')")
        assert str(launch._first_cause(error)).startswith("--resume maybe: is neither true nor false;")

    def test_transform(self):
        error = raised(Compose([Lambda(lambda x: x), Lambda(lambda x: refuse())]), 1)
        assert not isinstance(error, InputError)
        assert str(launch._first_cause(error)) == "scan.nii: is broken; mend it"

    @pytest.mark.parametrize("call", [broken, Compose([Lambda(broken)])], ids=["plain", "transform"])
    def test_other_errors(self, call):
        cause = launch._first_cause(raised(call, 1))
        assert isinstance(cause, KeyError) and cause.args == ("image",)

    def test_an_error_met_while_another_was_handled(self):
        def fall_over():
            try:
                refuse()
            except InputError:
                raise RuntimeError("and then this")  # noqa: B904

        assert str(launch._first_cause(raised(fall_over))) == "scan.nii: is broken; mend it"

    def test_a_ring_of_causes_ends(self):
        first, second = RuntimeError("first"), RuntimeError("second")
        first.__cause__, second.__cause__ = second, first
        assert launch._first_cause(first) is first

    @pytest.mark.parametrize("wrapped", [True, False])
    def test_from_a_loaders_worker(self, wrapped):
        call = Compose([Lambda(lambda _: refuse())]) if wrapped else lambda _: refuse()
        error = raised(list, DataLoader(Items(call), num_workers=1))
        assert str(launch._first_cause(error)) == "scan.nii: is broken; mend it"


class TestReport:
    @staticmethod
    def report(call, capsys) -> str:
        error = raised(call)
        launch._report(type(error), error, error.__traceback__)
        out, err = capsys.readouterr()
        assert out == "" and err.endswith("\n") and err.count("\n") == 1
        return err[:-1]

    @pytest.fixture
    def log(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setattr(launch, "_log_file", tmp_path / "log.txt")
        (tmp_path / "log.txt").write_text("earlier lines\n", encoding="utf-8")
        return tmp_path / "log.txt"

    def test_what_the_user_gave_is_one_line(self, log, capsys):
        assert self.report(refuse, capsys) == "error: scan.nii: is broken; mend it"
        text = log.read_text(encoding="utf-8")
        assert text.startswith("earlier lines\n")
        assert "Traceback (most recent call last)" in text and "in refuse" in text and "InputError" in text

    def test_wrapped_by_monai(self, log, capsys):
        line = self.report(lambda: from_config({"_target_": "common.data.ScanList", "source": None}), capsys)
        assert line == "error: input: no scan is given; pass --input with a scan or a folder of scans"
        assert "Failed to instantiate" in log.read_text(encoding="utf-8")

    def test_anything_else_names_the_log(self, log, capsys):
        def fail():
            raise RuntimeError("out of\n\n  memory")

        assert self.report(fail, capsys) == f"error: RuntimeError: out of memory; the traceback is in {log}"

    def test_no_message_and_a_long_one(self, log, capsys):
        def fail(text):
            raise RuntimeError(text)

        assert self.report(lambda: fail(""), capsys) == f"error: RuntimeError: no message; the traceback is in {log}"
        line = self.report(lambda: fail("word " * 1000), capsys)
        assert len(line) < 600 and line.endswith(f"the traceback is in {log}")

    def test_interrupted(self, log, capsys):
        def fail():
            raise KeyboardInterrupt

        assert self.report(fail, capsys) == "interrupted; what was finished is kept"

    def test_before_a_run_has_its_log(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        line = self.report(lambda: {}["image"], capsys)
        (log,) = tmp_path.iterdir()
        assert line == f"error: KeyError: 'image'; the traceback is in {log}"
        assert "Traceback (most recent call last)" in log.read_text(encoding="utf-8")

    def test_a_log_that_cannot_be_written(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(launch, "_log_file", tmp_path)
        assert self.report(refuse, capsys) == "error: scan.nii: is broken; mend it"

    def test_a_started_run_takes_the_traceback(self, tmp_path, capsys):
        start_run(tmp_path, "some_net")
        self.report(refuse, capsys)
        assert "in refuse" in (tmp_path / "log.txt").read_text(encoding="utf-8")
