"""Label maps as DICOM Segmentations, which refer to the slices that they were made from.

Archives and viewers show such an object over its series. It needs the package highdicom, which is optional.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.data.atomic import atomic_path
from common.data.dicom_series import Stack, find_stack
from common.data.label_scheme import LabelScheme, Structure
from common.data.scan_reader import known_format
from common.errors import InputError

if TYPE_CHECKING:
    import highdicom
    import pydicom

__all__ = ["SEG_FORMAT", "SEG_SUFFIX", "Algorithm", "check_seg_source", "write_dicom_seg"]

SEG_FORMAT = "dicom-seg"  # what an output format is called
SEG_SUFFIX = ".dcm"
_MANUFACTURER = "The spine segmentation bundles project"
_OTHER_FORMAT = "choose another --output_format"
# Of the patient and the study; DICOM wants these to be there, and lets them be empty.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation.

    Attributes:
        name: the bundle's.
        version: the bundle's.
        weights: SHA-256 of the file of weights, in hexadecimal.
    """

    name: str
    version: str
    weights: str


def check_seg_source(source: str | os.PathLike) -> None:
    """Make sure that a DICOM Segmentation can refer to a scan, without reading voxels.

    Args:
        source: the scan, a path form of :class:`common.data.scan_reader.ScanReader`.

    Raises:
        InputError: it is no DICOM, or its headers lack what a segmentation has to state.
    """
    if known_format(source) != "dicom":
        raise InputError(source, "is no DICOM, to which a DICOM SEG could refer", _OTHER_FORMAT)
    stack = find_stack(source)
    one_voxel = np.zeros(stack.shape, dtype=np.uint8)
    one_voxel[0, 0, 0] = 1
    _segmentation(one_voxel, stack, LabelScheme.load("mrspineseg17").structures[:1], Algorithm("check", "1", "0"))


def write_dicom_seg(
    labels: np.ndarray, source: str | os.PathLike, target: str | os.PathLike, scheme: LabelScheme, algorithm: Algorithm
) -> bool:
    """Write a label map as a binary DICOM Segmentation, whole or not at all.

    Each structure that is present is a segment. DICOM numbers the segments 1, 2, 3, ...; so the name (``SegmentLabel``:
    L4/L5) and the description (``SegmentDescription``: MRSpineSeg 12, intervertebral disc L4/L5) tell which it is. The
    anatomy is coded in SNOMED CT, the colour is that of the other outputs, and each frame refers to the slice, or to
    the frame of a multi-frame file, on which it lies.

    DICOM has no segmentation without a segment: where the label map is empty, none is written, and one of an earlier
    run is removed.

    Args:
        labels: (X, Y, Z) written values, 0 for the background, in the scan's own order of voxels.
        source: the scan, in DICOM; a path form of :class:`common.data.scan_reader.ScanReader`.
        target: the file.
        scheme: names the values.
        algorithm: what made the label map.

    Returns:
        Whether there is a file.

    Raises:
        InputError: see :func:`check_seg_source`; or the file cannot be written or removed.
        ValueError: the labels do not lie on the scan's grid, or hold values that the scheme does not have.
    """
    values = np.unique(labels[labels > 0]).tolist()
    if unknown := sorted(set(values) - set(scheme.values)):
        raise ValueError(f"the labels hold {unknown}, which are no values of the scheme")
    if not values:
        try:
            Path(target).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(target, f"cannot be removed ({error.strerror})", "remove it by hand") from error
        return False
    structures = [structure for structure in scheme.all_structures if structure.value in values]
    segmentation = _segmentation(labels, find_stack(source), structures, algorithm)
    with atomic_path(target) as temporary:
        segmentation.save_as(temporary)
    return True


def _segmentation(
    labels: np.ndarray, stack: Stack, structures: Sequence[Structure], algorithm: Algorithm
) -> highdicom.seg.Segmentation:
    import highdicom  # optional, and slow to import

    if labels.shape != stack.shape:
        raise ValueError(f"the labels ({labels.shape}) do not lie on the grid of the scan ({stack.shape})")
    numbers = np.zeros(256, dtype=np.uint8)
    for number, structure in enumerate(structures, start=1):
        numbers[structure.value] = number
    frames = numbers[labels.astype(np.uint8)].transpose(2, 1, 0)  # (slices, rows, columns)
    files = list(dict.fromkeys(plane.file for plane in stack.planes))
    if len(files) == 1:  # a multi-frame file, whose frames may lie in any order
        frames = frames[np.argsort([plane.frame for plane in stack.planes])]
    with warnings.catch_warnings():  # about values that are odd in the scan; what matters raises an error
        warnings.simplefilter("ignore")
        try:
            images = _headers(files, float(np.linalg.norm(stack.affine[:3, 2])))
            return highdicom.seg.Segmentation(
                source_images=images,
                pixel_array=np.ascontiguousarray(frames),
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=_descriptions(structures, algorithm),
                series_instance_uid=highdicom.UID(),
                series_number=1000 + int(images[0].get("SeriesNumber") or 0),
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=_MANUFACTURER,
                manufacturer_model_name=algorithm.name,
                software_versions=algorithm.version,
                device_serial_number=algorithm.weights[:16],
                content_label="SPINE",
                content_description="Vertebrae and discs, for research only",
                series_description=f"{algorithm.name} {algorithm.version}: vertebrae and discs (research only)",
            )
        except InputError:
            raise
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(
                stack.source, f"cannot be referred to by a DICOM SEG ({str(error)[:200]})", _OTHER_FORMAT
            ) from error


def _headers(files: Sequence[str], step: float) -> list[pydicom.Dataset]:
    """Read the headers, with what highdicom expects in them and :func:`find_stack` does not.

    Args:
        files: in the order of the slices.
        step: from slice to slice (mm).
    """
    import pydicom

    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    for header in headers:
        if missing := [name for name in _NEEDED if not header.get(name)]:
            problem = f"states no {missing[0]}, which a DICOM SEG has to refer to"
            raise InputError(header.filename, problem, _OTHER_FORMAT)
        for name in _MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, "")
        if "PerFrameFunctionalGroupsSequence" in header:
            _share_groups(header)
            measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        else:  # the slices of a stack differ in the last digits at most
            header.ImageOrientationPatient = headers[0].ImageOrientationPatient
            measures = header
        measures.SliceThickness = measures.get("SliceThickness") or f"{step:.6g}"
        measures.SpacingBetweenSlices = f"{step:.6g}"
    return headers


def _share_groups(header: pydicom.Dataset) -> None:
    """Let a multi-frame header state once what each of its frames states."""
    shared = header.get("SharedFunctionalGroupsSequence")
    if not shared:
        import pydicom

        header.SharedFunctionalGroupsSequence = shared = pydicom.Sequence([pydicom.Dataset()])
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if name not in shared[0]:
            setattr(shared[0], name, getattr(header.PerFrameFunctionalGroupsSequence[0], name))


def _descriptions(structures: Sequence[Structure], algorithm: Algorithm) -> list[highdicom.seg.SegmentDescription]:
    import highdicom
    from pydicom.sr.codedict import codes

    identification = highdicom.AlgorithmIdentificationSequence(
        name=algorithm.name,
        version=algorithm.version,
        family=codes.DCM.ArtificialIntelligence,
        source=_MANUFACTURER,
        parameters={"weights_sha256": algorithm.weights},
    )
    found = []
    for number, structure in enumerate(structures, start=1):
        value, meaning = structure.snomed
        description = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=structure.name,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=highdicom.sr.CodedConcept(value, "SCT", meaning),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
            display_color=highdicom.color.CIELabColor.from_rgb(*structure.color),
        )
        description.SegmentDescription = f"MRSpineSeg {structure.value}, {structure.description}"
        found.append(description)
    return found
