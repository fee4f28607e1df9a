"""Run checks of one bundle: ``python -P worker.py JOB``, in an empty folder.

It answers each check with a line of JSON on standard output: what is wrong, or an empty string. Everything else that
is said goes to standard error. Nothing of the repository is imported: ``common`` is the bundle's own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser

# Phantoms that are few and small, but enough for every part of the split.
_SMALL_DATA = {
    "phantom_cases": 6, "phantom_sequences": 8, "phantom_length": 8, "phantom_size": [64, 96],
    "num_validation": 1, "cache_rate": 0.0, "num_workers": 0,
}  # fmt: skip
# How MONAI's errors begin that say where, not what.
_WRAPPERS = ("Failed to instantiate", "Failed to evaluate")


@dataclass
class Bundle:
    """A copy of a bundle that is checked.

    Args:
        root: its folder.
        schema: file of the metadata's schema; None: MONAI downloads it.
    """

    root: Path
    schema: str | None

    def config(self, name: str) -> str:
        """Return the path of one of its configurations."""
        return str(self.root / "configs" / f"{name}.json")

    @property
    def weights(self) -> Path:
        return self.root / "models" / "model.pt"

    @property
    def data(self) -> Path:
        """The phantoms, which the check of the training makes."""
        return Path.cwd() / "phantom"

    def network(self) -> torch.nn.Module:
        """Make the network of inference.json."""
        parser = ConfigParser()
        parser.read_config(self.config("inference"))
        parser["bundle_root"] = str(self.root)
        return parser.get_parsed_content("network_def")

    # ---------------------------------------------------------------------------------------------------------- checks

    def schema_(self) -> None:
        """The metadata follow the schema that they name."""
        where = self.schema or str(Path.cwd() / "schema.json")
        try:
            monai.bundle.verify_metadata(meta_file=self.config("metadata"), filepath=where)
        except OSError as error:
            raise RuntimeError(f"the schema cannot be downloaded ({error}): pass --schema FILE") from error

    def network_(self) -> None:
        """The network takes and gives what the metadata say; and the code is the bundle's own."""
        given = {"meta_file": self.config("metadata"), "config_file": self.config("inference"), "device": "cpu"}
        monai.bundle.verify_net_in_out("network_def", bundle_root=str(self.root), **given)
        import common

        if Path(common.__file__).parent != self.root / "common":
            raise RuntimeError(f"it ran the code in {Path(common.__file__).parent}, not its own")

    def properties(self, kind: str, configs: list[str], **ids: Any) -> None:
        """MONAI finds the properties that its tools rely on."""
        defined: dict[str, Any] = {}
        for name in configs:
            defined |= json.loads(Path(self.config(name)).read_text(encoding="utf-8"))
        ids = {name: value for name, value in (_SMALL_DATA | ids).items() if name in defined}
        files = [self.config(name) for name in configs]
        given = {"bundle_root": str(self.root), "output_dir": str(Path.cwd() / "output"), "device": "cpu"}
        made = monai.bundle.create_workflow(
            config_file=files, workflow_type=kind, logging_file=False, meta_file=self.config("metadata"), **given, **ids
        )
        if missing := made.check_properties():
            raise RuntimeError(f"{'+'.join(configs)}.json: MONAI does not find {', '.join(missing)}")

    def train_properties(self) -> None:
        """See :meth:`properties`."""
        self.properties("train", ["train"], phantom_dir=str(self.data))

    def weights_(self) -> None:
        """The weights are tensors, load without code, fit the network and are complete."""
        if not self.weights.is_file():
            raise RuntimeError(f"{self.weights.name} is not there, though models/ or large_files.json holds something")
        network = self.network()
        from common.handlers import load_weights  # of the bundle's own, which can be imported now

        load_weights(network, self.weights, complete=True)

    def evaluate_properties(self) -> None:
        """See :meth:`properties`; with the settings that the weights were trained with."""
        plan = self.weights.with_suffix(".json")
        settings = json.loads(plan.read_text(encoding="utf-8")) if plan.is_file() else {}
        compared = json.loads(Path(self.config("train")).read_text(encoding="utf-8"))["plan"]
        own = {name: value for name, value in settings.items() if name in compared}
        self.properties("train", ["train", "evaluate"], dataset_dir=str(self.data), **own)

    def inference_properties(self) -> None:
        """See :meth:`properties`."""
        self.properties("infer", ["inference"], input=str(self.data))

    def torchscript(self) -> None:
        """The network can be exported with its weights, and a network that is shipped so can be loaded."""
        file = Path.cwd() / "model.ts"
        monai.bundle.ckpt_export(
            "network_def", filepath=str(file), config_file=self.config("inference"), bundle_root=str(self.root)
        )
        exported, metadata, _ = monai.data.load_net_with_metadata(str(file))
        weights, found = torch.load(self.weights, weights_only=True), exported.state_dict()
        weights = weights.get("model", weights)
        # Weights that are shipped in half precision are the same numbers in full.
        same = (torch.equal(found[name], weights[name].to(found[name].dtype)) for name in weights if name in found)
        if found.keys() != weights.keys() or not all(same):
            raise RuntimeError("the exported network has other weights")
        if metadata.get("bundle") != self.root.name:
            raise RuntimeError("the exported network does not hold the bundle's metadata")
        shipped = self.root / "models" / "model.ts"
        if shipped.is_file():
            torch.jit.load(shipped, map_location="cpu")


_CHECKS: Mapping[str, Callable[[Bundle], None]] = {
    "schema": Bundle.schema_,
    "network": Bundle.network_,
    "train_properties": Bundle.train_properties,
    "weights": Bundle.weights_,
    "evaluate_properties": Bundle.evaluate_properties,
    "inference_properties": Bundle.inference_properties,
    "torchscript": Bundle.torchscript,
}


def put_random_weights(bundle: Bundle) -> None:
    """Give a bundle weights, the same ones each time, which count as trained."""
    torch.manual_seed(0)
    network = bundle.network()
    for stage in getattr(network, "untrained", list)():
        network.mark_trained(stage)
    bundle.weights.parent.mkdir(exist_ok=True)
    torch.save(network.state_dict(), bundle.weights)


def problem_of(check: Callable[[], None]) -> str:
    """Run a check; return what is wrong, in one line."""
    try:
        check()
    except (Exception, SystemExit) as error:
        cause = _cause(error)
        text = " ".join(str(cause).split()) or "no message"
        kind = "" if isinstance(cause, RuntimeError | ValueError | SystemExit) else f"{type(cause).__name__}: "
        return f"{kind}{text[:400]}"
    return ""


def _cause(error: BaseException) -> BaseException:
    """Return the bundle's own refusal where that is the cause, else what MONAI has wrapped in errors of its own."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    for link in chain:
        if type(link).__name__ == "InputError":  # of the bundle's copy of the shared code
            return link
    return next((link for link in chain if not str(link).startswith(_WRAPPERS)), chain[-1])


def main() -> None:
    """Run the job's checks."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # MONAI logs to standard output
    job = json.loads(sys.argv[1])
    bundle = Bundle(Path(job["root"]), job["schema"])
    failure = problem_of(lambda: put_random_weights(bundle)) if job["random_weights"] else ""
    for name in job["checks"]:
        problem = failure or problem_of(lambda check=_CHECKS[name]: check(bundle))
        print(json.dumps(problem), file=answers, flush=True)


if __name__ == "__main__":
    main()
