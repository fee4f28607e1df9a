"""Export a bundle's network for other programs: ``python -m tools.export BUNDLE --checkpoint MODEL.pt``.

The network is made by the bundle's inference.json, with the settings in model.json beside the weights, and divided into
the parts that a program needs (tools/export/README.md says which). Each part is written in each format and compared
with the original, on inputs of two sizes. export.json says what goes in and comes out, what a program has to keep
between the calls, and how far the numbers are from the original's. All outputs are logits.

A format whose package is missing is left out and named; asked for with --formats it is an error. Files appear in the
output folder all at once, when everything is done. The exit status is 1 after an error, which is one line, or if an
export fails or does not give the original's numbers.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from common.data.atomic import write_json
from common.errors import InputError
from tools.benchmark.arguments import OneLineParser, find_device, positive, words
from tools.bundle_files import find_bundle
from tools.configuration import as_value, ids_in_words
from tools.export.bundle import BundleNetwork
from tools.export.comparison import compare
from tools.export.formats import FORMATS, Format, PartExport
from tools.export.part import Part
from tools.export.report import DESCRIPTION, Row, description, heading


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("python -m tools.export", __doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="name of a bundle (safnet, ...) or its folder")
    parser.add_argument("--checkpoint", type=Path, metavar="MODEL.pt", help="default: models/model.pt in the bundle")
    parser.add_argument(
        "--random_weights", action="store_true", help="without weights: to try a deployment out, or its speed"
    )
    parser.add_argument(
        "--formats", type=words(list(FORMATS)), metavar="FORMAT,...",
        help=f"of {', '.join(FORMATS)}; default: all that are installed",
    )  # fmt: skip
    parser.add_argument("--parts", type=lambda text: text.split(","), metavar="PART,...", help="default: all")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: output/export in the bundle")
    parser.add_argument("--opset", type=positive, help="version of ONNX's operators; default: the exporter's choice")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; .pt2 files are tied to it; default: cpu")
    parser.add_argument("--config_file", action="append", default=[], help="laid over the bundle's inference.json")
    parser.add_argument("--set", action="append", default=[], metavar="ID=VALUE", help="change an id of inference.json")
    parser.add_argument("--debug", action="store_true", help="show where an export failed")
    return parser.parse_args(argv)


def _formats(asked: Sequence[str] | None, device: torch.device) -> tuple[list[Format], dict[str, str]]:
    """Return the formats to write, and those that are left out with the reason."""
    reasons = {name: FORMATS[name].unavailable(device) for name in asked or FORMATS}
    missing = {name: reason for name, reason in reasons.items() if reason}
    if asked and missing:
        name, reason = next(iter(missing.items()))
        remedy = "pip install -r tools/requirements-extra.txt" if name == "onnx" else "leave it out of --formats"
        raise InputError(f"--formats {name}", reason, remedy)
    return [FORMATS[name] for name, reason in reasons.items() if not reason], missing


def _chosen(parts: Sequence[Part], asked: Sequence[str] | None) -> list[Part]:
    names = [part.name for part in parts]
    if unknown := [name for name in asked or () if name not in names]:
        raise InputError(f"--parts {unknown[0]}", "is no part of this network", f"choose of {', '.join(names)}")
    return [part for part in parts if asked is None or part.name in asked]


def _export(export: PartExport, form: Format, path: Path, debug: bool) -> Row:
    """Write one part in one format and compare it."""
    part, began = export.part.name, time.monotonic()
    if problem := form.refuses(export.part):
        return Row(part, form.name, problem=f"left out: {problem}", left_out=True)
    try:
        form.write(export, path)
        result = compare(export, form.load(path, export.device), form.tolerance)
    except InputError:
        raise
    except Exception as error:  # exporters fail in their own ways, and the other formats are not to suffer
        if debug:
            traceback.print_exc()
        path.unlink(missing_ok=True)
        reason = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Row(part, form.name, problem=reason)
    return Row(part, form.name, path.name, path.stat().st_size, time.monotonic() - began, result)


def _run(options: argparse.Namespace) -> bool:
    """Export; return whether everything gives the original's numbers."""
    device = find_device(options.device)
    if options.random_weights and options.checkpoint:
        raise InputError("--random_weights", "contradicts --checkpoint", "pass one of them")
    root, (formats, skipped) = find_bundle(options.bundle), _formats(options.formats, device)
    ids = {name: as_value(text) for name, text in ids_in_words(options.set, "width=0.5").items()}
    bundle = BundleNetwork.load(root, options.checkpoint, ids, options.config_file, str(device), options.random_weights)
    plan, output = bundle.plan(), options.output or root / "output" / "export"
    parts, rows = _chosen(plan.parts, options.parts), []
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=output, prefix=".tmp-")
    except OSError as error:
        raise InputError(output, f"cannot be written ({error.strerror})", "choose another --output") from error
    with folder as temporary:
        print(heading(), flush=True)
        for part in parts:
            export = PartExport(part, device, options.opset)
            for form in formats:
                path = Path(temporary) / f"{root.name}_{part.name}{form.suffix}"
                rows.append(_export(export, form, path, options.debug))
                print(rows[-1], flush=True)
        content = description(bundle, plan, rows, skipped, Path(temporary))
        for row in rows:
            if row.file:
                os.replace(Path(temporary) / row.file, output / row.file)
        write_json(output / DESCRIPTION, content)
    for name, reason in skipped.items():
        print(f"{name} was left out: it {reason}")
    if bundle.checkpoint is None:
        print("The weights are random: these files are good for trying a deployment out, and for nothing else.")
    print(f"{DESCRIPTION} and the files are in {output}")
    return all(row.ok or row.left_out for row in rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Export and print a table.

    Returns:
        The exit status.
    """
    options = _arguments(argv)
    logging.disable(logging.NOTSET if options.debug else logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            warnings.simplefilter("ignore")
            good = _run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    finally:
        logging.disable(logging.NOTSET)
    if not good:
        print("error: an export failed, see the table; --debug shows where", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
