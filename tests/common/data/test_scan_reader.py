from __future__ import annotations

import pickle
import shutil
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImage, LoadImaged, NormalizeIntensityd

from common.data.label_writer import write_label_map
from common.data.scan_checks import check_scan
from common.data.scan_reader import ScanReader, list_series, read_geometry, read_scan, scan_format, source_files
from common.errors import InputError
from common.transforms import CropAnteriorPosteriord, FitToGridd
from tests.dicom_files import SERIES, write_slices
from tests.helpers import CODES, affine_of
from tests.scan_files import FORMATS, LPS, centre, picture, write_itk, write_scan

ALL_CODES = ["".join(code) for axes in permutations(("LR", "AP", "IS")) for code in product(*axes)]
OBLIQUE = affine_of((0.7, 0.8, 3.3), (0.2, -0.1, 0.3))
DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
TRUE_CENTRE = centre(picture() > 500, OBLIQUE)


def message(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestReadScan:
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("code", CODES)
    def test_a_block_is_where_it_was(self, tmp_path, kind, code):
        array, meta = read_scan(write_scan(tmp_path, kind, affine=OBLIQUE, code=code))
        assert sorted(array.shape) == [8, 10, 12]
        assert np.allclose(centre(array > 500, meta["affine"]), TRUE_CENTRE, atol=1e-4)

    @pytest.mark.parametrize("kind", ["nii.gz", "mha", "nrrd", "dicom", "enhanced"])
    def test_all_48_orientations(self, tmp_path, kind):
        assert len(set(ALL_CODES)) == 48
        for code in ALL_CODES:
            array, meta = read_scan(write_scan(tmp_path, kind, affine=OBLIQUE, code=code))
            assert np.allclose(centre(array > 500, meta["affine"]), TRUE_CENTRE, atol=1e-4), code
            shutil.rmtree(tmp_path)

    @pytest.mark.parametrize("kind", FORMATS)
    def test_metadata(self, tmp_path, kind):
        path = write_scan(tmp_path / "Böse Straße é", kind)
        array, meta = read_scan(str(path))
        assert array.shape == (12, 10, 8) == tuple(meta["spatial_shape"])
        assert meta["filename_or_obj"] == str(path) and meta["space"] == "RAS"
        assert np.array_equal(meta["affine"], meta["original_affine"]) and meta["affine"] is not meta["original_affine"]
        assert meta["original_channel_dim"] == "no_channel"
        shape, affine = read_geometry(path)
        assert tuple(shape) == array.shape and np.allclose(affine, meta["affine"])

    @pytest.mark.parametrize("sform", [0, 2])
    @pytest.mark.parametrize("qform", [0, 1])
    @pytest.mark.parametrize("stretch", [1, 2.5])
    def test_a_nifti_header_with_two_matrices(self, tmp_path, sform, qform, stretch):
        """The sform goes first, even where its spacing is not the header's; without codes the spacing is all."""
        image = nib.Nifti1Image(picture(), None)
        image.set_qform(OBLIQUE, qform)  # this sets the header's spacing
        image.set_sform(affine_of((0.7, 0.8, 3.3)) @ np.diag([stretch, 1, 1, 1]), sform)
        nib.save(image, tmp_path / "a.nii")
        expected = image.get_sform() if sform else image.get_qform() if qform else image.header.get_base_affine()
        seen = LoadImage(reader=ScanReader())(tmp_path / "a.nii")
        for affine in (seen.affine, seen.meta["original_affine"], read_geometry(tmp_path / "a.nii")[1]):
            assert np.array_equal(affine, expected)
        assert np.array_equal(expected, nib.load(tmp_path / "a.nii").affine) and np.array_equal(seen, picture())
        write_label_map(picture() > 500, tmp_path / "a.nii", tmp_path / "seg.nii")
        assert np.array_equal(nib.load(tmp_path / "seg.nii").affine, expected)

    @pytest.mark.parametrize("more", [(1,), (1, 1)])
    def test_a_series_of_one_volume(self, tmp_path, more):
        path = tmp_path / "a.nii.gz"
        nib.save(nib.Nifti1Image(picture().reshape(12, 10, 8, *more), OBLIQUE), path)
        check_scan(path)
        array, meta = read_scan(path)
        assert np.array_equal(array, picture()) and tuple(meta["spatial_shape"]) == (12, 10, 8)
        image = LoadImage(reader=ScanReader(), ensure_channel_first=True)(path)
        assert image.shape == (1, 12, 10, 8)
        write_label_map(picture() > 500, path, tmp_path / "seg.nii")
        labels = nib.load(tmp_path / "seg.nii")
        assert labels.shape == (12, 10, 8) and np.allclose(labels.affine, OBLIQUE, atol=1e-5)
        assert np.allclose(labels.header.get_zooms(), nib.load(path).header.get_zooms()[:3])

    def test_one_kind_of_metadata(self, tmp_path):
        """A batch may hold scans of all formats."""
        metas = [read_scan(write_scan(tmp_path / kind, kind))[1] for kind in FORMATS]
        assert all({k: type(v) for k, v in meta.items()} == {k: type(v) for k, v in metas[0].items()} for meta in metas)

    @pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
    def test_types_and_compression(self, tmp_path, name, dtype):
        path = write_itk(tmp_path / name, picture().astype(dtype), OBLIQUE, compress=True)
        array, _ = read_scan(path)
        assert array.dtype == dtype and np.array_equal(array, picture().astype(dtype))

    def test_files(self, tmp_path):
        folder = write_scan(tmp_path, "dicom")
        assert [path.name for path in source_files(folder)] == [f"IM000{k}.dcm" for k in range(8)]
        assert source_files(folder / "IM0003.dcm") == source_files(folder)
        for kind in ("nii", "mha", "enhanced"):
            path = write_scan(tmp_path / kind, kind)
            assert source_files(str(path)) == [path]

    def test_remarks_of_the_libraries_are_not_printed(self, tmp_path, capfd, caplog):
        image = nib.Nifti1Image(picture(), OBLIQUE)
        image.header["pixdim"][1:4] *= -1
        image.header["vox_offset"] = 353
        (tmp_path / "a.nii").write_bytes(image.to_bytes()[:352] + b"\0" + picture().tobytes("F"))
        nib.load(tmp_path / "a.nii")
        assert caplog.messages  # nibabel has something to say
        caplog.clear()
        capfd.readouterr()
        read_scan(tmp_path / "a.nii")
        assert capfd.readouterr() == ("", "") and not caplog.messages

    @pytest.mark.skipif(not (DATA / "foreign").is_dir(), reason="needs shared/data/foreign beside the repository")
    def test_real_nifti(self):
        for path in sorted((DATA / "foreign").glob("*.nii.gz")):
            try:
                check_scan(path)
            except InputError as error:
                assert "is not one 3D volume" in str(error) and len(nib.load(path).shape) == 4
                continue
            assert np.allclose(read_scan(path)[1]["affine"], nib.load(path).affine)

    @pytest.mark.skipif(not (DATA / "dicom_mr").is_dir(), reason="needs shared/data/dicom_mr beside the repository")
    def test_real_dicom(self):
        folder = DATA / "dicom_mr" / "series"
        check_scan(folder)
        array, meta = read_scan(folder)
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        assert np.array_equal(array, sitk.GetArrayFromImage(image).T)
        corner = np.array([*np.array(array.shape) - 1.0, 1])
        index = [int(value) for value in corner[:3]]
        assert np.allclose(LPS[:3, :3] @ image.TransformIndexToPhysicalPoint(index), (meta["affine"] @ corner)[:3])
        assert [series.source for series in list_series(folder.parent)] == [str(folder)]


class TestScanReader:
    def test_formats(self, tmp_path):
        reader = ScanReader()
        for kind in FORMATS:
            assert reader.verify_suffix(write_scan(tmp_path / kind, kind))
        for name in ("a.NII.GZ", "b.MHA", "c.nrrd", "d.dcm"):
            assert reader.verify_suffix([name])
        assert reader.verify_suffix([tmp_path, "a.nii"])
        (tmp_path / "scan.png").write_bytes(b"x" * 300)
        assert not reader.verify_suffix(tmp_path / "scan.png") and not reader.verify_suffix("no.txt")
        shutil.copy(tmp_path / "dicom/series/IM0000.dcm", tmp_path / "IM1")
        assert scan_format(tmp_path / "IM1") == "dicom" == scan_format(f"{tmp_path}#1.2")

    @pytest.mark.parametrize("kind", FORMATS)
    def test_in_monai_s_loader(self, tmp_path, kind):
        path = write_scan(tmp_path, kind, affine=OBLIQUE)
        image = LoadImage(reader=ScanReader(), ensure_channel_first=True)(path)
        assert image.shape == (1, 12, 10, 8) and image.meta["filename_or_obj"] == str(path)
        assert np.allclose(centre(image[0].numpy() > 500, image.affine.numpy()), TRUE_CENTRE, atol=1e-4)
        named = LoadImage(reader="common.data.scan_reader.ScanReader")(path)
        assert np.array_equal(named, image[0])

    def test_an_error_goes_through_monai_s_loader(self, tmp_path):
        write_slices(tmp_path, picture(), np.diag([1.0, 1, 4, 1]), skip=[3])
        found = message(LoadImage(reader=ScanReader()), tmp_path)
        assert found.startswith(f"{tmp_path}: has 8 mm between slices 3 and 4")

    def test_several_scans_are_channels(self, tmp_path):
        first, second = write_scan(tmp_path / "a", "mha"), write_scan(tmp_path / "b", "nii")
        image = LoadImage(reader=ScanReader(), ensure_channel_first=True)([first, second])
        assert image.shape == (2, 12, 10, 8)
        third = write_scan(tmp_path / "c", "mha", affine=OBLIQUE)
        assert message(LoadImage(reader=ScanReader()), [first, third]) == (
            f"{third}: does not lie on the grid of {first}; resample it first"
        )

    def test_workers(self, tmp_path):
        items = [{"image": str(write_scan(tmp_path / kind, kind))} for kind in ("nii", "mha", "dicom")]
        reader = pickle.loads(pickle.dumps(ScanReader()))
        transform = Compose([LoadImaged("image", reader=reader), EnsureChannelFirstd("image")])
        loader = DataLoader(Dataset(items, transform), batch_size=1, num_workers=1)
        batches = [batch["image"] for batch in loader]
        assert [batch.meta["filename_or_obj"] for batch in batches] == [[item["image"]] for item in items]
        assert np.array_equal(batches[0], batches[1]) and np.array_equal(batches[0], batches[2])

    @pytest.mark.parametrize("code", ["RAS", "PIR", "LSA"])
    @pytest.mark.parametrize("kind", ["nii.gz", "mha", "nrrd", "dicom", "enhanced"])
    def test_through_the_project_s_transforms_and_back(self, tmp_path, kind, code):
        array = np.zeros((10, 40, 36), np.int16)
        array[3:7, 14:26, 10:24] = 1000
        array += (np.random.default_rng(1).random(array.shape) * 50).astype(np.int16)
        path = write_scan(tmp_path, kind, array, affine_of((4, 1, 1), (0.05, 0.1, 0)), code)
        forward = Compose(
            [
                LoadImaged("image", reader=ScanReader()),
                EnsureChannelFirstd("image"),
                CropAnteriorPosteriord("image", fraction=0.8, center="image"),
                NormalizeIntensityd("image"),
                FitToGridd("image", spatial_size=(10, 32, 48)),
            ]
        )
        batch = forward({"image": str(path)})
        batch["pred"] = batch["image"].clone()
        batch = Invertd("pred", forward, "image", nearest_interp=False)(batch)
        scan, meta = read_scan(path)
        assert batch["pred"].shape[1:] == scan.shape
        assert np.allclose(batch["pred"].affine, meta["affine"], atol=1e-3)
        found, truth = batch["pred"][0].numpy() > 1, scan > 500
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9

    def test_series_of_one_folder(self, tmp_path):
        write_slices(tmp_path, picture(), np.diag([1.0, 1, 4, 1]))
        write_slices(tmp_path, picture() + 1, np.diag([1.0, 1, 4, 1]), [f"b{k}" for k in range(8)], series=SERIES)
        sources = [series.source for series in list_series(tmp_path)]
        assert sources == [f"{tmp_path}#{SERIES}", f"{tmp_path}#{SERIES}.10"]
        other, one = (LoadImage(reader=ScanReader())(source) for source in sources)
        assert np.array_equal(one + 1, other) and one.meta["filename_or_obj"] == sources[1]
