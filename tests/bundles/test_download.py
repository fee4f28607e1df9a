"""Packages, from a web server into an empty folder, and used there with nothing of the repository."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.bundles import test_bess, test_funet, test_safnet, test_sshsnet
from tests.bundles.runs import ROOT, copy_of, put_random_weights, words
from tests.common.data.video.dataset_files import write_picture
from tests.common.handlers.video_runs import scene
from tests.helpers import affine_of, noise, write_nifti
from tests.http_server import serve
from tools.fetch.__main__ import main as fetch
from tools.package.__main__ import main as package
from tools.verify.checks import Result

TESTS = {
    made.name: made()
    for made in (test_bess.TestBESS, test_funet.TestFUnet, test_safnet.TestSAFNet, test_sshsnet.TestSSHSNet)
}
SPINE = ("safnet", "sshsnet")
# What is packaged here says it is another release: the repository's own code would refuse it.
RELEASE, OTHER_RELEASE = "70.1.2", "80.1.2"


def state(bundle: Path, release: str) -> None:
    """Let a bundle and its copy of the shared code be of that release."""
    code, file = bundle / "common" / "__init__.py", bundle / "configs" / "metadata.json"
    code.write_text(
        re.sub(r'__version__ = ".*"', f'__version__ = "{release}"', code.read_text(encoding="utf-8")), encoding="utf-8"
    )
    metadata = json.loads(file.read_text(encoding="utf-8"))
    metadata |= {"version": release, "common_version": release, "changelog": {release: "new"}}
    file.write_text(json.dumps(metadata, indent=4), encoding="utf-8")


def hidden_packages() -> list[str]:
    """Modules that are installed here but not needed by requirements.txt, nor by what that needs."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    needed: set[str] = set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop().name).lower()
        if name in needed:
            continue
        needed.add(name)
        try:
            requirements = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system
        wanted += [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & needed
    ]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which packages of all bundles are served, with small random weights in them."""
    folder = tmp_path_factory.mktemp("published")
    for name, tests in TESTS.items():
        bundle = copy_of(ROOT / "bundles" / name, folder / "bundles" / name)
        put_random_weights(ROOT / "bundles" / name, bundle, tests.tiny)
        state(bundle, RELEASE)
    # Their checks are a test of their own: tests/tools/verify.
    given = ["--bundles", str(folder / "bundles"), "--output", str(folder / "dist")]
    assert package(given, lambda root, _: iter([Result(root.name, "directory", "ok")])) == 0
    with serve(folder / "dist") as address:
        yield address


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each bundle's inference takes."""
    folder = tmp_path_factory.mktemp("inputs")
    scan = write_nifti(folder / "scan.nii.gz", noise((9, 20, 24)) * 1000, affine_of((4, 1.2, 1.3)))
    picture = write_picture(folder / "one" / "7.png", scene(1, (36, 50))[0])
    return {name: scan if name in SPINE else picture.parent for name in TESTS}


@pytest.mark.parametrize("name", TESTS)
def test_downloaded_and_run_from_inside(name, published, inputs, launch, tmp_path):
    tests, archive = TESTS[name], f"{published}/{name}_v{RELEASE}.zip"
    done = launch("download", "--name", name, "--url", archive, "--bundle_dir", tmp_path / "mine", cwd=tmp_path)
    assert done.status == 0, done.err
    bundle = tmp_path / "mine" / name
    assert not [path for path in bundle.rglob("*") if path.is_symlink()]
    ids = {**tests.tiny, "input": inputs[name]}
    done = launch("run", "--config_file", "configs/inference.json", *words(ids), cwd=bundle)
    assert done.status == 0, done.err
    assert tests.segmentation_of(inputs[name], bundle / "output" / "inference").exists()


@pytest.mark.parametrize("name", TESTS)
def test_fetched_and_run_from_elsewhere(name, published, inputs, launch, tmp_path, capsys):
    assert fetch([published, "--name", name, "--bundle_dir", str(tmp_path / "mine")]) == 0
    assert "recipe" not in capsys.readouterr().out
    bundle, tests = tmp_path / "mine" / name, TESTS[name]
    (tmp_path / "empty").mkdir()
    ids = {**tests.tiny, "bundle_root": bundle, "input": inputs[name], "output_dir": tmp_path / "out"}
    config = bundle / "configs" / "inference.json"
    done = launch("run", "--config_file", config, *words(ids), cwd=tmp_path / "empty")
    assert done.status == 0, done.err
    assert tests.segmentation_of(inputs[name], tmp_path / "out").exists()
    assert f"{name} {RELEASE} writes to" in (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
    assert not list((tmp_path / "empty").iterdir())


def test_all_in_one_process(published, inputs, tmp_path):
    """Loaded and run by MONAI's functions, with requirements.txt alone; then one of another release is refused."""
    other = copy_of(ROOT / "bundles" / "safnet", tmp_path / "other" / "safnet")
    state(other, OTHER_RELEASE)
    hidden = hidden_packages()
    assert {"pytest", "jsonschema", "ruff"} <= set(hidden) and not {"torch", "monai", "numpy", "fire"} & set(hidden)
    job: dict[str, Any] = {"url": published, "version": RELEASE, "other": str(other), "hidden": hidden}
    job |= {"bundles": {name: dict(tests.tiny) for name, tests in TESTS.items()}}
    job |= {"inputs": {name: str(path) for name, path in inputs.items()}}
    script = shutil.copy(Path(__file__).with_name("downloaded_bundles.py"), tmp_path)
    (tmp_path / "empty").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", script, json.dumps(job)],
        cwd=tmp_path / "empty", env=environment, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name, tests in TESTS.items():
        assert found[name]["weights"]
        assert tests.segmentation_of(inputs[name], Path()).name in found[name]["written"]
    # One process has one copy of the shared code, the first bundle's: right as long as they are of one release.
    code = tmp_path / "empty" / next(iter(TESTS)) / "common"
    assert found["common"] == str(code / "__init__.py")
    assert found["refusal"] == (
        f"InputError: {other}: needs version {OTHER_RELEASE} of the shared code, but {code} is version {RELEASE}; "
        "use bundles of one release"
    )
