"""What a model card has to tell."""

from __future__ import annotations

import re
from pathlib import Path

from common.errors import InputError

__all__ = ["check_readme"]

_SECTIONS = ("Commands", "References and licence")
_PURPOSE = "not for clinical use"


def check_readme(root: Path) -> None:
    """Check the model card, ``docs/README.md``.

    It has a title, the commands, references and licence, and what the model is for; it names every configuration and
    none that is not there; and its links work wherever the bundle is, as they do not lead out of it.

    Raises:
        InputError: says what is missing.
    """
    file = root / "docs" / "README.md"
    text = file.read_text(encoding="utf-8")
    if not text.startswith("# "):
        raise InputError(file, "does not begin with a title", "begin with a line such as '# NAME: what it does'")
    headings = re.findall(r"^##+ (.+)$", text, re.MULTILINE)
    for section in _SECTIONS:
        if section not in headings:
            raise InputError(file, f"has no section '{section}'", "add it")
    if _PURPOSE not in text:
        raise InputError(file, f"does not say '{_PURPOSE}'", "say what the model is for")
    there = {path.name for path in (root / "configs").glob("*.json")} - {"metadata.json"}
    for name in sorted(there):
        if name not in text:
            raise InputError(file, f"does not say what configs/{name} is for", "name it with its command")
    for name in re.findall(rf"bundles/{root.name}/configs/([\w.]+\.json)", text):
        if name not in there:
            raise InputError(file, f"names configs/{name}, which is not there", "correct the command")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        link = target.partition("#")[0]
        if not link or re.match(r"[a-z]+:", link):
            continue  # a section of the page itself; the web
        # `common` may be a link, so that the path counts and not what it resolves to.
        parts: list[str] = ["docs"]
        for part in link.split("/"):
            if part == ".." and not parts:
                raise InputError(file, f"its link {target} leads out of the bundle", "name the place in words")
            parts = parts[:-1] if part == ".." else [*parts, part]
        if not root.joinpath(*parts).exists():
            raise InputError(file, f"its link {target} leads to nothing", "correct it")
