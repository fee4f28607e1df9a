"""Segment scans of the spine, or outline the nerve in video: ``python -m tools.segment MODEL INPUT -o OUT``.

INPUT is a file, a folder of files, a DICOM series (its folder, or FOLDER#SERIESUID where there are several) or a video;
every scan or video in it is done. What cannot be used gets a line that says why, and the rest is done. The exit status
is 0 where all is done, 1 after an error, 130 after Ctrl-C.

The same command again goes on where it was interrupted: what is done with the same weights and settings is kept. A
result that differs in these is only replaced with --overwrite.

The bundle's own configs/inference.json is run. Any id in it is an option, too, such as --precision fp32 or
--gate_threshold 0.3; the settings that belong to the weights are read from the model.json beside them.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Collection, Sequence
from typing import Any

from common.engines.launch import error_line
from common.errors import InputError
from common.handlers.progress import format_duration
from tools.benchmark.arguments import OneLineParser
from tools.bundle_files import bundle_names
from tools.segment.results import Result
from tools.segment.segmentation import STATISTICS, segment


def _parser() -> OneLineParser:
    parser = OneLineParser("python -m tools.segment", __doc__)
    parser.allow_abbrev = False
    parser.add_argument("model", metavar="MODEL", help=f"{', '.join(bundle_names())}, or the folder of a bundle")
    parser.add_argument("source", metavar="INPUT", help="a scan, a video, or a folder of them")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the folder of the results")
    parser.add_argument("--weights", metavar="FILE", help="by default the bundle's models/model.pt")
    parser.add_argument("--device", default="auto", help="auto (CUDA where there is one), cpu, gpu, cuda:1, ...")
    parser.add_argument("--fast", action="store_true", help="a faster mode, less thorough (sshsnet)")
    parser.add_argument("--preview", action="store_true", help="draw the result on the scan, or on the video")
    parser.add_argument(
        "--statistics", action="store_true", help=f"write {STATISTICS}: volumes, or shares of the frames"
    )
    parser.add_argument("--format", help="nifti, mha, nrrd or dicom-seg; for video: video or png")
    parser.add_argument("--overwrite", action="store_true", help="do all again, and replace what is there")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _ids(options: Collection[str], argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take the ids of the bundle out of the command line: ``--name value`` or ``--name=value``.

    Args:
        options: the program's own options.
        argv: the command line.

    Returns:
        The other words, and what the ids are set to.

    Raises:
        InputError: an option is misspelt.
    """
    own, words = {option.lstrip("-") for option in options}, list(argv)
    others: list[str] = []
    ids: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        name, equals, value = word[2:].partition("=")
        if not word.startswith("--") or not name or name in own:
            others.append(word)
        elif near := difflib.get_close_matches(name, own, n=1, cutoff=0.75):
            raise InputError(f"--{name}", "is not an option", f"did you mean --{near[0]}?")
        else:
            has_value = not equals and words and not words[0].startswith("--")
            ids[name] = _parsed(words.pop(0) if has_value else value)
    return others, ids


def _parsed(word: str) -> Any:
    """Read a word as ``monai.bundle run`` does: a Python literal, else the word itself."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return word


def _report(result: Result) -> str:
    """Return what was done, and where it is."""
    kept = sum(item.kept for item in result.items)
    unit, count = result.unit, len(result.items) - kept
    parts = [f"{count} {unit}{'' if count == 1 else 's'} segmented on {result.device}"]
    if kept:
        parts.append(f"{kept} kept from an earlier run")
    if result.failures:
        parts.append(f"{len(result.failures)} failed")
    text = f"{', '.join(parts)} ({format_duration(result.seconds)})\nresults: {result.output}"
    empty = [item.name for item in result.items if not _found(item.statistics)]
    if empty:
        text += f"\nnothing was found in {', '.join(empty[:10])}{' and others' if len(empty) > 10 else ''}"
    return text


def _found(statistics: dict[str, Any]) -> bool:
    return bool(statistics.get("structures") or statistics.get("frames_found"))


def main(argv: Sequence[str] | None = None) -> int:
    """Segment, and say what was done.

    Returns:
        The exit status.
    """
    parser = _parser()
    try:
        words, ids = _ids(parser._option_string_actions, sys.argv[1:] if argv is None else argv)
        options = parser.parse_args(words)
        result = segment(
            options.model,
            options.source,
            options.output,
            weights=options.weights,
            device=options.device,
            fast=options.fast,
            preview=options.preview,
            statistics=options.statistics,
            output_format=options.format,
            overwrite=options.overwrite,
            progress=not options.quiet,
            ids=ids,
        )
    except KeyboardInterrupt as error:
        print(f"{error_line(error)}, and the same command goes on from there", file=sys.stderr)
        return 130
    except Exception as error:
        print(error_line(error), file=sys.stderr)
        return 1
    if not options.quiet:
        print(_report(result))
    for failure in result.failures:
        print(f"error: {failure.problem}", file=sys.stderr)
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
