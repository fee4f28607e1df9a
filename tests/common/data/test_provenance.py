from __future__ import annotations

import hashlib
import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from common.data.provenance import bundle_version, provenance, sha256_of


@pytest.fixture
def bundle(tmp_path) -> Path:
    (tmp_path / "configs").mkdir()
    metadata = {"bundle": "some_net", "version": "1.2.3", "name": "Some network"}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    (tmp_path / "model.pt").write_bytes(b"weights")
    (tmp_path / "scan.nii").write_bytes(b"scan")
    return tmp_path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_sha256_follows_the_contents(tmp_path):
    path = tmp_path / "file"
    for number, content in enumerate((b"", b"one", b"two", b"one" * 100_000)):
        path.write_bytes(content)
        os.utime(path, ns=(number, number))  # within one tick of a clock two files may look alike
        assert sha256_of(path) == sha256_of(str(path)) == digest(content)


def test_sha256_of_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "no")


def test_bundle_version(bundle):
    assert bundle_version(bundle) == bundle_version(str(bundle)) == ("some_net", "1.2.3")


def test_provenance(bundle, monkeypatch):
    monkeypatch.chdir(bundle)
    settings = {"crop_fraction": 0.5, "spatial_size": [18, 256, 128]}
    before = datetime.now(UTC).replace(microsecond=0)
    found = provenance(bundle, "model.pt", "scan.nii", settings)
    assert found == json.loads(json.dumps(found))
    assert (found["bundle"], found["version"]) == ("some_net", "1.2.3")
    assert found["weights"] == {"file": str(bundle / "model.pt"), "sha256": digest(b"weights")}
    assert found["input"] == {"file": str(bundle / "scan.nii"), "sha256": digest(b"scan")}
    assert found["settings"] == settings and found["settings"] is not settings
    assert found["libraries"] == {"python": platform.python_version()} | {
        name: version(name) for name in ("torch", "monai", "numpy", "nibabel", "SimpleITK", "av")
    }
    assert found["hardware"]
    assert before <= datetime.fromisoformat(found["time"]) <= datetime.now(UTC)


def test_a_whole_data_set_has_no_input(bundle):
    found = provenance(bundle, bundle / "model.pt", None, {})
    assert "input" not in found and found["settings"] == {}


def test_weights_that_came_from_no_file(bundle):
    assert provenance(bundle, None, None, {})["weights"] is None
