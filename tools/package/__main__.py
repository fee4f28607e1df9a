"""Write bundles as zip files for others to download: ``python -m tools.package [NAME ...]``.

A package holds the shared code in the place of the link to it, no caches and no data. Each bundle is checked first, as
``python -m tools.verify`` does; where a check fails nothing is written. A bundle without trained weights is packaged as
a recipe and marked so.

It writes dist/NAME_vVERSION.zip, the same bytes every time; dist/model_info.json, which has version, SHA-256 and source
of every package there; and dist/SHA256SUMS. A version that is there already, with another content, is refused: raise
the version, or pass --overwrite.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import InputError
from tools.arguments import OneLineParser
from tools.bundle_files import BUNDLES, ROOT, Contents, find_bundles, is_recipe
from tools.package.archive import write_archive
from tools.package.index import INDEX, SUMS, describe, read_index, sums
from tools.verify.checks import Result, verify_bundle
from tools.verify.schema import add_schema_argument, find_schema

Verify = Callable[[Path, Path | None], Iterator[Result]]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("python -m tools.package", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of bundles; default: all")
    parser.add_argument("--bundles", type=Path, default=BUNDLES, metavar="DIR", help="default: bundles/")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIR", help="default: dist/")
    parser.add_argument(
        "--url", metavar="URL", help="of the folder from which the packages will be served; default: beside the index"
    )
    add_schema_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace versions that are there already")
    return parser.parse_args(argv)


def _check(root: Path, schema: Path | None, verify: Verify) -> None:
    """Check a bundle and show what was found.

    Raises:
        InputError: a check failed.
    """
    failed = []
    for result in verify(root, schema):
        print(result, flush=True)
        failed += [result.check] if result.status == "FAILED" else []
    if failed:
        raise InputError(root, f"is not packaged, as {', '.join(failed)} failed", "see python -m tools.verify")


def _package(options: argparse.Namespace, verify: Verify) -> None:
    """Check all bundles, then write all packages."""
    if options.url is not None and urlsplit(options.url).scheme not in ("http", "https"):
        raise InputError(f"--url {options.url}", "is no address", "pass one such as https://HOST/FOLDER")
    roots, schema = find_bundles(options.bundles, options.names), find_schema(options.schema)
    index = read_index(options.output)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.output, prefix=".tmp-package-") as folder:
            made: dict[str, dict[str, Any]] = {}
            for root in roots:
                _check(root, schema, verify)
                contents = Contents(root)
                metadata = json.loads(contents.files["configs/metadata.json"].read_text(encoding="utf-8"))
                key = f"{root.name}_v{metadata['version']}"
                archive = Path(folder) / f"{key}.zip"
                write_archive(contents, root.name, archive)
                made[key] = describe(archive, metadata, is_recipe(root), options.url)
                if not options.overwrite and made[key]["sha256"] != index.get(key, made[key])["sha256"]:
                    remedy = "raise the version in metadata.json, or pass --overwrite"
                    raise InputError(options.output / archive.name, "is there with another content", remedy)
                print(_summary(archive.name, made[key], contents.left_out))
            index = dict(sorted((index | made).items()))
            text = json.dumps(index, indent=4) + "\n"
            (Path(folder) / INDEX).write_text(text, encoding="utf-8", newline="\n")
            (Path(folder) / SUMS).write_text(sums(index, text), encoding="utf-8", newline="\n")
            for name in (*(f"{key}.zip" for key in made), INDEX, SUMS):
                os.replace(Path(folder) / name, options.output / name)
    except OSError as error:
        raise InputError(options.output, f"cannot be written ({error.strerror})", "choose another --output") from error


def _summary(file: str, entry: dict[str, Any], left_out: Sequence[str]) -> str:
    lines = [f"{file}  {entry['size'] / 1e6:.1f} MB  SHA-256 {entry['sha256']}"]
    lines += ["    a recipe: it has no trained weights"] if entry["recipe"] else []
    return "\n".join(lines + [f"    left out: {name}" for name in left_out])


def main(argv: Sequence[str] | None = None, verify: Verify = verify_bundle) -> int:
    """Package bundles.

    Args:
        argv: the words behind ``python -m tools.package``.
        verify: how a bundle is checked.

    Returns:
        The exit status.
    """
    options = _arguments(argv)
    try:
        _package(options, verify)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    print(f"{options.output / INDEX} and {SUMS} list the packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
