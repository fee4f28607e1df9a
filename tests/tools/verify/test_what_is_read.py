from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import monai.bundle
import pytest

from tests.http_server import serve
from tools.verify.checks import CHECKS, verify_bundle
from tools.verify.run_checks import RUN_CHECKS


def test_the_copy_is_sound(copy):
    results = list(verify_bundle(copy.root, None, waived=RUN_CHECKS))
    assert [(result.check, result.status) for result in results] == [
        (check, "waived" if check in RUN_CHECKS else "ok") for check in CHECKS
    ]


SPOILT: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "no licence": ("directory", lambda c: (c / "LICENSE").unlink(), "LICENSE: is missing; add it"),
    "no code": ("directory", lambda c: shutil.rmtree(c / "common"), "common/__init__.py: is missing; clone"),
    "link as text": (
        "directory",
        lambda c: (shutil.rmtree(c / "common"), c.append("common", "../../common")),
        "is missing; clone",
    ),
    "other name": (
        "directory",
        lambda c: c.metadata(bundle="funet"),
        "is the bundle 'funet' by its metadata; call the folder so",
    ),
    "stray file": ("directory", lambda c: c.append("notes.txt", "x\n"), "notes.txt: is not part of a bundle; move it"),
    "upper and lower case": ("directory", lambda c: c.append("docs/readme.md", "x\n"), "differs from another file in"),
    "too large": (
        "directory",
        lambda c: c.append("docs/x.md", "x" * 1_000_000 + "\n"),
        "x.md: is larger than 1 MB; list it in",
    ),
    "changed licence": (
        "licence",
        lambda c: c.replace("LICENSE", "Apache", "Our"),
        "is not the unmodified text of Apache-2.0",
    ),
    "no data licence": (
        "licence",
        lambda c: (c / "docs/data_license.txt").write_text("\n", encoding="utf-8"),
        "is empty; say which data",
    ),
    "no title": (
        "readme",
        lambda c: c.replace("docs/README.md", "# SAFNet:", "SAFNet:"),
        "does not begin with a title",
    ),
    "no commands": (
        "readme",
        lambda c: c.replace("docs/README.md", "## Commands", "## Use"),
        "has no section 'Commands'; add it",
    ),
    "no purpose": (
        "readme",
        lambda c: c.replace("docs/README.md", "not for clinical use", ""),
        "does not say 'not for clinical use'",
    ),
    "untold configuration": (
        "readme",
        lambda c: c.append("configs/new.json", "{}\n"),
        "does not say what configs/new.json is for; name it",
    ),
    "command without configuration": (
        "readme",
        lambda c: c.append("docs/README.md", "bundles/safnet/configs/x.json\n"),
        "names configs/x.json, which is",
    ),
    "link out of the bundle": (
        "readme",
        lambda c: c.append("docs/README.md", "[x](../../../README.md)\n"),
        "leads out of the bundle; name the",
    ),
    "dead link": (
        "readme",
        lambda c: c.append("docs/README.md", "[x](none.md#y)\n"),
        "its link none.md#y leads to nothing",
    ),
    "no version": (
        "version",
        lambda c: c.metadata(version="new"),
        "'new' is no version of the form 1.2.3; write one such",
    ),
    "no change": (
        "version",
        lambda c: c.metadata(version="99.0.0"),
        "does not say what is new in 99.0.0; add an entry",
    ),
    "changes in disorder": (
        "version",
        lambda c: c.metadata(version="0.0.2", changelog={"0.0.2": "x", "0.0.10": "y"}),
        "does not begin with",
    ),
    "no exact version": (
        "version",
        lambda c: c.metadata(numpy_version=">=2"),
        "its version of numpy, >=2, is not exact",
    ),
    "other code": ("version", lambda c: c.metadata(common_version="9.9"), "needs common 9.9, there is"),
    "old schema": (
        "version",
        lambda c: c.metadata(schema="x/meta_schema_20220324.json"),
        "names another schema than the",
    ),
    "metadata that are none": (
        "version",
        lambda c: (c / "configs/metadata.json").write_text("[]", encoding="utf-8"),
        "cannot be checked",
    ),
    "Windows": (
        "text_files",
        lambda c: c.append("docs/README.md", "x\r\n"),
        "README.md: has line ends of Windows; save it",
    ),
    "no end": ("text_files", lambda c: c.append("docs/README.md", "x"), "does not end with one line end; let it"),
    "white space": (
        "text_files",
        lambda c: c.append("docs/x.txt", "a \n"),
        "x.txt, line 1: has white space at its end",
    ),
    "personal path": (
        "text_files",
        lambda c: c.append("docs/x.md", "1\nsee /home/me/data\n"),
        "x.md, line 2: names a place of one machine",
    ),
    "private key": (
        "text_files",
        lambda c: c.append("docs/x.md", "-----BEGIN RSA " + "PRIVATE KEY-----\n"),
        "holds a private key",
    ),
    "not UTF-8": (
        "text_files",
        lambda c: (c / "docs/x.md").write_bytes(b"\xff\n"),
        "x.md: is not UTF-8; save it as UTF-8",
    ),
    "not JSON": (
        "text_files",
        lambda c: (c / "configs/demo.json").write_text("{\n", encoding="utf-8"),
        "demo.json: is not valid JSON",
    ),
    "key twice": (
        "text_files",
        lambda c: (c / "configs/demo.json").write_text('{"a": 1, "a": 2}\n', encoding="utf-8"),
        "has 'a' twice in one place",
    ),
    "other indent": (
        "text_files",
        lambda c: (c / "configs/demo.json").write_text('{"a": 1}\n', encoding="utf-8"),
        "an indent of 4, a value",
    ),
    "code": ("code", lambda c: c.append("common/errors.py", "import os\n"), "errors.py:27:1: E402"),
    "format of code": ("code", lambda c: c.append("common/errors.py", "X = (1,\n2)\n"), "Would reformat"),
    "large file outside": (
        "large_files",
        lambda c: c.large_file(path="../x.pt"),
        "large_files.json, entry 1: its path '../x.pt' leads out of",
    ),
    "absolute large file": (
        "large_files",
        lambda c: c.large_file(path="/x.pt"),
        "its path '/x.pt' leads out of the bundle",
    ),
    "large file of a drive": (
        "large_files",
        lambda c: c.large_file(path="C:x.pt"),
        "its path 'C:x.pt' leads out of the",
    ),
    "large file without SHA-256": (
        "large_files",
        lambda c: c.large_file(hash_val=None),
        "entry 1: has no SHA-256; write",
    ),
    "large file with MD5": ("large_files", lambda c: c.large_file(hash_type="md5"), "entry 1: has no SHA-256; write"),
    "large file from nowhere": (
        "large_files",
        lambda c: c.large_file(url="file:///x"),
        "entry 1: has no url; say where",
    ),
    "missing large file": (
        "large_files",
        lambda c: c.large_file(path="models/x.pt"),
        "models/x.pt: is not there; run python -m monai.bundle",
    ),
    "other large file": ("large_files", lambda c: c.large_file(b"y"), "has another SHA-256 than large_files.json says"),
    "large file behind a link": (
        "large_files",
        lambda c: ((c / "docs/x").symlink_to(c.root.parent), c.large_file(path="docs/x/safnet/LICENSE")),
        "has another SHA-256",
    ),
    "large file that is a link": (
        "large_files",
        lambda c: ((c / "docs/x").symlink_to("/etc/hostname"), c.large_file(path="docs/x")),
        "docs/x: is outside the bundle; put the file itself there",
    ),
    "large files in YAML": (
        "large_files",
        lambda c: c.append("large_files.yml", "x"),
        "needs a package that reads YAML",
    ),
    "no list": (
        "large_files",
        lambda c: c.append("large_files.json", "[]"),
        "large_files.json: is no list of large files",
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_found(spoilt, copy):
    check, spoil, says = SPOILT[spoilt]
    spoil(copy)
    waived = [*RUN_CHECKS, *(["code"] if check != "code" else [])]
    results = {result.check: result for result in verify_bundle(copy.root, None, waived=waived)}
    assert results[check].status == "FAILED" and says in results[check].note, results[check]
    assert str(copy.root) in results[check].note and "\n" not in str(results[check])


def test_monai_keeps_large_files_within_the_bundle(copy, tmp_path):
    (tmp_path / "x.pt").write_bytes(b"x")
    with serve(tmp_path) as address:
        copy.large_file(path="../../outside.pt", url=f"{address}/x.pt")
        with pytest.raises(ValueError, match="path traversal"):
            monai.bundle.download_large_files(str(copy.root))
        assert not (tmp_path / "outside.pt").exists()
        (copy / "large_files.json").unlink()
        copy.large_file(url=f"{address}/x.pt", path="models/x.pt")
        monai.bundle.download_large_files(str(copy.root))
    assert (copy / "models/x.pt").read_bytes() == b"x"
    assert [
        r.status for r in verify_bundle(copy.root, None, waived=[*RUN_CHECKS, "code"]) if r.check == "large_files"
    ] == ["ok"]
