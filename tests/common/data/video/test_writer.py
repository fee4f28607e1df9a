from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from common.data.video.source import open_source
from common.data.video.writer import MaskVideoWriter, OverlayVideoWriter, write_mask_png
from common.errors import InputError
from tests.video_files import pictures

WRITERS = [(MaskVideoWriter, "out.mkv"), (OverlayVideoWriter, "out.mp4")]
SIZE = (48, 64)


def masks(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    return list((np.random.default_rng(0).random((count, *size)) > 0.5).astype(np.uint8) * 255)


def images_for(writer: type, count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    return masks(count, size) if writer is MaskVideoWriter else pictures(count, size)


def read(path):
    with open_source(path) as video:
        return list(video)


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 2)])
def test_masks_come_back_as_they_were(tmp_path, size):
    values = [*masks(5, size), np.arange(size[0] * size[1], dtype=np.uint32).astype(np.uint8).reshape(size)]
    with MaskVideoWriter(tmp_path / "out.mkv", size, 25) as writer:
        for index, mask in enumerate(values):
            writer.write(mask, index / 25)
    with av.open(str(tmp_path / "out.mkv")) as container:
        stored = [picture.to_ndarray() for picture in container.decode(video=0)]
        assert container.streams.video[0].codec.name == "ffv1"
    np.testing.assert_array_equal(stored, values)
    for frame, mask in zip(read(tmp_path / "out.mkv"), values, strict=True):
        np.testing.assert_array_equal(frame.image, np.repeat(mask[..., None], 3, axis=-1))


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
@pytest.mark.parametrize("encoder", ["h264", "mpeg4"])
def test_overlays_keep_their_colours(tmp_path, size, encoder, monkeypatch):
    images = pictures(10, size)
    with monkeypatch.context() as patches:
        if encoder == "mpeg4":
            patch_out_h264(patches)
        with OverlayVideoWriter(tmp_path / "out.mp4", size, 25) as writer:
            for index, image in enumerate(images):
                writer.write(image, index / 25)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt, stream.frames) == (encoder, "yuv420p", 10)
    frames = read(tmp_path / "out.mp4")
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.shape == (48, 64, 3)
        error = np.abs(frame.image[: size[0], : size[1]].astype(int) - image)
        assert error.mean() < 4 and np.median(error) <= 2


def patch_out_h264(monkeypatch):
    """Make the library refuse its H.264 encoder, as builds without it do."""
    open_ = av.open

    class Container:
        def __init__(self, container):
            self.container = container

        def __getattr__(self, name):
            return getattr(self.container, name)

        def add_stream(self, codec, **options):
            if codec == "libx264":
                raise av.error.EncoderNotFoundError(0, "Encoder not found")
            return self.container.add_stream(codec, **options)

    monkeypatch.setattr("common.data.video.writer.av.open", lambda *args, **kwargs: Container(open_(*args, **kwargs)))


@pytest.mark.parametrize(("writer", "file"), WRITERS)
@pytest.mark.parametrize("rate", [25, 30000 / 1001, 1000, 0.5, None])
def test_times_come_back_within_a_millisecond(tmp_path, writer, file, rate):
    steps = np.random.default_rng(0).choice([0.001, 0.011, 1 / 29.97, 0.04, 0.5, 3.0], 40)
    times = np.concatenate([[0.0], np.cumsum(steps)])
    with writer(tmp_path / file, SIZE, rate) as video:
        for image, time in zip(images_for(writer, len(times)), times, strict=True):
            video.write(image, time)
    assert [frame.time for frame in read(tmp_path / file)] == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_a_time_that_does_not_go_on_follows_the_last_frame(tmp_path, writer, file):
    with writer(tmp_path / file, SIZE, 10) as video:
        for image, time in zip(images_for(writer, 6), [-1.0, 0.0, 5.0, 2.0, 2.2, 2.2], strict=True):
            video.write(image, time)
    assert [frame.time for frame in read(tmp_path / file)] == pytest.approx([0, 1, 6, 6.1, 6.3, 6.4], abs=1e-3)


@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_the_file_has_its_name_when_it_is_complete(tmp_path, writer, file):
    stem, suffix = file.split(".")
    with writer(tmp_path / "deep" / file, SIZE, 25) as video:
        video.write(images_for(writer, 1)[0], 0.0)
        assert os.listdir(tmp_path / "deep") == [f"{stem}.part.{suffix}"]
        video.close()
        assert os.listdir(tmp_path / "deep") == [file]
        video.close()
        with pytest.raises(ValueError, match="is closed"):
            video.write(images_for(writer, 1)[0], 1.0)
    assert os.listdir(tmp_path / "deep") == [file]


@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_an_error_on_the_way_keeps_what_was_written(tmp_path, writer, file):
    with pytest.raises(RuntimeError, match="stop"), writer(tmp_path / file, SIZE, 25) as video:
        for index, image in enumerate(images_for(writer, 7)):
            video.write(image, index / 25)
        raise RuntimeError("stop")
    assert os.listdir(tmp_path) == [file] and len(read(tmp_path / file)) == 7


@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_no_frames_leave_no_file(tmp_path, writer, file):
    with writer(tmp_path / file, SIZE, 25):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_a_first_frame_that_is_broken_off_leaves_no_file(tmp_path, writer, file, monkeypatch):
    with writer(tmp_path / file, SIZE, 25) as video:

        def stop(time: float, ticks=video._ticks) -> int:
            ticks(time)
            raise KeyboardInterrupt

        monkeypatch.setattr(video, "_ticks", stop)
        with pytest.raises(KeyboardInterrupt):
            video.write(images_for(writer, 1)[0], 0.0)
        monkeypatch.undo()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_a_file_that_exists_is_refused_or_replaced(tmp_path, writer, file):
    path = tmp_path / file
    path.write_text("old", encoding="utf-8")
    with pytest.raises(InputError, match=rf"{file}: exists; pass another output folder or overwrite=True$"):
        writer(path, SIZE, 25)
    assert path.read_text(encoding="utf-8") == "old" and os.listdir(tmp_path) == [file]
    with writer(path, SIZE, 25, overwrite=True) as video:
        video.write(images_for(writer, 1)[0], 0.0)
        assert path.read_text(encoding="utf-8") == "old"
    assert len(read(path)) == 1


@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_what_does_not_fit_is_refused(tmp_path, writer, file):
    with pytest.raises(InputError, match=rf"out\.txt: is written as \.{file[-3:]}; let its name end in"):
        writer(tmp_path / "out.txt", SIZE, 25)
    good = images_for(writer, 1)[0]
    with writer(tmp_path / file, SIZE, 25) as video:
        for bad in (good[1:], good.astype(np.float32), good > 0, good[..., None], good[0]):
            with pytest.raises(ValueError, match=r"does not fit|a mask is|a picture is"):
                video.write(bad, 0.0)


@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_a_folder_that_cannot_be_written_gets_a_line(tmp_path, writer, file):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"cannot be written \((File exists|Not a directory)\); free space or choose another"
    ):
        writer(tmp_path / "file" / file, SIZE, 25)
    (tmp_path / file).with_suffix(f".part{Path(file).suffix}").mkdir()
    with pytest.raises(InputError, match=r"cannot be written \(Is a directory\); free space or choose another"):
        with writer(tmp_path / file, SIZE, 25) as video:
            video.write(images_for(writer, 1)[0], 0.0)


def write_noise(pipe, writer: type, path: Path, limit: int | None) -> None:
    """Write 400 frames, under a limit on the size of files, and tell of each; or tell the error."""
    if limit is not None:
        import resource  # POSIX only

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    shape = SIZE if writer is MaskVideoWriter else (*SIZE, 3)
    try:
        with writer(path, SIZE, 25) as video:
            for index, image in enumerate(np.random.default_rng(0).integers(0, 256, (400, *shape), np.uint8)):
                video.write(image, index / 25)
                pipe.send(index)
    except InputError as error:
        pipe.send(str(error))


@pytest.fixture
def start():
    """Start :func:`write_noise` in a process of its own; give the process and its messages."""
    # Not a fork of this process: other tests may have left threads in it, whose locks a copy never sees opened.
    multiprocessing = get_context("forkserver" if sys.platform == "linux" else "spawn")
    processes = []

    def run(writer, path, limit=None):
        messages, pipe = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=write_noise, args=(pipe, writer, path, limit))
        process.start()
        pipe.close()  # the process has its own; when that is closed, nobody waits for more
        processes.append(process)
        return process, messages

    yield run
    for process in processes:
        process.kill()
        process.join()


def read_to_the_cut(path):
    """Return the frames of a file whose end may be missing."""
    frames = []
    with open_source(path) as video, suppress(InputError):
        for frame in video:
            frames.append(frame)
    return frames


posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of resources are POSIX")


@posix
@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_a_killed_program_leaves_a_part_that_plays(tmp_path, start, writer, file):
    process, messages = start(writer, tmp_path / file)
    while messages.recv() < 150:
        pass
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert os.listdir(tmp_path) == [file.replace(".", ".part.")]
    frames = read_to_the_cut(tmp_path / file.replace(".", ".part."))
    assert len(frames) > 150 - 2 * 25  # the last second may be missing, and the one that was being written
    assert [frame.time for frame in frames] == pytest.approx(np.arange(len(frames)) / 25, abs=1e-3)


@posix
@pytest.mark.parametrize(("writer", "file"), WRITERS)
def test_a_full_disk_gets_a_line_and_keeps_what_was_written(tmp_path, start, writer, file):
    process, messages = start(writer, tmp_path / file, limit=300_000)
    while isinstance(message := messages.recv(), int):
        written = message
    process.join()
    line = f"{tmp_path / file}: cannot be written (File too large); free space or choose another output_dir"
    assert message == line and os.listdir(tmp_path) == [file]
    assert written + 1 >= len(read_to_the_cut(tmp_path / file)) > written - 2 * 25


def test_mask_pngs(tmp_path):
    mask = masks(1)[0]
    write_mask_png(tmp_path / "a" / "mask.png", mask)
    with Image.open(tmp_path / "a" / "mask.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), mask)
    assert os.listdir(tmp_path / "a") == ["mask.png"]
    with pytest.raises(InputError, match="cannot be written"):
        write_mask_png(tmp_path / "a" / "mask.png" / "b.png", mask)
    for bad in (mask > 0, mask[None], mask.astype(float)):
        with pytest.raises(ValueError, match="a mask is uint8"):
            write_mask_png(tmp_path / "b.png", bad)
