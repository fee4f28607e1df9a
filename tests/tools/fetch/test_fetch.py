from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.http_server import serve
from tests.tools.fetch.fake_packages import NAME, files_of, publish, write_zip
from tools.bundle_files import ROOT
from tools.fetch import __main__ as fetch
from tools.fetch.installation import Installation
from tools.fetch.source import Location


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    publish(tmp_path / "dist", "0.9.0")
    publish(tmp_path / "dist", "0.10.0")
    return tmp_path / "dist"


@pytest.fixture
def get(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Fetch into a folder that exists not yet; return what is said, or the one line of an error."""

    def call(source: object, *more: str, status: int = 0) -> str:
        given = [str(source), "--name", NAME, "--bundle_dir", str(tmp_path / "mine"), *more]
        assert fetch.main(given) == status
        said = capsys.readouterr()
        if status == 0:
            assert not said.err
            return said.out
        (line,) = said.err.splitlines()
        return line

    return call


def installed(tmp_path: Path, folder: str = NAME) -> str | None:
    file = tmp_path / "mine" / folder / "configs" / "metadata.json"
    return json.loads(file.read_text(encoding="utf-8"))["version"] if file.is_file() else None


def names(tmp_path: Path) -> list[str]:
    """Everything in the folder, hidden or not."""
    return sorted(path.name for path in (tmp_path / "mine").iterdir()) if (tmp_path / "mine").exists() else []


# ------------------------------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize("source", ["", "/", "/model_info.json", "/safnet_v0.10.0.zip"])
@pytest.mark.parametrize("web", [True, False])
def test_all_kinds_of_sources(web, source, dist, tmp_path, get):
    with serve(dist) as address:
        said = get(f"{address if web else dist}{source}")
        place = f"{address if web else dist}/safnet_v0.10.0.zip"
    archive = dist / "safnet_v0.10.0.zip"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    lines = [
        f"safnet 0.10.0 from {place}",
        f"{archive.stat().st_size} bytes, SHA-256 {digest}",
        "A bundle's configuration is code: running the bundle runs what its files say.",
        f"safnet 0.10.0 is in {tmp_path / 'mine' / NAME}",
    ]
    if not source.endswith(".zip"):
        lines.append("it is a recipe: it has no trained weights yet")
    assert said.splitlines() == lines
    assert names(tmp_path) == [NAME]
    assert (tmp_path / "mine" / NAME / "LICENSE").read_text(encoding="utf-8") == "licence of 0.10.0\n"
    receipt = json.loads((tmp_path / "mine" / NAME / ".fetched.json").read_text(encoding="utf-8"))
    assert (receipt["source"], receipt["sha256"], receipt["version"]) == (place, digest, "0.10.0")


def test_origin_and_hash_are_told_before_anything_is_unpacked(dist, monkeypatch, capsys, get, tmp_path):
    said = []
    monkeypatch.setattr(fetch, "unpack", lambda *_: said.append(capsys.readouterr().out) or exit())
    with pytest.raises(SystemExit):
        get(dist)
    (text,) = said
    assert "safnet_v0.10.0.zip" in text and "SHA-256" in text and "configuration is code" in text
    assert names(tmp_path) == []


def test_a_source_of_its_own_in_the_index(dist, tmp_path, get):
    """The index is here, the packages are on a server."""
    index = dist / "model_info.json"
    with serve(dist) as address:
        entries = json.loads(index.read_text(encoding="utf-8"))
        for entry in entries.values():
            entry["source"] = f"{address}/{entry['source']}"
        (tmp_path / "index.json").write_text(json.dumps(entries), encoding="utf-8")
        assert f"from {address}/safnet_v0.10.0.zip" in get(tmp_path / "index.json")


def test_a_source_that_has_moved(dist, tmp_path, get):
    with serve(dist) as there, serve(dist, moved={"/safnet_v0.10.0.zip": f"{there}/safnet_v0.10.0.zip"}) as address:
        get(address)
    assert installed(tmp_path) == "0.10.0"


def test_a_move_to_what_is_not_encrypted_is_refused(monkeypatch):
    class Answer(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Answer(url="http://b/x.zip"))
    with pytest.raises(ValueError, match=r"https://a/x\.zip: was sent on to http://b/x\.zip, which is not encrypted"):
        Location("https://a/x.zip").read(10)


def test_a_version_of_choice(dist, tmp_path, get):
    get(dist, "--version", "0.9.0")
    assert installed(tmp_path) == "0.9.0"


def test_the_command_itself(dist, tmp_path):
    """It needs nothing but Python."""
    command = [sys.executable, "-S", "-m", "tools.fetch", str(dist), "--name", NAME, "--bundle_dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and not done.stderr and (tmp_path / NAME / "LICENSE").is_file()


# ------------------------------------------------------------------------------------------------------------ upgrades


def test_an_older_version_is_replaced(dist, tmp_path, get):
    get(dist, "--version", "0.9.0")
    cache = tmp_path / "mine" / NAME / "common" / "__pycache__"
    cache.mkdir(parents=True)
    (cache / "x.pyc").write_bytes(b"x")  # what a run leaves is not the user's own
    assert f"{NAME} 0.10.0 is in {tmp_path / 'mine' / NAME}; it replaces 0.9.0" in get(dist)
    assert names(tmp_path) == [NAME] and not cache.exists()
    assert (tmp_path / "mine" / NAME / "LICENSE").read_text(encoding="utf-8") == "licence of 0.10.0\n"


@pytest.mark.parametrize("own", ["models/model.pt", "LICENSE", "output/inference/a_seg.nii.gz"])
def test_what_is_the_users_own_is_kept(own, dist, tmp_path, get):
    for number, kept in enumerate(["safnet_v0.9.0", "safnet_v0.9.0_2"]):
        shutil.rmtree(tmp_path / "mine" / NAME, ignore_errors=True)
        get(dist, "--version", "0.9.0")
        file = tmp_path / "mine" / NAME / own
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"mine {number}", encoding="utf-8")
        said = get(dist)
        assert f"what was there, with your own files, is kept in {tmp_path / 'mine' / kept}" in said
        assert (tmp_path / "mine" / kept / own).read_text(encoding="utf-8") == f"mine {number}"
        assert installed(tmp_path, kept) == "0.9.0" and installed(tmp_path) == "0.10.0"
        assert (tmp_path / "mine" / NAME / own).exists() == (own == "LICENSE")


def test_a_bundle_that_came_another_way_is_kept(dist, tmp_path, get):
    """Nobody knows what in it is the user's."""
    with zipfile.ZipFile(dist / "safnet_v0.9.0.zip") as archive:
        archive.extractall(tmp_path / "mine")
    assert "is kept in" in get(dist)
    assert installed(tmp_path, "safnet_v0.9.0") == "0.9.0" and installed(tmp_path) == "0.10.0"


def test_what_is_there_already(dist, tmp_path, get):
    get(dist)
    file = tmp_path / "mine" / NAME / "LICENSE"
    file.write_text("mine", encoding="utf-8")
    assert get(dist) == f"{NAME} 0.10.0 is in {file.parent} already, from a package with this SHA-256\n"
    assert file.read_text(encoding="utf-8") == "mine" and names(tmp_path) == [NAME]
    assert "is kept in" in get(dist, "--overwrite")
    assert file.read_text(encoding="utf-8") == "licence of 0.10.0\n"
    assert (tmp_path / "mine" / "safnet_v0.10.0" / "LICENSE").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("0.9.0", "is version 0.10.0, newer than 0.9.0"),
        ("0.10.0", "is version 0.10.0 already, but not from this package"),
    ],
)
def test_newer_or_same_is_replaced_when_asked_only(version, problem, dist, tmp_path, get):
    get(dist)
    publish(tmp_path / "other", version, files_of(version, **{f"{NAME}/docs/README.md": "another"}))
    line = get(tmp_path / "other", status=1)
    remedy = "pass --overwrite to replace it; what is your own in it will be kept"
    assert line == f"error: {tmp_path / 'mine' / NAME}: {problem}; {remedy}"
    assert installed(tmp_path) == "0.10.0"
    get(tmp_path / "other", "--overwrite")
    assert installed(tmp_path) == version and names(tmp_path) == [NAME]


# ----------------------------------------------------------------------------------------- whole, or as it was before


@pytest.mark.parametrize("source", ["", "/safnet_v0.10.0.zip"])
def test_a_download_that_breaks_off(source, dist, tmp_path, get):
    get(dist, "--version", "0.9.0")
    archive = dist / "safnet_v0.10.0.zip"
    size = archive.stat().st_size
    with serve(dist, broken=frozenset({"/safnet_v0.10.0.zip"})) as address:
        line = get(address + source, status=1)
    problem = f"broke off after {size // 2} of {size} bytes; run the same command again"
    assert line == f"error: {address}/safnet_v0.10.0.zip: {problem}"
    assert installed(tmp_path) == "0.9.0" and names(tmp_path) == [NAME]


def test_another_content(dist, tmp_path, get):
    get(dist, "--version", "0.9.0")
    archive = dist / "safnet_v0.10.0.zip"
    wanted, data = hashlib.sha256(archive.read_bytes()).hexdigest(), bytearray(archive.read_bytes())
    data[40] ^= 1
    archive.write_bytes(data)
    line = get(dist, status=1)
    found = hashlib.sha256(data).hexdigest()
    says = f"has SHA-256 {found}, not {wanted}; it is damaged or another file: do not use it"
    assert line == f"error: {archive}: {says}"
    archive.write_bytes(bytes(data) + b"more")
    assert "more than the" in get(dist, status=1)
    assert installed(tmp_path) == "0.9.0" and names(tmp_path) == [NAME]


@pytest.mark.parametrize("step", ["unpack", "write_receipt"])
def test_interrupted(step, dist, tmp_path, get, monkeypatch):
    get(dist, "--version", "0.9.0")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, step, interrupted)
    assert get(dist, status=130) == "interrupted; what was there is as it was"
    assert installed(tmp_path) == "0.9.0" and names(tmp_path) == [NAME]


def test_a_rename_that_fails_is_taken_back(dist, tmp_path, get, monkeypatch):
    get(dist, "--version", "0.9.0")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".tmp-fetch"):
            raise OSError(28, "No space left on device", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    line = get(dist, status=1)
    place = tmp_path / "mine" / NAME
    assert line.startswith(f"error: {place}: cannot be written (No space left on device); free space")
    assert installed(tmp_path) == "0.9.0" and names(tmp_path) == [NAME]


@pytest.mark.parametrize("new_is_there", [True, False])
def test_killed_while_the_new_one_takes_its_place(new_is_there, dist, tmp_path, get):
    get(dist, "--version", "0.9.0")
    (tmp_path / "mine" / NAME / "own.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "mine" / NAME).rename(tmp_path / "mine" / f".{NAME}-replaced")
    if new_is_there:
        shutil.copytree(tmp_path / "mine" / f".{NAME}-replaced", tmp_path / "mine" / NAME)
    Installation(tmp_path / "mine", NAME)
    assert names(tmp_path) == ([NAME, "safnet_v0.9.0"] if new_is_there else [NAME])
    get(dist)
    assert installed(tmp_path) == "0.10.0"
    assert (tmp_path / "mine" / "safnet_v0.9.0" / "own.txt").read_text(encoding="utf-8") == "mine"


# --------------------------------------------------------------------------------------------------- unsound packages


def special(name: str, kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (kind | 0o777) << 16
    return member


OUTSIDE = "would land outside of its folder"
MEMBERS = {
    "../evil.txt": OUTSIDE,
    "safnet/../../evil.txt": OUTSIDE,
    "/tmp/evil.txt": OUTSIDE,
    "C:/evil.txt": OUTSIDE,
    "C:evil.txt": OUTSIDE,
    "safnet\\..\\..\\evil.txt": OUTSIDE,
    "//server/evil.txt": OUTSIDE,
    "evil.txt": "is not in the folder safnet",
    "funet/evil.txt": "is not in the folder safnet",
    "safnet": "is not in the folder safnet",
    "safnet/./evil.txt": "has a name that is no plain path",
    "safnet//evil.txt": "has a name that is no plain path",
    "safnet/evil.txt.": "has a name that is no plain path",
    "safnet/ev\til.txt": "has a name that is no plain path",
    "safnet/LICENSE": "comes twice",
    "safnet/license": "comes twice",
    "safnet/LICENSE/evil.txt": "comes twice",
    "safnet/configs": "comes twice",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("member", MEMBERS)
def test_members_that_are_refused(member, tmp_path, get):
    publish(tmp_path / "good", "0.0.1")
    get(tmp_path / "good")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    archive = publish(tmp_path / "dist", "0.1.0", [*files_of("0.1.0").items(), (member, "evil")])
    line = get(tmp_path / "dist", status=1)
    assert line == f"error: {archive}: its member {member!r} {MEMBERS[member]}; do not use this package"
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path.parent != archive.parent} == before
    assert not Path("/tmp/evil.txt").exists()


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (special("safnet/x", stat.S_IFLNK), "is a link"),
        (special("safnet/x", stat.S_IFIFO), "is neither a file nor a folder"),
    ],
)
def test_kinds_of_members_that_are_refused(member, problem, tmp_path, get):
    publish(tmp_path / "dist", "0.1.0", [*files_of("0.1.0").items(), (member, "../../evil.txt")])
    assert f"its member 'safnet/x' {problem}; do not use this package" in get(tmp_path / "dist", status=1)
    assert names(tmp_path) == []


def test_encrypted_members_are_refused(tmp_path, get):
    archive = publish(tmp_path / "dist", "0.1.0")
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")  # the first entry of the directory at the end
    data[at + 8] |= 1
    archive.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "dist" / "SHA256SUMS").write_text(f"{digest}  {archive.name}\n", encoding="utf-8")
    assert "is encrypted" in get(archive, status=1)


def test_a_bomb(tmp_path, get, monkeypatch):
    monkeypatch.setattr("tools.fetch.archive._ALLOWANCE", 1000)
    publish(tmp_path / "dist", "0.1.0", files_of("0.1.0", **{f"{NAME}/zeros": "0" * 5_000_000}))
    assert "would unpack to 5 MB from 0.0 MB; do not use this package" in get(tmp_path / "dist", status=1)
    monkeypatch.setattr("tools.fetch.archive._MOST_MEMBERS", 2)
    assert "has 3 members, more than 2" in get(tmp_path / "dist", status=1)
    assert names(tmp_path) == []


def test_folders_may_be_listed(tmp_path, get):
    members = [("safnet/", ""), ("safnet/configs/", ""), *files_of("0.1.0").items(), ("safnet/configs/", "")]
    with pytest.warns(UserWarning, match="Duplicate name"):
        publish(tmp_path / "dist", "0.1.0", members)
    get(tmp_path / "dist")
    assert installed(tmp_path) == "0.1.0"


def test_what_is_no_zip_file(tmp_path, get):
    archive = publish(tmp_path / "dist", "0.1.0")
    archive.write_bytes(b"<html>no such page</html>")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    line = get(archive, "--sha256", digest, status=1)
    assert line == f"error: {archive}: is no sound zip file (File is not a zip file); do not use this package"


@pytest.mark.parametrize(("name", "version"), [("funet", "0.1.0"), (NAME, "0.2.0"), (None, None)])
def test_a_package_of_something_else(name, version, tmp_path, get):
    members = {f"{NAME}/configs/metadata.json": json.dumps({"bundle": name, "version": version})}
    publish(tmp_path / "dist", "0.1.0", members)
    assert f"holds {name} {version}, not safnet 0.1.0; do not use this package" in get(tmp_path / "dist", status=1)
    assert names(tmp_path) == []


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        ("{dist}", ["--version", "3.0.0"], "model_info.json: does not offer safnet 3.0.0; it offers 0.9.0, 0.10.0"),
        ("{dist}", ["--sha256", "abc"], "--sha256 abc: is no SHA-256; pass 64 hexadecimal digits"),
        ("{dist}", ["--sha256", "0" * 64], f"it is not the one with {'0' * 64}"),
        ("{dist}/safnet_v0.9.0.zip", ["--sha256", "0" * 64], f"not {'0' * 64}; it is damaged or another file"),
        ("{dist}/safnet_v0.9.0.zip", ["--version", "0.10.0"], "is not version 0.10.0; leave --version out"),
        ("{dist}/none_v0.9.0.zip", [], "none_v0.9.0.zip: is not called safnet_vVERSION.zip; check --name"),
        ("{dist}/safnet_v9.9.9.zip", [], "SHA256SUMS: does not list safnet_v9.9.9.zip; pass --sha256"),
        ("{dist}/safnet_v9.9.9.zip", ["--sha256", "0" * 64], "safnet_v9.9.9.zip: is not there; check the path"),
        ("{dist}/nothing", [], "nothing: is not there; check the path"),
        ("{dist}/SHA256SUMS", [], "SHA256SUMS: is no index of packages; pass the address of a model_info.json"),
        ("{web}/nothing", [], "/nothing/model_info.json: cannot be had (404 File not found); check the address"),
        ("http://127.0.0.1:9/", [], "Connection refused); check the address and the network"),
        ("ftp://host/dist", [], "ftp://host/dist: is neither a path nor an http(s) address; pass one of these"),
    ],
)  # fmt: skip
def test_mistakes(source, more, says, dist, tmp_path, get):
    with serve(dist) as address:
        line = get(source.format(dist=dist, web=address), *more, status=1)
    assert line.startswith("error: ") and says in line
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"source": "../x.zip"}, "names '../x.zip', which is not beside it; do not use these packages"),
        ({"source": "/etc/passwd"}, "names '/etc/passwd', which is not beside it"),
        ({"source": "file:///etc/passwd"}, "names 'file:///etc/passwd', which is not beside it"),
        ({"source": None}, "is no index of packages"),
        ({"size": "many"}, "is no index of packages"),
        ({"size": 10**12}, "is no index of packages"),
        ({"version": "new"}, "is no index of packages"),
        ({"sha256": "?"}, "does not give the SHA-256 of safnet 0.1.0; ask its owner"),
        ({"name": "funet"}, "does not offer 'safnet'; it offers funet"),
    ],
)
def test_unsound_indices(entry, says, tmp_path, get):
    publish(tmp_path / "dist", "0.1.0", **entry)
    assert says in get(tmp_path / "dist", status=1)


def test_an_index_on_a_server_leads_to_no_file_of_this_machine(tmp_path, get):
    publish(tmp_path / "dist", "0.1.0", source="file:///etc/passwd")
    with serve(tmp_path / "dist") as address:
        assert "file:///etc/passwd: is neither a path nor an http(s) address" in get(address, status=1)


def test_a_huge_index(tmp_path, get):
    (tmp_path / "model_info.json").write_text(" " * 1_000_001, encoding="utf-8")
    assert "has more than 1000000 bytes" in get(tmp_path, status=1)


@pytest.mark.parametrize("kind", ["file", "folder", "link", "other bundle"])
def test_something_else_in_its_place(kind, dist, tmp_path, get):
    place = tmp_path / "mine" / NAME
    place.parent.mkdir()
    if kind == "file":
        place.write_text("mine", encoding="utf-8")
    elif kind == "link":
        with zipfile.ZipFile(dist / "safnet_v0.9.0.zip") as archive:
            archive.extractall(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere" / NAME)
    else:
        (place / "configs").mkdir(parents=True)
        (place / "configs" / "metadata.json").write_text(
            '{"bundle": "funet"}' if kind == "other bundle" else "", encoding="utf-8"
        )
    line = get(dist, "--overwrite", status=1)
    assert line == f"error: {place}: is not a bundle 'safnet' of its own; choose another --bundle_dir"


def test_no_name_of_a_bundle(dist, tmp_path, capsys):
    assert fetch.main([str(dist), "--name", "../x", "--bundle_dir", str(tmp_path / "mine")]) == 1
    assert capsys.readouterr().err == "error: --name ../x: is no name of a bundle; pass one such as safnet\n"


def test_a_folder_that_cannot_be_made(dist, tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert fetch.main([str(dist), "--name", NAME, "--bundle_dir", str(tmp_path / "file" / "x")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written (Not a directory); free space or choose another --bundle_dir" in line


def test_a_wrong_argument(capsys):
    with pytest.raises(SystemExit) as stopped:
        fetch.main(["x"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "error: the following arguments are required: --name; see --help\n"


def test_what_zipfile_would_hide_of_a_name(tmp_path, get):
    """A name goes on behind a zero byte, which zipfile does not show."""
    archive = write_zip(tmp_path / "safnet_v0.1.0.zip", [*files_of("0.1.0").items(), ("safnet/docs/READMEx", "evil")])
    archive.write_bytes(archive.read_bytes().replace(b"safnet/docs/READMEx", b"safnet/docs/README\0"))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert "has a name that is no plain path" in get(archive, "--sha256", digest, status=1)
