"""The application that MONAI Label runs: every bundle of a folder, as it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import monailabel
from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

from common.errors import InputError
from tools.monailabel.bundles import WEIGHTS, find_bundles
from tools.monailabel.served import ServedBundle
from tools.monailabel.trained import TrainedBundle

__all__ = ["LocalBundles"]


class LocalBundles(MONAILabelApp):
    """Serve and train the bundles of a folder.

    A bundle that cannot be served does not keep the others from it: a line says why. One without weights is trained,
    and served from then on.

    Args:
        app_dir: the server's own folder.
        studies: the folder of images, or the address of a DICOMweb server.
        conf: ``bundles``: their folder; ``models``: which of them, with commas between, or none for all; ``output``:
            where trainings write.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        names = [name.strip() for name in conf.get("models", "").split(",") if name.strip()]
        self.folders = find_bundles(Path(conf["bundles"]), names)
        self.refused: dict[str, str] = {}  # why a bundle does not segment, by its name
        self.untrainable: dict[str, str] = {}
        super().__init__(
            app_dir,
            studies,
            conf,
            name=f"Local bundles (MONAI Label {monailabel.__version__})",
            description="The bundles of a folder, 2D and 3D",
            version=monailabel.__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        self._infers: dict[str, InferTask] = {}
        for name in self.folders:
            self._serve(name)
        return self._infers

    def init_trainers(self) -> dict[str, TrainTask]:
        tasks = {}
        for name, folder in self.folders.items():
            output = Path(self.conf["output"]) / name
            make = partial(_trained, folder, self.conf, output)
            task = _attempt(name, make, self.untrainable, "train")
            if task is not None:
                tasks[name] = task
        return tasks

    def init_strategies(self) -> dict[str, Strategy]:
        return {"random": Random(), "first": First()}

    def on_init_complete(self) -> None:
        super().on_init_complete()
        print(f"Segmenting: {', '.join(self._infers) or 'none'}. Training: {', '.join(self._trainers) or 'none'}.")
        for reasons, what in ((self.refused, "does not segment"), (self.untrainable, "cannot be trained")):
            for name, why in reasons.items():
                print(f"{name} {what}: {why}")
        sys.stdout.flush()

    def info(self) -> dict[str, Any]:
        for name in [name for name in self.folders if name not in self._infers]:
            self._serve(name)  # it may have weights by now
        return super().info()

    def infer(self, request: Mapping[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Segment; what is wrong with a request, its image or the weights reaches the client as one line.

        Raises:
            HTTPException: 404 for an unknown model or image, 422 for one that cannot be used.
        """
        if request.get("model") in self.refused:
            raise HTTPException(404, f"{request['model']} does not segment: {self.refused[request['model']]}")
        image = request.get("image")
        if isinstance(image, str) and not Path(image).exists():
            if not (datastore or self.datastore()).get_image_uri(image):
                raise HTTPException(404, f"there is no image '{image}' in the studies")
        try:
            return super().infer(request, datastore)
        except MONAILabelException as error:
            raise HTTPException(404, error.msg) from error
        except Exception as error:
            if (cause := _refusal(error)) is None:
                raise
            raise HTTPException(422, str(cause)) from error

    def train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Train.

        Raises:
            InputError: the data, the weights or a setting cannot be used. In the process of its own that a training
                usually has, that is the last line of the task's details.
            HTTPException: 422, the same within the server.
        """
        try:
            return super().train(request)
        except Exception as error:
            if (cause := _refusal(error)) is None:
                raise
            if self._server_mode:
                raise HTTPException(422, str(cause)) from error
            raise InputError(cause.where, cause.problem, cause.remedy) from None

    def _serve(self, name: str) -> None:
        """Make a bundle's task, or keep what stands against it."""
        folder = self.folders[name]
        if not (folder / "models" / WEIGHTS).is_file() and not (folder / "models" / "model.ts").is_file():
            self.refused[name] = f"there are no weights (models/{WEIGHTS}); train it, or copy some there"
            return
        task = _attempt(name, partial(ServedBundle, folder, self.conf), self.refused, "inference")
        if task is not None:
            self._infers[name] = task
            self.refused.pop(name, None)


def _trained(folder: Path, conf: Mapping[str, str], output: Path) -> TrainedBundle:
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    image = next(iter(metadata["network_data_format"]["inputs"].values()))
    return TrainedBundle(folder, conf, output, dimension=len(image.get("spatial_shape") or (0, 0, 0)))


def _attempt(name: str, make: Callable[[], Any], reasons: dict[str, str], config: str) -> Any | None:
    """Make a task, or keep in a line what stands against it: a bundle may be anybody's."""
    path = list(sys.path)
    try:
        task = make()
    except Exception as error:
        sys.path[:] = path
        refusal = _refusal(error)
        reasons[name] = " ".join(str(refusal or f"{type(error).__name__}: {error}").split())
        return None
    if not task.is_valid():
        reasons[name] = f"there is no configs/{config}.json"
        return None
    return task


def _refusal(error: BaseException | None) -> InputError | None:
    """Find the refusal behind the errors in which MONAI wraps it."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error
