from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.http_server import serve
from tools.bundle_files import BUNDLES, ROOT
from tools.verify import checks, run_checks
from tools.verify.__main__ import main
from tools.verify.checks import CHECKS, NEED_WEIGHTS, verify_bundle
from tools.verify.run_checks import RUN_CHECKS
from tools.verify.schema import NEWEST_SCHEMA, find_schema
from tools.verify.worker import Bundle, problem_of

SCHEMA = find_schema(None)
# What cannot be checked without the schema, which is no part of the project, is waived by its name.
WAIVED = [] if SCHEMA else ["--waive", "schema"]


def test_a_recipe(whole_copy, capsys):
    """What needs weights is waived by name, and nothing else."""
    assert main(["--bundles", str(whole_copy.root.parent), *WAIVED]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    wanted = []
    for check in CHECKS:
        state = "waived: needs weights" if check in NEED_WEIGHTS else "ok"
        wanted.append(f"safnet   {check:<21} {'waived: as asked' if check in WAIVED else state}")
    assert lines == wanted
    waived = 4 + len(WAIVED) // 2
    assert last == f"1 bundles: {len(CHECKS) - waived} ok, {waived} waived, 0 FAILED"
    assert NEED_WEIGHTS == ("weights", "evaluate_properties", "inference_properties", "torchscript")


class _Attack:
    """What the file of weights would do if it were taken for more than tensors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.skipif(SCHEMA is None, reason=f"{NEWEST_SCHEMA} is not beside the repository")
def test_what_runs_find(whole_copy, tmp_path):
    """Each check has something of its own to find. The schema comes by MONAI's download."""
    (whole_copy / "models").mkdir()
    torch.save({"weight": _Attack(tmp_path / "attacked")}, whole_copy / "models" / "model.pt")
    (whole_copy / "models" / "model.json").write_text('{"aspp": false}', encoding="utf-8")
    whole_copy.edit("configs/train.json", lambda c: c["validate"]["evaluator"].update(inferer="@train#inferer"))
    with serve(SCHEMA.parent) as address:
        whole_copy.metadata(task=None, schema=f"{address}/{NEWEST_SCHEMA}")
        whole_copy.edit(
            "configs/metadata.json", lambda c: c["network_data_format"]["outputs"]["pred"].update(num_channels=17)
        )
        results = {r.check: r for r in verify_bundle(whole_copy.root, None, waived=["code"]) if r.check in RUN_CHECKS}
    says = {
        "schema": "'task' is a required property",
        "network": "output channel number `18` doesn't match: `17`",
        "train_properties": "train.json: MONAI does not find val_inferer",
        "weights": "model.pt: is not a file of weights (UnpicklingError); pass a state dict",
        "evaluate_properties": "model.pt: is not a file of weights (UnpicklingError)",
        "inference_properties": "was trained with aspp false, not true",
        "torchscript": "Weights only load failed",
    }
    assert {check: (r.status, says[check] in r.note) for check, r in results.items()} == dict.fromkeys(
        RUN_CHECKS, ("FAILED", True)
    ), results
    assert not (tmp_path / "attacked").exists()


def test_a_schema_that_cannot_be_had(copy, tmp_path, monkeypatch):
    """It is said, and has not passed."""
    monkeypatch.chdir(tmp_path)
    copy.metadata(schema=f"http://127.0.0.1:9/{NEWEST_SCHEMA}")
    problem = problem_of(Bundle(copy.root, None).schema_)
    assert problem.startswith("the schema cannot be downloaded (<urlopen error") and problem.endswith(
        "pass --schema FILE"
    )


def test_a_process_that_dies(copy, tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, sys\nprint('\"\"', flush=True)\nprint('no memory', file=sys.stderr)\nos._exit(9)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(run_checks, "_WORKER", worker)
    results = [r for r in verify_bundle(copy.root, None, random_weights=True, waived=["code"]) if r.check in RUN_CHECKS]
    ended = "safnet: its process ended with status 9; no memory"
    assert [(r.status, r.note) for r in results] == [
        ("ok", ""),
        *[("waived", "needs weights") if check == "weights" else ("FAILED", ended) for check in RUN_CHECKS[1:]],
    ]


def test_weights_that_are_missing_make_no_recipe(copy, monkeypatch):
    """A plan without its weights, a training's state, parts that nobody has joined: nothing is waived."""
    monkeypatch.setattr(checks, "run_checks", lambda root, schema, wanted, random_weights: iter(wanted))
    for name in ("model.json", "training_state.pt", "model.pt.part0"):
        copy.append(f"models/{name}", "x")
        results = [r for r in verify_bundle(copy.root, None, waived=["code"]) if r.check in RUN_CHECKS]
        assert [r.status for r in results] == ["FAILED"] * len(RUN_CHECKS), name
        (copy / f"models/{name}").unlink()
    copy.append("models/README.md", "weights will follow\n")
    results = [r for r in verify_bundle(copy.root, None, waived=["code"]) if r.status == "waived"]
    assert [r.check for r in results if r.check != "code"] == list(NEED_WEIGHTS)


# ------------------------------------------------------------------------------------------------------------ command


def test_the_exit_status_tells(copy, capsys):
    (copy / "LICENSE").write_text("mine\n", encoding="utf-8")
    assert main(["--bundles", str(copy.root.parent), *(word for c in RUN_CHECKS for word in ("--waive", c))]) == 1
    said = capsys.readouterr()
    assert "licence               FAILED: " in said.out and not said.err
    assert (
        said.out.splitlines()[-1]
        == f"1 bundles: {len(CHECKS) - len(RUN_CHECKS) - 1} ok, {len(RUN_CHECKS)} waived, 1 FAILED"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["none"], f"error: {BUNDLES}: has no bundle 'none'; there is bess, funet, safnet, sshsnet; see --bundles"),
        (["--waive", "all"], "error: argument --waive: invalid choice: 'all'"),
        (["--schema", "none.json"], f"error: --schema none.json: is not a file; pass a copy of {NEWEST_SCHEMA}"),
    ],
)
def test_mistakes(given, says, capsys):
    try:
        status = main(given)
    except SystemExit as error:
        status = error.code
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 1 and line.startswith(says)


def test_all_bundles_of_the_repository():
    """At their own sizes, and with random weights where there are none: what the Model Zoo asks for."""
    command = [sys.executable, "-m", "tools.verify", "--random_weights", *WAIVED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    recipes = {path.name for path in BUNDLES.iterdir() if not (path / "models" / "model.pt").exists()}
    found = re.findall(r"^(\w+) +(\w+) +(ok|waived)(?:: (.*))?$", done.stdout, re.MULTILINE)
    assert [(bundle, check) for bundle, check, *_ in found] == [
        (path.name, check) for path in sorted(BUNDLES.iterdir()) for check in CHECKS
    ]
    waived = {(bundle, check) for bundle, check, status, _ in found if status == "waived"}
    assert waived - {(path.name, "schema") for path in BUNDLES.iterdir() if WAIVED} == {(r, "weights") for r in recipes}
