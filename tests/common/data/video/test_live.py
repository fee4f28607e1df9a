from __future__ import annotations

import functools
import http.server
import socket
import sys
import threading
import time

import numpy as np
import pytest

from common.data.video import camera
from common.data.video.live import LiveSource, open_live
from common.data.video.source import open_source
from common.errors import InputError
from tests.video_files import pictures, write_format, write_video

IMAGE = pictures(1)[0]


class FakeCamera:
    """Gives frames of a fixed rate, so many as it is told to."""

    def __init__(self, rate: float = 30.0) -> None:
        self.rate = rate
        self.allowed = threading.Semaphore(0)
        self.stopped = False
        self.error: Exception | None = None
        self.closed = threading.Event()

    def pictures(self):
        try:
            for index in range(10**6):
                self.allowed.acquire()
                if self.error is not None:
                    raise self.error
                if self.stopped:
                    return
                yield 100 + index / self.rate, np.full((4, 6, 3), index % 256, np.uint8)
        finally:
            self.closed.set()

    def give(self, live: LiveSource, count: int) -> None:
        """Give frames and wait until they have come."""
        goal = live.received + count
        self.allowed.release(count)
        while live.received < goal:
            time.sleep(0.001)

    def stop(self, error: Exception | None = None) -> None:
        self.stopped, self.error = True, error
        self.allowed.release()


@pytest.fixture
def fake():
    camera = FakeCamera()
    yield camera
    camera.stop()
    assert camera.closed.wait(10)


def test_only_the_newest_frame_is_kept(fake):
    with LiveSource(fake.pictures(), "camera") as live:
        fake.give(live, 1)
        assert live.latest().index == 0
        fake.give(live, 5)
        frame = live.latest()
        assert (frame.index, frame.name, frame.image[0, 0, 0]) == (5, "000005", 5)
        assert frame.time == pytest.approx(5 / 30)
        assert (live.received, live.dropped) == (6, 4)
        assert live.latest(timeout=0.01) is None and not live.ended
        fake.give(live, 1)
        assert live.latest(timeout=10).index == 6
        fake.stop()


def test_a_slow_reader_of_30_frames_per_second_sees_the_present():
    def pictures():
        for index in range(60):
            time.sleep(1 / 300)  # ten times as fast, for a short test
            yield index / 30, IMAGE

    taken = []
    with LiveSource(pictures(), "camera") as live:
        while (frame := live.latest()) is not None:
            taken.append(frame.index)
            time.sleep(1 / 60)
        assert live.ended
    assert taken == sorted(set(taken)) and taken[-1] == 59
    assert live.received == 60 and live.dropped == 60 - len(taken) > 0


def test_the_last_frame_is_given_before_the_end(fake):
    with LiveSource(fake.pictures(), "camera") as live:
        fake.give(live, 2)
        fake.stop()
        assert fake.closed.wait(10)
        assert not live.ended
        assert live.latest().index == 1
        assert live.latest() is None and live.latest(timeout=5) is None and live.ended


def test_errors_are_delivered_after_the_last_frame(fake):
    with LiveSource(fake.pictures(), "camera") as live:
        fake.give(live, 1)
        fake.stop(InputError("camera", "broke off", "check it"))
        assert fake.closed.wait(10)
        assert live.latest().index == 0
        for _ in range(2):
            with pytest.raises(InputError, match="camera: broke off; check it"):
                live.latest()


def test_a_camera_that_falls_silent_counts_as_lost(fake):
    with LiveSource(fake.pictures(), "camera 3", patience=0.05) as live:
        fake.give(live, 1)
        live.latest()
        with pytest.raises(InputError, match=r"camera 3: gave no frame for 0\.05 s; check the camera and its conn"):
            live.latest()
        fake.stop()


def test_times_are_the_sources_own():
    stamps = [7.0, 7.04, 9.0, 3.0, 3.04]
    taken = []
    ready = threading.Semaphore(1)

    def pictures():
        for stamp in stamps:
            ready.acquire()
            yield stamp, IMAGE

    with LiveSource(pictures(), "camera") as live:
        while (frame := live.latest()) is not None:
            taken.append(frame.time)
            ready.release()
    assert taken == pytest.approx([0, 0.04, 2, -4, -3.96])
    assert live.dropped == 0


def test_a_change_of_size_is_an_error():
    images = [IMAGE, IMAGE[:10]]
    with LiveSource(((index, image) for index, image in enumerate(images)), "camera") as live:
        with pytest.raises(InputError, match=r"camera: changes its size at frame 1: 64 x 10 after 64 x 48"):
            while live.latest() is not None:
                pass
        assert live.received == 1


def test_a_source_without_a_frame_is_an_error():
    with LiveSource([], "camera") as live, pytest.raises(InputError, match="camera: ended without a frame; check"):
        live.latest()


def test_closing_ends_the_thread_though_nobody_takes_frames():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0.0, IMAGE
        finally:
            closed.set()

    with LiveSource(endless(), "camera") as live:
        assert live.latest() is not None
    assert closed.is_set() and not live._thread.is_alive()
    assert live.latest() is None and live.ended


def test_a_camera_that_is_stuck_does_not_hold_up_closing(fake):
    live = LiveSource(fake.pictures(), "camera")
    live.close()
    assert live.latest() is None and live.ended


@pytest.mark.parametrize("realtime", [True, False])
def test_a_file_is_played(tmp_path, realtime):
    path = write_format(tmp_path, "h264", pictures(8))
    with open_source(path) as video:
        expected = list(video)
    with open_live(path, realtime=realtime) as live:
        assert live.frame_rate == 25
        frames = list(iter(live.latest, None))
        assert live.received == 8 == len(frames) + live.dropped
    assert frames[-1].index == 7
    for frame in frames:
        assert frame.time == pytest.approx(expected[frame.index].time)
        np.testing.assert_array_equal(frame.image, expected[frame.index].image)


def test_a_file_is_played_at_the_pace_of_its_times(monkeypatch):
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return False

    stamps = [0.0, 0.5, 2.0, 1.0, 1.5]
    monkeypatch.setattr("common.data.video.live.Event", Stop)
    monkeypatch.setattr("common.data.video.live.monotonic", lambda: 50.0)
    live = LiveSource([(stamp, IMAGE) for stamp in stamps], "file", patience=None, paced=True)
    live._thread.join(10)
    assert live.received == 5
    assert waits == pytest.approx([0, 0.5, 2, 0, 0.5])


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://user:secret@127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stream_is_read_to_its_end(tmp_path, server):
    images = pictures(20)
    write_video(tmp_path / "stream.ts", images, options={"tune": "zerolatency"})
    with open_live(f"{server}/stream.ts") as live:
        frames = list(iter(live.latest, None))
        assert live.received == 20 == len(frames) + live.dropped
    assert frames[-1].index == 19 and frames[-1].time == pytest.approx(19 / 25, abs=1e-3)
    assert np.abs(frames[-1].image.astype(int) - images[-1]).mean() < 4


def test_a_stream_that_is_not_there_gets_a_line_without_the_password(server):
    with pytest.raises(InputError) as caught:
        open_live(f"{server}/none.ts")
    assert "secret" not in str(caught.value) and "user" not in str(caught.value)
    caught.match(r"^http://127\.0\.0\.1:\d+/none\.ts: cannot be opened \(.*404.*\); check that it is connected")


def test_a_stream_that_falls_silent_gets_a_line(tmp_path):
    data = write_video(tmp_path / "stream.ts", pictures(60), options={"tune": "zerolatency"}).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(data[: len(data) // 2])
                done.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(InputError, match=r"(no answer|gave no frame) for 0\.5 s") as caught:
                with open_live(f"tcp://127.0.0.1:{listener.getsockname()[1]}", patience=0.5) as live:
                    while live.latest() is not None:
                        pass
            assert "\n" not in str(caught.value)
        finally:
            done.set()
            thread.join()


def test_an_address_cannot_reach_files_of_this_machine(tmp_path):
    path = write_video(tmp_path / "stream.ts", pictures(3))
    with pytest.raises(InputError, match=r"stream\.ts: cannot be opened"):
        open_live(f"file://{path}")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("99", "99: cannot be opened"),
        ("/dev/video99", "/dev/video99: cannot be opened"),
        ("none.mp4", "does not exist"),
    ],
)
def test_what_is_not_there_gets_a_line(source, problem):
    with pytest.raises(InputError, match=problem):
        open_live(source)


@pytest.mark.parametrize(
    ("platform", "source", "expected"),
    [
        ("linux", "0", ("/dev/video0", "v4l2")),
        ("linux", "/dev/video2", ("/dev/video2", "v4l2")),
        ("darwin", "1", ("1:none", "avfoundation")),
        ("win32", "1", ("video=Endoscope", "dshow")),
        ("win32", "video=Endoscope", ("video=Endoscope", "dshow")),
        ("linux", "rtsp://host/stream", ("rtsp://host/stream", None)),
    ],
)
def test_cameras_of_each_system(monkeypatch, platform, source, expected):
    opened = []

    def open_(file, format, options, **others):
        opened.append((file, format))
        raise ValueError("enough")

    class Device:
        def __init__(self, name, kinds):
            self.name, self.media_types = name, kinds

    devices = [Device("Microphone", ["audio"]), Device("Webcam", ["video"]), Device("Endoscope", ["video"])]
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(camera.av.device, "enumerate_input_devices", lambda kind: devices)
    monkeypatch.setattr(camera.av, "open", open_)
    with pytest.raises(InputError, match=r"cannot be opened \(enough\)"):
        open_live(source)
    assert opened == [expected]


def test_a_windows_camera_that_is_not_there(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(camera.av.device, "enumerate_input_devices", lambda kind: [])
    with pytest.raises(InputError, match="4: is no camera: 0 are connected"):
        open_live("4")
