"""DICOM series as volumes: which there are in a folder, whether their slices make one grid, and their voxels."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from common.data.dicom_header import Dataset, is_dicom, read_header
from common.data.itk_names import itk_name
from common.errors import InputError

__all__ = [
    "SERIES_MARK",
    "SeriesInfo",
    "Stack",
    "find_stack",
    "is_multi_frame",
    "list_series",
    "series_label",
    "split_path",
]

SERIES_MARK = "#"  # FOLDER#SERIESUID
_SUFFIXES = (".dcm", ".dicom", ".ima")
# Objects that hold pixels, but no scan: they are passed over like reports.
_NO_SCANS = {"SEG", "RTDOSE", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "REG", "DOC"}
_SPACING_TOLERANCE = 0.01  # of the distance between slices
_RE_EXPORT = "export the whole series again"


@dataclass(frozen=True)
class SeriesInfo:
    """One image series of a folder.

    Attributes:
        source: the path form that names it: ``FOLDER`` where it is the folder's only one, else ``FOLDER#SERIESUID``.
        uid: its SeriesInstanceUID.
        number: its SeriesNumber, '' where it has none.
        description: its SeriesDescription, '' where it has none.
        files: how many files it has.
        problem: why it is not one volume (the line that a user reads), or None.
    """

    source: str
    uid: str
    number: str
    description: str
    files: int
    problem: str | None


@dataclass(frozen=True)
class _Plane:
    """One slice: where it lies (LPS, mm), and its value = slope * stored + intercept where the frame says so."""

    file: str
    frame: int
    size: tuple[int, int]  # columns, rows
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]  # between rows, between columns
    rescale: tuple[float, float] | None


@dataclass(frozen=True)
class _File:
    """What one DICOM file tells."""

    path: str
    uid: str
    origin: tuple[str, str, str]  # patient, study, frame of reference
    number: str
    description: str
    image: bool
    frames: int
    planes: tuple[_Plane, ...]
    problem: str | None


@dataclass(frozen=True)
class Stack:
    """The slices of a volume in their order.

    Attributes:
        source: the path form that was asked for.
        shape: columns, rows, slices.
        affine: 4x4, voxel to world (LPS as DICOM has it, mm).
        planes: the slices, along the third axis.
    """

    source: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    planes: tuple[_Plane, ...]

    @property
    def files(self) -> list[str]:
        """The files that the slices come from, by name."""
        return sorted({plane.file for plane in self.planes})

    def read(self) -> np.ndarray:
        """Read the voxels, rescaled.

        Returns:
            The array (columns, rows, slices), of the type that GDCM gives.

        Raises:
            InputError: the pixels of a file cannot be decoded, or are not of the size that its header states.
        """
        frames: dict[str, np.ndarray] = {}
        for file in dict.fromkeys(plane.file for plane in self.planes):
            frames[file] = _pixels(file, self.shape[:2])
        mixed = {}  # files whose frames have values of their own: GDCM applies the first frame's to all
        for plane in self.planes:
            if plane.rescale is not None:
                mixed.setdefault(plane.file, set()).add(plane.rescale)
        layers = []
        for plane in self.planes:
            if plane.frame >= len(frames[plane.file]):
                raise InputError(plane.file, "has fewer frames than its header states", _RE_EXPORT)
            layer = frames[plane.file][plane.frame]
            if len(mixed.get(plane.file, ())) > 1:
                slope, intercept = _file(plane.file).planes[0].rescale or (1.0, 0.0)
                layer = (layer - intercept) / slope
                if plane.rescale is not None:
                    layer = (layer * plane.rescale[0] + plane.rescale[1]).astype(np.float32)
            layers.append(layer)
        return np.stack(layers).transpose(2, 1, 0)


def split_path(source: str | os.PathLike) -> tuple[Path, str | None]:
    """Divide a path form into the path and the series UID, which is None where none is named.

    A file or folder whose own name holds the mark is taken as it is.
    """
    text = str(source)
    path, mark, uid = text.rpartition(SERIES_MARK)
    if not mark or os.path.exists(text) or not os.path.isdir(path):
        return Path(text), None
    return Path(path), uid


def list_series(folder: str | os.PathLike) -> list[SeriesInfo]:
    """List the image series in a folder and all folders below it, without reading voxels.

    Each folder stands for itself: files of one SeriesInstanceUID in two folders are two series. Hidden files and
    folders, files that are not DICOM, and DICOM objects without a scan (reports, presentation states, segmentations,
    plans) are passed over.

    Args:
        folder: where to look.

    Returns:
        The series by folder, number and UID. A file that cannot be read as DICOM is listed too, with its problem.

    Raises:
        InputError: the folder does not exist or cannot be read.
    """
    if not Path(folder).is_dir():
        raise InputError(folder, "is not a folder", "pass a folder of DICOM files")
    found = []
    for place, below, _ in os.walk(folder, onerror=_no_access):
        below[:] = sorted(name for name in below if not name.startswith("."))
        files = _files(Path(place))
        groups = _groups(files)
        for uid, members in groups.items():
            source = place if len(groups) == 1 else f"{place}{SERIES_MARK}{uid}"
            problem = None
            try:
                find_stack(source)
            except InputError as error:
                problem = str(error)
            first = members[0]
            found.append(SeriesInfo(source, uid, first.number, first.description, len(members), problem))
        if not groups:
            for file in files:
                if file.problem:
                    error = InputError(file.path, file.problem, "re-export it or move it away")
                    found.append(SeriesInfo(file.path, "", "", "", 1, str(error)))
    return found


def series_label(source: str | os.PathLike) -> str:
    """Return what tells a series from the others of its folder: '' for an only one, else like ``3_t2_sag``.

    Raises:
        InputError: see :func:`find_stack`.
    """
    path, uid = split_path(source)
    folder = path if path.is_dir() else path.parent
    groups = _groups(_files(folder))
    if uid is None and path.is_file():
        uid = _file_at(path).uid
    if len(groups) < 2 or uid not in groups:
        return ""
    labels = {key: _label(members[0]) for key, members in groups.items()}
    twins = [key for key, label in labels.items() if label == labels[uid]]
    tail = re.sub(r"\W", "", uid)[-8:] if len(twins) > 1 or not labels[uid] else ""
    return "_".join(filter(None, (labels[uid], tail)))


def is_multi_frame(path: str | os.PathLike) -> bool:
    """Say whether a DICOM file has several frames: it is a volume of its own then, not a slice of a series.

    Raises:
        InputError: it cannot be read.
    """
    return _file_at(Path(path)).frames > 1


def find_stack(source: str | os.PathLike) -> Stack:
    """Find the slices of one series and make sure that they are one volume; voxels are not read.

    Args:
        source: ``FOLDER`` with one image series right in it; ``FOLDER#SERIESUID`` for one of several; or a DICOM
            file: one with several frames is a volume of its own, one with a single slice stands for its series.

    Raises:
        InputError: it does not exist or cannot be read; several series and none is named; no image; a file is
            damaged; colours; no positions; the slices differ in patient, study, frame of reference, size, spacing or
            orientation; one is missing, doubled or displaced; fewer than 2 slices; several volumes in one.
    """
    path, uid = split_path(source)
    if path.is_file():
        file = _file_at(path)
        if file.problem is None and not file.image:
            raise InputError(source, "is a DICOM object without a scan", "pass the image series")
        if file.problem is not None or file.frames > 1:
            return _stack(str(source), [file])
        path, uid = path.parent, file.uid
    elif not path.is_dir():
        raise InputError(source, "does not exist", "pass a scan or a folder of scans")
    files = _files(path)
    groups = _groups(files)
    if not groups:
        damaged = next((file for file in files if file.problem), None)
        if damaged:
            raise InputError(damaged.path, damaged.problem, "re-export it or move it away")
        if files:
            raise InputError(source, f"holds {len(files)} DICOM objects, but no scan", "pass the image series")
        raise InputError(source, "holds no DICOM file", "pass a folder with the files of an image series")
    if uid is None:
        if len(groups) > 1:
            names = ", ".join(f"{path}{SERIES_MARK}{key} ({_label(group[0])})" for key, group in groups.items())
            raise InputError(source, f"holds {len(groups)} series", f"name one: {names}")
        uid = next(iter(groups))
    if uid not in groups:
        raise InputError(source, "there is no such series in the folder", f"choose one of {', '.join(groups)}")
    # A file whose series is unknown may belong to this one: without it, the volume would be silently shorter.
    lost = [file for file in files if file.problem and not file.uid]
    return _stack(str(source), lost + groups[uid])


def _no_access(error: OSError) -> None:
    raise InputError(error.filename, f"cannot be read ({error.strerror})", "grant read access") from error


def _files(folder: Path) -> list[_File]:
    """Read the headers of the DICOM files right in a folder, by name."""
    try:
        names = sorted(entry.path for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_file())
        return [_file(name) for name in names if name.lower().endswith(_SUFFIXES) or is_dicom(name)]
    except OSError as error:
        _no_access(error)
        raise


def _file_at(path: Path) -> _File:
    try:
        return _file(str(path))
    except OSError as error:
        _no_access(error)
        raise


def _file(path: str) -> _File:
    status = os.stat(path)
    return _described(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _described(path: str, size: int, modified: int) -> _File:
    header = read_header(path)
    encoding = "utf-8" if "192" in header.text(0x00080005) else "latin-1"
    problem = f"cannot be read as DICOM ({header.problem})" if header.problem else None
    if problem is None and not header.pixels and header.short(0x00280010):
        problem = "cannot be read as DICOM (it is an image without pixels)"
    # Where the header breaks off early, it is not known whether it is an image: it counts as one.
    image = (header.pixels or problem is not None) and header.text(0x00080060) not in _NO_SCANS
    if header.text(0x00080060) == "OT" and not header.text(0x00200032) and 0x52009230 not in header:
        image = False  # a picture of a screen or of a page
    planes: tuple[_Plane, ...] = ()
    frames = 1
    if image and problem is None:
        try:
            frames = int(header.text(0x00280008) or 1)
            planes = _planes(path, header, frames)
            if header.short(0x00280002) > 1:
                problem = "holds colours, not a scan"
        except ValueError as error:
            problem = str(error) if str(error).startswith("has ") else f"cannot be read as DICOM ({error})"
    return _File(
        path, header.text(0x0020000E), (header.text(0x00100020), header.text(0x0020000D), header.text(0x00200052)),
        header.text(0x00200011), header.text(0x0008103E, encoding), image, frames, planes, problem,
    )  # fmt: skip


def _planes(path: str, header: Dataset, frames: int) -> tuple[_Plane, ...]:
    size = (header.short(0x00280011), header.short(0x00280010))
    if 0x52009230 not in header:
        if frames != 1:
            raise ValueError("has several frames without positions")
        return (_plane(path, 0, size, header, header, header, None),)
    shared, groups = header.first(0x52009229), header[0x52009230]
    if not isinstance(groups, list) or len(groups) != frames:
        raise ValueError("has not as many positions as frames")

    def part(group: Dataset, tag: int) -> Dataset:
        return group.first(tag) or shared.first(tag)

    planes = []
    for number, group in enumerate(groups):
        values = part(group, 0x00289145)
        slope, intercept = values.numbers(0x00281053), values.numbers(0x00281052)
        rescale = (slope[0], intercept[0]) if slope and intercept else None
        place, turn, grid = (part(group, tag) for tag in (0x00209113, 0x00209116, 0x00289110))
        planes.append(_plane(path, number, size, place, turn, grid, rescale))
    return tuple(planes)


def _plane(
    path: str,
    frame: int,
    size: tuple[int, int],
    place: Dataset,
    turn: Dataset,
    grid: Dataset,
    rescale: tuple[float, float] | None,
) -> _Plane:
    position, orientation = place.numbers(0x00200032), turn.numbers(0x00200037)
    spacing = grid.numbers(0x00280030)
    if len(position) != 3 or len(orientation) != 6:
        raise ValueError("has no position in space")
    if len(spacing) != 2 or min(spacing) <= 0:
        raise ValueError("has no pixel spacing")
    values = (*position, *orientation, *spacing, *(rescale or (1.0,)))
    axes = np.array(orientation).reshape(2, 3)
    if not np.isfinite(values).all() or not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3):
        raise ValueError("has no valid position in space")
    if rescale is not None and rescale[0] == 0:
        raise ValueError("has a rescale slope of 0")
    return _Plane(path, frame, size, position, orientation, spacing, rescale)


def _groups(files: Iterable[_File]) -> dict[str, list[_File]]:
    """Put the images together by series, in the order of their numbers; those of an unknown series are left out."""
    groups: dict[str, list[_File]] = {}
    for file in files:
        if file.image and (file.uid or file.problem is None):
            groups.setdefault(file.uid, []).append(file)
    return dict(sorted(groups.items(), key=lambda item: (len(item[1][0].number), item[1][0].number, item[0])))


def _label(file: _File) -> str:
    words = (re.sub(r"[^\w.-]+", "_", text).strip("_.") for text in (file.number, file.description))
    return "_".join(filter(None, words))


def _same(
    source: str, planes: list[_Plane], what: str, key: Callable[[_Plane], Hashable], advice: str = "move it away"
) -> None:
    """Make sure that all slices agree, and name the first of the odd ones."""
    counts = Counter(key(plane) for plane in planes)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = [plane for plane in planes if key(plane) != usual]
        name = Path(odd[0].file).name
        raise InputError(source, f"{len(odd)} of its {len(planes)} slices have another {what} (first: {name})", advice)


def _stack(source: str, files: list[_File]) -> Stack:
    for file in files:
        if file.problem:
            raise InputError(file.path, file.problem, "re-export the series or move the file away")
    planes = [plane for file in files for plane in file.planes]
    origin = {file.path: file.origin for file in files}
    for number, what in enumerate(("patient", "study", "frame of reference")):
        _same(source, planes, what, lambda plane, number=number: origin[plane.file][number])
    _same(source, planes, "size", lambda plane: plane.size)
    several = "move it away; slices of several directions are no volume"
    reference = np.array(Counter(plane.orientation for plane in planes).most_common(1)[0][0])
    _same(source, planes, "orientation", lambda p: np.allclose(p.orientation, reference, atol=1e-3), several)
    spacing = np.array(Counter(plane.spacing for plane in planes).most_common(1)[0][0])
    _same(source, planes, "pixel spacing", lambda p: np.allclose(p.spacing, spacing, rtol=1e-3, atol=0))
    if len(planes) < 2:
        raise InputError(source, "is a single slice", "pass a volume of 2 slices or more")

    rows, columns = reference[:3], reference[3:]
    normal = np.cross(rows, columns)
    normal /= np.linalg.norm(normal)
    heights = np.array([plane.position for plane in planes]) @ normal
    order = np.argsort(heights, kind="stable")
    planes, heights = [planes[k] for k in order], heights[order]
    step = _step(source, planes, heights)
    positions = np.array([plane.position for plane in planes])
    drift = np.linalg.norm(positions - positions[0] - np.outer(heights - heights[0], normal), axis=1)
    if drift.max() > 0.5 * spacing.min():
        name = Path(planes[int(drift.argmax())].file).name
        raise InputError(
            source, f"its slices do not lie straight above each other (by {drift.max():.3g} mm, {name})",
            "resample it to a straight grid first",
        )  # fmt: skip
    affine = np.eye(4)
    affine[:3, :3] = np.stack([rows * spacing[1], columns * spacing[0], normal * step], axis=1)
    affine[:3, 3] = positions[0]
    return Stack(source, (*planes[0].size, len(planes)), affine, tuple(planes))


def _step(source: str, planes: list[_Plane], heights: np.ndarray) -> float:
    """Return the distance between slices (mm), once it is sure that none is missing or doubled."""
    gaps = np.diff(heights)
    apart = gaps > max(_SPACING_TOLERANCE * gaps.max(), 1e-4)
    if not apart.all():
        _, counts = np.unique(np.concatenate([[0], np.cumsum(apart)]), return_counts=True)
        if counts.min() == counts.max():
            raise InputError(
                source, f"has {counts[0]} images of each slice (times, echoes or diffusion weightings), not one volume",
                "pass one of them",
            )  # fmt: skip
        k = int(np.argmin(apart))
        first, second = (f"{Path(plane.file).name}, frame {plane.frame + 1}" for plane in planes[k : k + 2])
        if planes[k].file != planes[k + 1].file:
            first, second = (Path(plane.file).name for plane in planes[k : k + 2])
        raise InputError(source, f"has two slices at one position ({first} and {second})", "remove one of them")
    usual = float(np.median(gaps))
    odd = np.abs(gaps - usual) > max(_SPACING_TOLERANCE * usual, 1e-3)
    if odd.any():
        # A missing slice leaves a wide gap; where only narrow ones are odd, the first of them is named.
        k = int(np.argmax(gaps)) if gaps.max() > 1.5 * usual else int(np.argmax(odd))
        kind = "a slice is missing" if gaps[k] > 1.5 * usual else "the slices are not evenly spaced"
        raise InputError(
            source, f"has {gaps[k]:.4g} mm between slices {k + 1} and {k + 2}, elsewhere {usual:.4g} mm: {kind}",
            _RE_EXPORT,
        )  # fmt: skip
    return float(gaps.mean())


def _pixels(file: str, size: tuple[int, ...]) -> np.ndarray:
    """Decode a file: (frames, rows, columns)."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what is wrong is said in one line, below
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(itk_name(file))
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, ValueError, MemoryError) as error:
        raise InputError(file, "cannot be read as DICOM (its pixels cannot be decoded)", _RE_EXPORT) from error
    array = array.reshape(-1, *array.shape[-2:]) if array.ndim in (2, 3) else array
    if array.ndim != 3 or array.shape[1:] != size[::-1]:
        shape = " x ".join(map(str, array.shape[::-1]))
        raise InputError(file, f"is not an image of grey levels (its size is {shape})", "pass a grey-level scan")
    return array
