from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import common
from common.data.weight_parts import split_into_parts
from tools.bundle_files import BUNDLES, ROOT
from tools.package.__main__ import main
from tools.verify.checks import Result, verify_bundle
from tools.verify.run_checks import RUN_CHECKS

NAMES = ("bess", "funet", "safnet", "sshsnet")
# All bundles are released together.
VERSION = json.loads((BUNDLES / "safnet" / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
PACKAGE = f"safnet_v{VERSION}"


def passing(root: Path, schema: Path | None) -> Iterator[Result]:
    """The real bundles' checks are a test of their own (tests/tools/verify)."""
    yield Result(root.name, "directory", "ok")


def without_runs(root: Path, schema: Path | None) -> Iterator[Result]:
    """All checks but those that take their time."""
    return verify_bundle(root, schema, waived=[*RUN_CHECKS, "code"])


def unpacked(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        return {member.filename: file.read(member) for member in file.infolist()}


def digest(path: Path, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, path.read_bytes()).hexdigest()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the repository's layout with one bundle, made in another order and at other times."""
    root = tmp_path / "a copy"
    for source in sorted([ROOT / "common", *(ROOT / "bundles" / "safnet").iterdir()], reverse=True):
        target = root / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, target, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, target)
    for number, path in enumerate(sorted(root.rglob("*"))):
        if not path.is_symlink():
            os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
            path.chmod(0o755)
    return root


def without_weights(repository: Path) -> Path:
    """Make the copy's bundle a recipe; return where its weights were, if it had any."""
    models = repository / "bundles" / "safnet" / "models"
    shutil.rmtree(models, ignore_errors=True)
    return models


@pytest.fixture
def package(tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Package what is in the copy; return what is said, or the one line of an error."""

    def call(*more: str, verify: Any = passing, status: int = 0) -> str:
        given = ["--bundles", str(repository / "bundles"), "--output", str(tmp_path / "dist"), *more]
        assert main(given, verify) == status
        said = capsys.readouterr()
        if status == 0:
            assert not said.err
            return said.out
        (line,) = said.err.splitlines()
        return line

    return call


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of all bundles."""
    folder = tmp_path_factory.mktemp("dist")
    assert main(["--output", str(folder)], passing) == 0
    return folder


# ------------------------------------------------------------------------------------------------------------ packages


def test_what_is_written(dist):
    assert sorted(path.name for path in dist.iterdir()) == [
        "SHA256SUMS", *(f"{name}_v{VERSION}.zip" for name in ("bess", "funet")), "model_info.json",
        *(f"{name}_v{VERSION}.zip" for name in ("safnet", "sshsnet")),
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_a_package_holds(name, dist):
    found = unpacked(dist / f"{name}_v{VERSION}.zip")
    wanted = {}
    for part in ("LICENSE", "configs", "docs", "models", "common"):
        place = BUNDLES / name / part
        for path in [place] if place.is_file() else place.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                wanted[f"{name}/{path.relative_to(BUNDLES / name).as_posix()}"] = path.read_bytes()
    assert found == wanted and list(found) == sorted(found)
    assert f'__version__ = "{common.__version__}"'.encode() in found[f"{name}/common/__init__.py"]
    with zipfile.ZipFile(dist / f"{name}_v{VERSION}.zip") as archive:
        for member in archive.infolist():
            assert member.date_time == (1980, 1, 1, 0, 0, 0) and not member.extra
            assert member.external_attr >> 16 == stat.S_IFREG | 0o644
            assert (member.compress_type, member.create_system) == (zipfile.ZIP_STORED, 3)


def test_the_index_and_the_sums(dist):
    index = json.loads((dist / "model_info.json").read_text(encoding="utf-8"))
    assert list(index) == [f"{name}_v{VERSION}" for name in NAMES]
    archive = dist / f"{PACKAGE}.zip"
    metadata = json.loads((BUNDLES / "safnet" / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert index[PACKAGE] == {
        "checksum": digest(archive, "sha1"), "source": archive.name, "name": "safnet", "version": VERSION,
        "sha256": digest(archive), "size": archive.stat().st_size,
        "recipe": not (BUNDLES / "safnet" / "models" / "model.pt").exists(),
        "monai_version": metadata["monai_version"], "pytorch_version": metadata["pytorch_version"],
        "common_version": common.__version__,
    }  # fmt: skip
    files = [path for path in sorted(dist.iterdir()) if path.name != "SHA256SUMS"]
    assert (dist / "SHA256SUMS").read_text(encoding="utf-8") == "".join(
        f"{digest(path)}  {path.name}\n" for path in files
    )
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=dist, check=True)


def test_the_same_bytes_every_time(dist, package, repository, tmp_path):
    """From a copy elsewhere, with other times and permissions; and once more."""
    package()
    first = (tmp_path / "dist" / f"{PACKAGE}.zip").read_bytes()
    assert first == (dist / f"{PACKAGE}.zip").read_bytes()
    shutil.rmtree(tmp_path / "dist")
    package()
    assert (tmp_path / "dist" / f"{PACKAGE}.zip").read_bytes() == first


def test_caches_data_and_what_runs_leave_stay_behind(dist, package, repository, tmp_path):
    bundle = repository / "bundles" / "safnet"
    for name in (
        "data/phantom/images/a.nii.gz", "output/train/model.pt", "eval/dice.csv", "configs/.ipynb_checkpoints/x.json",
        "docs/README.md~", ".fetched.json", "large_files.json", ".DS_Store",
    ):  # fmt: skip
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text("x", encoding="utf-8")
    for name in ("__pycache__/x.pyc", "data/__pycache__/x.cpython-311.pyc", ".tmp-1-x.py"):
        (repository / "common" / name).parent.mkdir(exist_ok=True)
        (repository / "common" / name).write_text("x", encoding="utf-8")
    (bundle / "large_files.json").write_text('{"large_files": []}', encoding="utf-8")
    package()
    assert (tmp_path / "dist" / f"{PACKAGE}.zip").read_bytes() == (dist / f"{PACKAGE}.zip").read_bytes()


def test_weights_make_it_more_than_a_recipe(package, repository, tmp_path):
    models = without_weights(repository)
    models.mkdir()
    shipped = {"model.pt": b"weights", "model.json": b"{}", "README.md": b"of these weights"}
    for name, data in (shipped | {"training_state.pt": b"x", "log.txt": b"x", "model.pt.part0": b"x"}).items():
        (models / name).write_bytes(data)
    said = package()
    assert "a recipe" not in said
    assert [line.strip() for line in said.splitlines() if "left out" in line] == [
        f"left out: models/{name}" for name in ("log.txt", "model.pt.part0", "training_state.pt")
    ]  # fmt: skip
    found = unpacked(tmp_path / "dist" / f"{PACKAGE}.zip")
    assert {name.rpartition("/")[2]: data for name, data in found.items() if "/models/" in name} == shipped
    assert json.loads((tmp_path / "dist" / "model_info.json").read_text(encoding="utf-8"))[PACKAGE]["recipe"] is False


def test_a_package_holds_weights_in_parts_as_a_whole(package, repository, tmp_path):
    models = without_weights(repository)
    (tmp_path / "whole").write_bytes(b"weights")
    split_into_parts(tmp_path / "whole", models / "model.pt", 4)
    said = package()
    assert "a recipe" not in said and "left out" not in said
    found = unpacked(tmp_path / "dist" / f"{PACKAGE}.zip")
    assert {name.partition("/models/")[2]: data for name, data in found.items() if "/models/" in name} == {
        "model.pt": b"weights"
    }


def test_a_recipe_is_marked(package, repository, tmp_path):
    without_weights(repository)
    assert "a recipe: it has no trained weights" in package()
    assert json.loads((tmp_path / "dist" / "model_info.json").read_text(encoding="utf-8"))[PACKAGE]["recipe"] is True


def test_the_address_of_the_packages(package, tmp_path):
    package("--url", "https://example.org/spine/")
    entry = json.loads((tmp_path / "dist" / "model_info.json").read_text(encoding="utf-8"))[PACKAGE]
    assert entry["source"] == f"https://example.org/spine/{PACKAGE}.zip"


# ------------------------------------------------------------------------------------------------------------ versions


def raise_version(repository: Path, version: str) -> None:
    file = repository / "bundles" / "safnet" / "configs" / "metadata.json"
    metadata = json.loads(file.read_text(encoding="utf-8"))
    metadata["version"], metadata["changelog"] = version, {version: "new"} | metadata["changelog"]
    file.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def test_older_versions_stay_in_the_index(package, repository, tmp_path):
    package()
    before = json.loads((tmp_path / "dist" / "model_info.json").read_text(encoding="utf-8"))
    raise_version(repository, "99.0.0")
    package("safnet")
    index = json.loads((tmp_path / "dist" / "model_info.json").read_text(encoding="utf-8"))
    assert list(index) == [PACKAGE, "safnet_v99.0.0"] and index[PACKAGE] == before[PACKAGE]
    assert f"{PACKAGE}.zip" in (tmp_path / "dist" / "SHA256SUMS").read_text(encoding="utf-8")
    (tmp_path / "dist" / f"{PACKAGE}.zip").unlink()
    package()
    assert list(json.loads((tmp_path / "dist" / "model_info.json").read_text(encoding="utf-8"))) == ["safnet_v99.0.0"]


def test_a_version_is_published_once(package, repository, tmp_path):
    package()
    before = {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()}
    (repository / "bundles" / "safnet" / "docs" / "README.md").write_text("another", encoding="utf-8")
    line = package(status=1)
    remedy = "raise the version in metadata.json, or pass --overwrite"
    assert line == f"error: {tmp_path}/dist/{PACKAGE}.zip: is there with another content; {remedy}"
    assert {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()} == before
    package("--overwrite")
    assert unpacked(tmp_path / "dist" / f"{PACKAGE}.zip")["safnet/docs/README.md"] == b"another"


# ------------------------------------------------------------------------------------------------------------ refusals


def test_a_bundle_whose_checks_fail_is_refused(package, repository, tmp_path):
    """All are packaged or none: they are one release."""
    package(verify=without_runs)
    before = {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()}
    raise_version(repository, "99.0.0")
    bad = repository / "bundles" / "zzz"
    shutil.copytree(repository / "bundles" / "safnet", bad, symlinks=True)
    (bad / "LICENSE").write_text("mine", encoding="utf-8")
    (bad / "docs" / "README.md").write_text("# Title\n", encoding="utf-8")
    line = package(verify=without_runs, status=1)
    failed = "directory, licence, readme, text_files failed"
    assert line == f"error: {bad}: is not packaged, as {failed}; see python -m tools.verify"
    assert {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()} == before


def test_an_interruption(package, tmp_path):
    def interrupted(root: Path, schema: Path | None) -> Iterator[Result]:
        raise KeyboardInterrupt
        yield

    assert package(verify=interrupted, status=130) == "interrupted; nothing was written"
    assert list((tmp_path / "dist").iterdir()) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["none"], "has no bundle 'none'; there is safnet; see --bundles"),
        (["--url", "ftp://x"], "--url ftp://x: is no address; pass one such as https://HOST/FOLDER"),
        (["--bundles", "{tmp}/none"], "{tmp}/none: is not a folder; pass --bundles"),
        (["--bundles", "{tmp}/empty"], "{tmp}/empty: holds no bundles; pass --bundles"),
        (["--output", "{tmp}/file/dist"], "{tmp}/file/dist: cannot be written (Not a directory); choose another"),
        (["--output", "{tmp}/odd"], "{tmp}/odd/model_info.json: is no index of packages; delete it"),
        (["--schema", "{tmp}/none.json"], "--schema {tmp}/none.json: is not a file; pass a copy of meta_schema_"),
        (["--schema", "{tmp}/file"], "--schema {tmp}/file: is not the newest schema; pass a copy of meta_schema_"),
    ],
)
def test_mistakes(given, says, package, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model_info.json").write_text("[]", encoding="utf-8")
    line = package(*(word.format(tmp=tmp_path) for word in given), status=1)
    assert line.startswith("error: ") and says.format(tmp=tmp_path) in line


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda bundle: (bundle / "notes.txt").touch(), "/notes.txt: is not part of a bundle; move it"),
        (lambda bundle: (bundle / "docs" / "x").symlink_to("/etc"), "/docs/x: is a link, which a package cannot hold"),
        (lambda bundle: without_weights(bundle.parents[1]).symlink_to("/etc"),
         "/models: is a link, which a package cannot hold"),
    ],
)  # fmt: skip
def test_what_is_not_part_of_a_bundle(make, says, package, repository):
    make(repository / "bundles" / "safnet")
    assert says in package(status=1)
