"""What is wrong with the command that starts MONAI Label is one line; this needs no MONAI Label."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles.runs import ROOT
from tools.monailabel import __main__ as command
from tools.monailabel.bundles import find_bundles


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    for name in ("a", "b"):
        (tmp_path / "bundles" / name / "configs").mkdir(parents=True)
        (tmp_path / "bundles" / name / "configs" / "metadata.json").write_text("{}", encoding="utf-8")
    for name in ("studies", "empty", "bundles/none"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("text", encoding="utf-8")
    return {name: tmp_path / name for name in ("bundles", "studies", "empty", "missing", "file")}


def line_of(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    try:
        status = command.main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    assert status == 1 and not said.out and said.err.count("\n") == 1
    return said.err.strip()


def test_which_bundles(places):
    assert list(find_bundles(places["bundles"])) == ["a", "b"]
    assert find_bundles(places["bundles"], ["b"]) == {"b": places["bundles"] / "b"}
    assert {"bess", "funet", "safnet", "sshsnet"} <= set(find_bundles(ROOT / "bundles"))


def test_mistakes(places, capsys):
    p, given = places, ["--studies", places["studies"], "--bundles"]
    assert line_of(capsys, *given, p["missing"]) == (
        f"error: {p['missing']}: is not a folder; pass --bundles with the folder that holds the bundles"
    )
    assert line_of(capsys, *given, p["empty"]) == (
        f"error: {p['empty']}: holds no bundle (DIR/NAME/configs/metadata.json); pass --bundles with their folder"
    )
    assert line_of(capsys, *given, p["bundles"], "--models", "a,c") == (
        f"error: --models c: is not in {p['bundles']}; choose of a, b"
    )
    assert line_of(capsys, "--bundles", p["bundles"], "--studies", p["missing"]) == (
        f"error: {p['missing']}: is not a folder; pass --studies with the folder of the images"
    )
    assert line_of(capsys, "--bundles", p["bundles"]) == (
        "error: the following arguments are required: --studies; see --help"
    )
    assert line_of(capsys, *given, p["bundles"], "--port", "many").startswith("error: argument --port: invalid int")
    assert line_of(capsys, *given, p["bundles"], "--port", "99999").startswith(
        "error: --host 127.0.0.1 --port 99999: cannot be used ("
    )


def test_a_port_that_is_taken(places, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = line_of(capsys, "--studies", places["studies"], "--bundles", places["bundles"], "--port", port)
    assert line.startswith(f"error: --host 127.0.0.1 --port {port}: cannot be used (")
    assert line.endswith("; choose another port, or an address of this computer")


def test_without_monai_label(places, capsys):
    if importlib.util.find_spec("monailabel"):
        pytest.skip("MONAI Label is installed beside the tests")
    line = line_of(capsys, "--studies", places["studies"], "--bundles", places["bundles"], "--port", 0)
    assert line == (
        f"error: {sys.executable}: has no MONAI Label; run 'bash tools/monailabel/setup.sh', then start serve.sh"
    )


def test_without_its_environment(tmp_path):
    script = tmp_path / "tools" / "monailabel" / "serve.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "monailabel" / "serve.sh", script)
    done = subprocess.run(["bash", script, "--help"], capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == (
        f"error: {tmp_path}/.venv-label/bin/python: is not there; make it with 'bash tools/monailabel/setup.sh'\n"
    )


def test_a_workspace_that_cannot_be_written(places, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    given = ["--studies", places["studies"], "--bundles", places["bundles"], "--port", 0]
    assert line_of(capsys, *given, "--workspace", places["file"]) == (
        f"error: {places['file']}: cannot be written (Not a directory); pass another --workspace"
    )
