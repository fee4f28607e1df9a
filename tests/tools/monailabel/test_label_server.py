"""MONAI Label with the bundles: this project's app, and MONAI Label's own for bundles.

The server runs in its own environment (.venv-label), within a process that sends it requests without sockets
(answers.py); one test starts the command that users type.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.data import LabelScheme
from tests.bundles.runs import ROOT, content_of, run
from tests.bundles.video_bundle_tests import masks_in
from tests.common.handlers.video_runs import scene
from tests.tools.monailabel.label_bundles import (
    FRAMES,
    SCANS,
    VOLUMES,
    foreign_frames,
    foreign_volumes,
    half_trained,
    misfit,
    tiny_bundle,
    write_frames,
    write_json,
    write_scans,
    write_volumes,
)

PYTHON = ROOT / ".venv-label" / "bin" / "python"
BUNDLES = (*VOLUMES, *FRAMES)
TRAINING = {"max_epochs": 1, "val_split": 0.34}
pytestmark = pytest.mark.skipif(
    not (PYTHON.parents[1] / "installed").is_file(),
    reason="MONAI Label is not installed: bash tools/monailabel/setup.sh",
)


@dataclass
class Answer:
    status: int
    json: Any
    body: bytes

    @property
    def volume(self) -> nib.Nifti1Image:
        assert self.status == 200, self.json
        with tempfile.NamedTemporaryFile(suffix=".nii.gz") as file:
            file.write(self.body)
            file.flush()
            image = nib.load(file.name)
            return nib.Nifti1Image(np.asarray(image.dataobj), image.affine)

    @property
    def picture(self) -> np.ndarray:
        assert self.status == 200, self.json
        image = Image.open(io.BytesIO(self.body))
        assert image.format == "PNG"
        return np.asarray(image)


class Session:
    """Requests to one app with one folder of studies."""

    def __init__(self, app: Path, studies: Path, **conf: Any) -> None:
        self.job = {"app": str(app), "studies": str(studies), "conf": {k: str(v) for k, v in conf.items()}}
        self.requests: dict[str, dict[str, Any]] = {}

    def ask(self, name: str, method: str, url: str, **arguments: Any) -> None:
        self.requests[name] = {"method": method, "url": url, **arguments}

    def infer(self, name: str, model: str, image: str, **params: Any) -> None:
        data = {"params": json.dumps(params)}
        self.ask(name, "POST", f"/infer/{model}", params={"image": image, "output": "image"}, data=data)

    def train(self, name: str, model: str, **params: Any) -> None:
        self.ask(name, "POST", f"/train/{model}", params={"run_sync": True}, json={**TRAINING, **params})


def answers_of(sessions: Sequence[Session], folder: Path, **environment: str) -> dict[str, Answer]:
    """Let the server answer all sessions, one after the other, in one process."""
    folder.mkdir(parents=True)
    job = [session.job | {"requests": list(session.requests.values())} for session in sessions]
    write_json(folder / "job.json", job)
    command = [PYTHON, Path(__file__).with_name("answers.py"), folder / "job.json", folder]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    clean |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **environment}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, encoding="utf-8", timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    names = [name for session in sessions for name in session.requests]
    answers = {}
    for number, name in enumerate(names):
        content = json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))
        answers[name] = Answer(content["status"], content["json"], (folder / f"{number}.bin").read_bytes())
    return answers


# ------------------------------------------------------------------------------------------------------- what is there


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


@pytest.fixture(scope="module")
def scans(folder: Path) -> Path:
    return write_scans(folder / "scans")


@pytest.fixture(scope="module")
def volumes(folder: Path, scans: Path) -> Path:
    return write_volumes(folder / "volumes", scans)


@pytest.fixture(scope="module")
def frames(folder: Path) -> Path:
    return write_frames(folder / "frames")


@pytest.fixture(scope="module")
def frame(folder: Path, frames: Path) -> Path:
    """A folder of the one frame that is segmented."""
    (folder / "frame").mkdir()
    shutil.copy(frames / "f0.png", folder / "frame")
    return folder / "frame"


@pytest.fixture(scope="module")
def untouched(folder: Path, frames: Path, scans: Path) -> Path:
    """The four bundles."""
    for name in BUNDLES:
        image = frames / "f0.png" if name in FRAMES else scans / "oblique.nii.gz"
        tiny_bundle(name, folder / "untouched" / name, image)
    return folder / "untouched"


@pytest.fixture(scope="module")
def written(scans: Path, frame: Path) -> Callable[[Path, str], dict[str, Any]]:
    """What ``python -m monai.bundle run`` writes: label maps of the scans by name, or the frame's mask."""

    def segment(bundle: Path, kind: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name:
            output = Path(name)
            source = scans if kind in VOLUMES else frame
            run(bundle, "inference", input=str(source), output_dir=str(output), overlay="false")
            if kind in FRAMES:
                (mask,) = masks_in(output, "frame")
                return {"f0": mask}
            images = {scan: nib.load(output / f"{scan}_seg.nii.gz") for scan in SCANS}
            return {k: nib.Nifti1Image(np.asarray(i.dataobj), i.affine) for k, i in images.items()}

    return segment


@pytest.fixture(scope="module")
def expected(untouched: Path, written) -> dict[str, dict[str, Any]]:
    """The same before any training, of each bundle."""
    return {name: written(untouched / name, name) for name in BUNDLES}


def first_requests(volumes: Session, frames: Session) -> None:
    """What both apps are asked: information, inference, a training of each bundle, inference again."""
    for session, names, images in ((volumes, VOLUMES, list(SCANS)), (frames, FRAMES, ["f0"])):
        session.ask("info" if session is volumes else "info of frames", "GET", "/info/")
        for name in names:
            for image in images:
                session.infer(f"{name} {image}", name, image)
        for name in names:
            session.train(f"{name} training", name)
            session.infer(f"{name} after", name, images[0])


@dataclass
class Served:
    """What a server was asked, and its bundles afterwards."""

    answers: Mapping[str, Answer]
    bundles: Path
    folder: Path


@pytest.fixture(scope="module")
def own(folder: Path, untouched: Path, volumes: Path, frames: Path) -> Served:
    """This project's app, on the four bundles and others."""
    here = folder / "own"
    bundles = shutil.copytree(untouched, here / "bundles")
    foreign_volumes(bundles / "foreign")
    foreign_frames(bundles / "foreign_frames")
    misfit(bundles / "misfit")
    half_trained(bundles / "bess", bundles / "half")
    for source, name in (("safnet", "recipe"), ("bess", "recipe_of_two")):
        shutil.copytree(bundles / source, bundles / name)
        shutil.rmtree(bundles / name / "models")
    (bundles / "no_bundle").mkdir()
    (here / "app").mkdir()
    (here / "app" / "main.py").write_text(
        "from tools.monailabel.app import LocalBundles  # noqa: F401\n", encoding="utf-8"
    )
    conf = {"bundles": bundles, "output": here / "training"}
    first = Session(here / "app", shutil.copytree(volumes, here / "volumes"), **conf)
    second = Session(here / "app", shutil.copytree(frames, here / "frames"), **conf)
    first.infer("nrrd", "safnet", "oblique", result_extension=".nrrd", result_dtype="uint16")
    first.ask(
        "upload", "POST", "/infer/safnet", params={"output": "image"}, file=str(here / "volumes" / "oblique.nii.gz"),
        data={"params": json.dumps({"result_extension": ".nii"})},
    )  # fmt: skip
    second.infer("still", "funet", "still")
    second.infer("saved", "funet", "f0", save_label=True, label_tag="final")
    first_requests(first, second)
    for scan in SCANS:
        first.infer(f"foreign {scan}", "foreign", scan)
    for name in ("misfit", "half", "nothing", "recipe", "recipe_of_two"):
        first.infer(name, name, "sagittal")
    first.infer("no image", "safnet", "nothing")
    first.infer("broken", "safnet", "broken")
    first.train("recipe training", "recipe", pretrained=False)
    first.train("recipe_of_two training", "recipe_of_two")
    first.train("bess on volumes", "bess")
    first.infer("recipe after", "recipe", "sagittal")
    first.ask("info after", "GET", "/info/")
    first.infer("recipe after info", "recipe", "sagittal")
    second.infer("foreign frame", "foreign_frames", "f0")
    second.train("half training", "half")
    answers = answers_of([first, second], here / "answers", PYTHONPATH=str(ROOT))
    return Served(answers, bundles, here)


@pytest.fixture(scope="module")
def stock(folder: Path, untouched: Path, volumes: Path, frames: Path) -> Served:
    """MONAI Label's app for bundles, which knows nothing of this project, on links to the four bundles."""
    here = folder / "stock"
    bundles = shutil.copytree(untouched, here / "bundles")
    command = [PYTHON, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle", "--output", here]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    app = here / "monaibundle"
    (app / "model").mkdir()
    for name in BUNDLES:
        (app / "model" / name).symlink_to(bundles / name)
    conf = {"models": ",".join(BUNDLES), "zoo_source": "local"}
    first = Session(app, shutil.copytree(volumes, here / "volumes"), **conf)
    second = Session(app, shutil.copytree(frames, here / "frames"), **conf)
    first_requests(first, second)
    return Served(answers_of([first, second], here / "answers"), bundles, here)


@pytest.fixture(scope="module", params=["own", "stock"])
def served(request: pytest.FixtureRequest) -> Served:
    return request.getfixturevalue(request.param)


# ------------------------------------------------------------------------------------------------------------ both apps


def labels_of(name: str) -> dict[str, int]:
    if name in FRAMES:
        return {"nerve" if name == "funet" else "neural tissue": 1}
    scheme = LabelScheme.load({"safnet": "mrspineseg17", "sshsnet": "mrspineseg19"}[name])
    return {structure.name: structure.value for structure in scheme.structures}


@pytest.mark.parametrize("name", BUNDLES)
def test_info(served, name, request):
    info = served.answers["info"].json
    assert served.answers["info"].status == 200 and set(BUNDLES) <= set(info["models"]) & set(info["trainers"])
    model = info["models"][name]
    assert model["type"] == "segmentation" and model["dimension"] == (3 if name in VOLUMES else 2)
    wanted = labels_of(name)
    if name in VOLUMES:
        assert wanted["L5/S"] == 11 and wanted["S"] == 1
    if "stock" in request.node.name:
        wanted = {label.lower(): value for label, value in wanted.items()}
    assert model["labels"] == wanted


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("name", VOLUMES)
def test_a_scan_is_segmented_as_the_command_line_does(served, expected, scans, name, scan):
    found, wanted = served.answers[f"{name} {scan}"].volume, expected[name][scan]
    values = np.asarray(wanted.dataobj)
    assert len(np.unique(values)) > 1 and set(np.unique(values)) <= {0, *labels_of(name).values()}
    assert not any(np.array_equal(values, np.flip(values, axis)) for axis in range(3))
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(found.dataobj, wanted.dataobj)
    # MONAI Label's own writer keeps single precision.
    np.testing.assert_allclose(found.affine, nib.load(scans / f"{scan}.nii.gz").affine, atol=1e-4)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_segmented_as_the_command_line_does(served, expected, name):
    found, wanted = served.answers[f"{name} f0"].picture, expected[name]["f0"]
    assert 0.1 < (wanted > 0).mean() < 0.9 and wanted.shape == (45, 61)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(255 * found, wanted)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_training_changes_the_weights_and_what_follows(served, untouched, expected, written, name):
    assert served.answers[f"{name} training"].status == 200, served.answers[f"{name} training"].json
    before, after = ((bundles / name) for bundles in (untouched, served.bundles))
    assert (before / "models" / "model.pt").read_bytes() != (after / "models" / "model.pt").read_bytes()
    wanted, answer = written(after, name), served.answers[f"{name} after"]
    if name in FRAMES:
        np.testing.assert_array_equal(255 * answer.picture, wanted["f0"])
        assert not np.array_equal(wanted["f0"], expected[name]["f0"])
    else:
        np.testing.assert_array_equal(answer.volume.dataobj, wanted["sagittal"].dataobj)
        assert not np.array_equal(wanted["sagittal"].dataobj, expected[name]["sagittal"].dataobj)


# -------------------------------------------------------------------------------------------------- this project's app


@pytest.mark.parametrize("scan", SCANS)
def test_the_matrix_of_a_scan_is_kept_to_the_last_digit(own, scans, scan):
    found = own.answers[f"safnet {scan}"].volume
    np.testing.assert_array_equal(found.affine, nib.load(scans / f"{scan}.nii.gz").affine)


@pytest.mark.parametrize("scan", SCANS)
def test_another_projects_bundle_for_volumes(own, scans, scan):
    """With MONAI's Spacingd, which fails in MONAI Label's own app; what is bright is known in every voxel."""
    image, found = nib.load(scans / f"{scan}.nii.gz"), own.answers[f"foreign {scan}"].volume
    bright = np.asarray(image.dataobj) >= 500
    assert 0.4 < bright.mean() < 0.6
    np.testing.assert_array_equal(found.dataobj, bright)
    np.testing.assert_array_equal(found.affine, image.affine)
    assert own.answers["info"].json["models"]["foreign"]["labels"] == {"Bright": 1}


def test_another_projects_bundle_for_frames(own):
    bright = scene(1, (45, 61))[0].mean(axis=-1) > 128
    assert 0 < bright.mean() < 1
    np.testing.assert_array_equal(own.answers["foreign frame"].picture, bright)


def test_other_formats(own, expected):
    """As a client sends it; and as 3D Slicer asks for it."""
    wanted = np.asarray(expected["safnet"]["oblique"].dataobj)
    answer = own.answers["upload"]
    image = nib.Nifti1Image.from_bytes(answer.body)
    assert answer.status == 200 and np.array_equal(image.dataobj, wanted)
    header, _, data = own.answers["nrrd"].body.partition(b"\n\n")
    assert b"type: unsigned short" in header and b"sizes: 9 20 24" in header
    assert np.array_equal(np.frombuffer(data, "<u2").reshape(24, 20, 9).T, wanted)


def test_the_mask_of_a_jpeg_is_lossless(own):
    mask = own.answers["still"].picture
    assert mask.shape == (45, 61) and set(np.unique(mask)) == {0, 1}


def test_a_mask_is_saved_beside_its_frame(own):
    saved = np.asarray(Image.open(own.folder / "frames" / "labels" / "final" / "f0.png"))
    assert own.answers["saved"].status == 200 and np.array_equal(saved, own.answers["funet f0"].picture)


def test_what_cannot_be_used_is_one_line(own, frames):
    models, lines = own.bundles, {name: own.answers[name].json for name in ("misfit", "half", "nothing", "no image")}
    assert lines["misfit"]["detail"] == (
        f"misfit does not segment: {models}/misfit/models/model.pt: does not fit this network (2 of 2 tensors are "
        "missing or of another shape, 0 are unknown; first: weight); pass weights that were trained with the same "
        "settings"
    )
    assert lines["half"]["detail"].startswith(
        f"half does not segment: {models}/half/models/model.pt: its classifier was never trained"
    )
    assert "no model 'nothing' available" in lines["nothing"]["detail"]
    assert lines["no image"]["detail"] == "there is no image 'nothing' in the studies"
    for name in lines:
        assert own.answers[name].status == 404
    broken = own.answers["broken"]
    assert broken.status == 422 and f"{own.folder}/volumes/broken.nii.gz" in broken.json["detail"]
    assert "\n" not in broken.json["detail"]
    assert not set(own.answers["info"].json["models"]) & {"misfit", "half", "recipe", "recipe_of_two"}


def test_a_bundle_without_weights_segments_once_it_is_trained(own):
    refused = own.answers["recipe"]
    assert refused.status == 404 and refused.json["detail"] == (
        "recipe does not segment: there are no weights (models/model.pt); train it, or copy some there"
    )
    assert own.answers["recipe training"].status == 200
    assert own.answers["recipe after"].status == 200
    assert "recipe" in own.answers["info after"].json["models"]


def test_what_cannot_be_trained_is_one_line(own):
    two, volumes = (own.answers[name] for name in ("recipe_of_two training", "bess on volumes"))
    assert two.status == 422 and two.json["detail"] == (
        f"{own.bundles}/recipe_of_two/models/model.pt: there are no weights of the classifier, and MONAI Label trains "
        "the segmenter alone; train both with 'python -m monai.bundle run' and copy model.pt and model.json there"
    )
    assert not (own.bundles / "recipe_of_two" / "models").exists()
    assert volumes.status == 422 and volumes.json["detail"] == (
        "studies: no picture has a final label; label some and submit them, then train"
    )
    assert "foreign" not in own.answers["info"].json["trainers"]
    assert own.answers["half training"].status == 200


def test_only_weights_are_written_into_bundles(own, untouched):
    for name in BUNDLES:
        before, after = (content_of(bundles / name) for bundles in (untouched, own.bundles))
        changed = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
        assert changed <= {"models/model.pt", "models/model.json"} and "models/model.pt" in changed
        (training,) = (own.folder / "training" / name).iterdir()
        assert {"model.pt", "history.csv", "log.txt", "provenance.json"} <= {path.name for path in training.iterdir()}


# ---------------------------------------------------------------------------------------------------------- the command


def get(url: str, data: Any = None) -> Any:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def wait_for(what: Callable[[], Any], process: subprocess.Popen, log: Path, seconds: float = 600) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        try:
            if found := what():
                return found
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text(encoding="utf-8")[-3000:])


def test_the_command_serves_this_computer_alone_and_trains(folder, untouched, volumes):
    here = folder / "command"
    bundles = here / "bundles"
    shutil.copytree(untouched / "safnet", bundles / "safnet")
    shutil.copytree(bundles / "safnet" / "configs", bundles / "bare" / "configs")
    before = content_of(bundles)
    studies = shutil.copytree(volumes, here / "volumes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["bash", ROOT / "tools" / "monailabel" / "serve.sh", "--bundles", "bundles", "--studies", "volumes"]
    command += ["--port", str(port), "--workspace", "work"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    log = here / "log.txt"
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=here, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        info = wait_for(lambda: get(f"http://127.0.0.1:{port}/info/"), process, log)
        assert list(info["models"]) == ["safnet"] and set(info["trainers"]) == {"safnet", "bare"}
        assert "bare does not segment: there are no weights (models/model.pt)" in log.read_text(encoding="utf-8")
        if sys.platform == "linux":  # where all of 127.0.0.0/8 is this computer
            with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), timeout=10):
                pass
        get(f"http://127.0.0.1:{port}/train/safnet", TRAINING | {"device": "cpu"})

        def finished() -> Any:
            task = get(f"http://127.0.0.1:{port}/train/")
            return task if task["status"] in ("DONE", "ERROR") else None

        assert wait_for(finished, process, log)["status"] == "DONE", log.read_text(encoding="utf-8")[-3000:]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(60)
        finally:
            process.kill()
    assert status == 0 and "Traceback" not in log.read_text(encoding="utf-8")
    after = content_of(bundles)
    changed = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
    assert changed <= {"safnet/models/model.pt", "safnet/models/model.json"} and "safnet/models/model.pt" in changed
    assert {path.name for path in (here / "work").iterdir()} == {"app", "training"}
    assert {path.name for path in studies.iterdir()} - {path.name for path in volumes.iterdir()} <= {
        "datastore_v2.json", "datastore_v2.json.lock", ".lock"
    }  # fmt: skip
