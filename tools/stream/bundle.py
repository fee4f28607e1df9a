"""A bundle's inference.json with what the command line changes in it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from common.engines.id_values import check_value
from common.errors import InputError
from tools.bundle_process import as_word
from tools.configuration import read_configuration

__all__ = ["read_bundle"]

_NEEDED = ("checked", "device", "network", "weights", "preprocessing", "threshold", "arithmetic")


def read_bundle(
    bundle: Path,
    ids: Mapping[str, Any],
    files: Sequence[str] = (),
    needed: Sequence[str] = _NEEDED,
    purpose: str = "video",
) -> ConfigParser:
    """Read a bundle's inference.json and change what is to be changed.

    Args:
        bundle: its folder.
        ids: what its ids are set to.
        files: further configuration files, laid over inference.json.
        needed: ids without which the bundle is of no use here.
        purpose: what it is to be of use for, for the message.

    Returns:
        The configuration, parsed; its components are not made yet.

    Raises:
        InputError: the folder is no bundle for this purpose, or a configuration file or an id is not as it should be.
    """
    folder, parser = bundle / "configs", ConfigParser()
    for name in ("inference.json", "metadata.json"):
        if not (folder / name).is_file():
            raise InputError(bundle, f"is not a bundle (it has no configs/{name})", "pass --bundle")
    for file in (folder / "inference.json", *map(Path, files)):
        read_configuration(file)
    parser.read_config([str(folder / "inference.json"), *map(str, files)])
    parser.read_meta(str(folder / "metadata.json"))
    parser["bundle_root"] = str(bundle)
    missing = [name for name in needed if name not in parser.config]
    if missing:
        problem = f"is no bundle for {purpose} (its inference.json has no '{missing[0]}')"
        raise InputError(bundle, problem, "pass another bundle")
    for name, value in ids.items():
        _check_id(parser, name, value)
        parser[name] = value
    parser.parse(reset=True)
    return parser


def _check_id(parser: ConfigParser, name: str, value: Any) -> None:
    """Refuse an id that inference.json does not have, and what it cannot be set to."""
    top = name.replace("#", "::").split("::")[0]
    if top not in parser.config:
        near = difflib.get_close_matches(top, parser.config, n=1)
        hint = f"did you mean {near[0]}?" if near else "the ids are at the top of the bundle's inference.json"
        raise InputError(f"--set {name}", "is not an id of this configuration", hint)
    check_value(name, as_word(value), parser.config.get(name))
