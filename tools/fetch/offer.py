"""Which package is offered, and what it has to be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from common.errors import InputError
from tools.fetch.source import Location
from tools.package.index import INDEX, SUMS
from tools.verify.versions import version_key

__all__ = ["Offer", "find_offer"]

_INDEX_LIMIT = 1_000_000  # bytes
LARGEST = 4_000_000_000  # bytes that a package may have
_SHA256 = r"[0-9a-f]{64}"


@dataclass(frozen=True)
class Offer:
    """A package of a bundle.

    Args:
        name: of the bundle.
        version: of the form 1.2.3.
        location: of the zip file.
        sha256: that it has to have.
        size: bytes that it has to have; None where that is not known.
        recipe: whether it is marked as one without trained weights.
    """

    name: str
    version: str
    location: Location
    sha256: str
    size: int | None = None
    recipe: bool = False


def find_offer(source: str, name: str, version: str | None = None, sha256: str | None = None) -> Offer:
    """Find out which package a source offers.

    Args:
        source: path or address of a zip file ``NAME_vVERSION.zip`` with ``SHA256SUMS`` beside it, of a
            ``model_info.json``, or of the folder with them.
        name: of the bundle.
        version: the wanted one; None: the newest.
        sha256: that the package has to have, for those who know it from elsewhere; else what the source says.

    Raises:
        InputError: the source cannot be had, is no index, or does not offer it.
    """
    if sha256 is not None and not re.fullmatch(_SHA256, sha256.lower()):
        raise InputError(f"--sha256 {sha256}", "is no SHA-256", "pass 64 hexadecimal digits")
    location = Location(source)
    if location.is_folder:
        location = location.inside(INDEX)
    if location.name.endswith(".zip"):
        offer = _of_archive(location, name, sha256)
        if version not in (None, offer.version):
            raise InputError(location, f"is not version {version}", "leave --version out, or pass another address")
        return offer
    offer = _of_index(location, name, version)
    if sha256 is not None and sha256.lower() != offer.sha256:
        raise InputError(offer.location, f"has SHA-256 {offer.sha256}", f"it is not the one with {sha256.lower()}")
    return offer


def _of_archive(location: Location, name: str, sha256: str | None) -> Offer:
    found = re.fullmatch(rf"{re.escape(name)}_v(\d+\.\d+\.\d+)\.zip", location.name)
    if found is None:
        raise InputError(location, f"is not called {name}_vVERSION.zip", "check --name and the address")
    if sha256 is None:
        sums = location.beside(SUMS)
        for line in sums.read(_INDEX_LIMIT).decode("utf-8", "replace").splitlines():
            if listed := re.fullmatch(rf"({_SHA256}) [ *]{re.escape(location.name)}", line):
                sha256 = listed[1]
        if sha256 is None:
            raise InputError(sums, f"does not list {location.name}", "pass --sha256, if you know it")
    return Offer(name, found[1], location, sha256.lower())


def _of_index(location: Location, name: str, version: str | None) -> Offer:
    bad = InputError(location, "is no index of packages", f"pass the address of a {INDEX}, or of its folder")
    try:
        entries = json.loads(location.read(_INDEX_LIMIT))
        offered = {entry["version"]: entry for entry in entries.values() if entry["name"] == name}
        versions = sorted(offered, key=version_key)
    except InputError:
        raise
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise bad from error
    if not versions:
        known = ", ".join(sorted({str(entry["name"]) for entry in entries.values()})) or "nothing"
        raise InputError(location, f"does not offer '{name}'", f"it offers {known}")
    if version is not None and version not in offered:
        raise InputError(location, f"does not offer {name} {version}", f"it offers {', '.join(versions)}")
    entry = offered[version or versions[-1]]
    digest, size = entry.get("sha256"), entry.get("size")
    if not isinstance(entry.get("source"), str) or not isinstance(size, int) or not 0 < size <= LARGEST:
        raise bad
    if not re.fullmatch(_SHA256, str(digest)):
        raise InputError(location, f"does not give the SHA-256 of {name} {entry['version']}", "ask its owner")
    package = location.beside(entry["source"])
    return Offer(name, entry["version"], package, digest, size, entry.get("recipe") is True)
