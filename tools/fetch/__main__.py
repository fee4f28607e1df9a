"""Download a bundle's package and unpack it: ``python -m tools.fetch SOURCE --name NAME --bundle_dir DIR``.

SOURCE is the address of a folder with packages and their model_info.json, of a model_info.json, or of a package itself
with SHA256SUMS beside it; http, https, or a path on this machine. The package is downloaded beside its place, its
SHA-256 is checked, and every member is, before anything is unpacked; the folder DIR/NAME appears whole or not at all.

An older version in DIR/NAME is replaced. What you have added to it or changed in it (weights that you trained into
models/, configurations, output) is never deleted: the old folder then stays beside the new one, as DIR/NAME_vVERSION.
A newer version, or the same with another content, is replaced with --overwrite only.

A bundle's configuration is code: whoever runs the bundle runs what its files say. The SHA-256 tells that the package is
the one that its source lists; whether to trust the source is for you to say. Compare it with one that you know from
elsewhere, or pass that one as --sha256.

The exit status is 1 after an error, which is one line.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from common.errors import InputError
from tools.arguments import OneLineParser
from tools.fetch.archive import unpack
from tools.fetch.installation import Installation, read_json, write_receipt
from tools.fetch.offer import LARGEST, Offer, find_offer
from tools.verify.versions import version_key


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("python -m tools.fetch", __doc__)
    parser.add_argument("source", metavar="SOURCE", help="address or path: folder, model_info.json or zip file")
    parser.add_argument("--name", required=True, help="of the bundle, such as safnet")
    parser.add_argument("--bundle_dir", type=Path, default=Path(), metavar="DIR", help="default: this folder")
    parser.add_argument("--version", help="such as 0.1.0; default: the newest")
    parser.add_argument("--sha256", metavar="HEX", help="that the package must have")
    parser.add_argument("--overwrite", action="store_true", help="replace the same version, or a newer one")
    return parser.parse_args(argv)


def _is_there(installed: Installation, offer: Offer, overwrite: bool) -> bool:
    """Whether this very package is there already.

    Raises:
        InputError: what is there should not be replaced without being asked.
    """
    if installed.version is None:
        return False
    if installed.sha256 == offer.sha256 and not overwrite:
        return True
    try:
        newer = version_key(installed.version) > version_key(offer.version)
    except ValueError:
        newer = True
    if not overwrite and (newer or installed.version == offer.version):
        what = f"is version {installed.version}, newer than {offer.version}"
        if installed.version == offer.version:
            what = f"is version {offer.version} already, but not from this package"
        raise InputError(installed.root, what, "pass --overwrite to replace it; what is your own in it will be kept")
    return False


def _fetch(options: argparse.Namespace) -> str:
    """Fetch a package and return what is to be said."""
    name, folder = options.name, options.bundle_dir.resolve()
    if not name.replace("_", "").isalnum():
        raise InputError(f"--name {name}", "is no name of a bundle", "pass one such as safnet")
    offer = find_offer(options.source, name, options.version, options.sha256)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        installed = Installation(folder, name)
        before = installed.version
        if _is_there(installed, offer, options.overwrite):
            return f"{name} {offer.version} is in {installed.root} already, from a package with this SHA-256"
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".tmp-fetch-{name}-") as scratch:
            new = _downloaded(offer, Path(scratch))
            kept = installed.replace(new)
    except OSError as error:
        where, reason = error.filename or folder, error.strerror or error
        raise InputError(where, f"cannot be written ({reason})", "free space or choose another --bundle_dir") from error
    lines = [f"{name} {offer.version} is in {installed.root}" + (f"; it replaces {before}" if before else "")]
    lines += [f"what was there, with your own files, is kept in {kept}"] if kept else []
    lines += ["it is a recipe: it has no trained weights yet"] if offer.recipe else []
    return "\n".join(lines)


def _downloaded(offer: Offer, scratch: Path) -> Path:
    """Download, check and unpack a package; return the bundle's folder."""
    print(f"{offer.name} {offer.version} from {offer.location}", flush=True)
    archive = scratch / "package.zip"
    size, digest = offer.location.copy(archive, offer.size or LARGEST)
    if digest != offer.sha256:
        problem = f"has SHA-256 {digest}, not {offer.sha256}"
        raise InputError(offer.location, problem, "it is damaged or another file: do not use it")
    print(f"{size} bytes, SHA-256 {digest}")
    print("A bundle's configuration is code: running the bundle runs what its files say.", flush=True)
    unpack(archive, offer.location, offer.name, scratch)
    new = scratch / offer.name
    found = read_json(new / "configs" / "metadata.json")
    if (found.get("bundle"), found.get("version")) != (offer.name, offer.version):
        stated = f"{found.get('bundle')} {found.get('version')}"
        raise InputError(offer.location, f"holds {stated}, not {offer.name} {offer.version}", "do not use this package")
    write_receipt(new, offer)
    return new


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch a package.

    Returns:
        The exit status.
    """
    options = _arguments(argv)
    try:
        print(_fetch(options))
    except InputError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was there is as it was", file=sys.stderr)
        return 130
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # so that what was downloaded by then is deleted
    sys.exit(main())
