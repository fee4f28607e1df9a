"""Use downloaded bundles, all in one process: ``python -P downloaded_bundles.py JOB``, in an empty folder.

It prints what came of it, as JSON, in the last line.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import sys
from pathlib import Path
from typing import Any

JOB = json.loads(sys.argv[1])


class NotInstalled(importlib.abc.MetaPathFinder):
    """Hides packages, as if only requirements.txt were installed."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Refuse what is hidden."""
        if fullname.partition(".")[0] in JOB["hidden"]:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


sys.meta_path.insert(0, NotInstalled())

import monai.bundle  # noqa: E402
import torch  # noqa: E402


def loaded_and_run(name: str, ids: dict[str, Any]) -> dict[str, Any]:
    """Load a bundle's network with its weights; make its inference, and run it."""
    monai.bundle.download(name=name, url=f"{JOB['url']}/{name}_v{JOB['version']}.zip", bundle_dir=".")
    root, output = Path(name).resolve(), Path("output", name).resolve()
    given = {"bundle_root": str(root), "output_dir": str(output), "logging_file": False, "device": "cpu"} | ids
    network = monai.bundle.load(name, bundle_dir=".", device="cpu", args_file=dict(given))
    weights, found = torch.load(root / "models" / "model.pt", weights_only=True), network.state_dict()
    same = found.keys() == weights.keys() and all(torch.equal(found[key], weights[key]) for key in weights)
    config = str(root / "configs" / "inference.json")
    made = monai.bundle.create_workflow(config_file=config, workflow_type="infer", input=JOB["inputs"][name], **given)
    made.run()
    return {"weights": same, "written": sorted(path.name for path in output.iterdir())}


def refusal(root: str) -> str:
    """Return the first cause of what a bundle of another release says."""
    config = os.path.join(root, "configs", "inference.json")
    try:
        monai.bundle.create_workflow(
            config_file=config, workflow_type="infer", bundle_root=root, logging_file=False, input="none"
        ).run()
    except Exception as error:
        link: BaseException = error
        while (before := link.__cause__ or link.__context__) is not None:
            link = before
        return f"{type(link).__name__}: {link}"
    return "none"


result: dict[str, Any] = {name: loaded_and_run(name, ids) for name, ids in JOB["bundles"].items()}
result["common"] = sys.modules["common"].__file__
result["refusal"] = refusal(JOB["other"])
print(json.dumps(result))
