from __future__ import annotations

import io
import re

import pytest
from ignite.engine import Engine

from tests.common.handlers.video_runs import scene
from tests.video_files import write_video
from tools.segment import progress, segment
from tools.segment.progress import ProgressBar
from tools.segment.work import Part


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Parts:
    """Work in two parts of three and two steps; an iteration does one."""

    step = "frame"

    def part(self, engine: Engine) -> Part:
        return Part("1/2 a", 3) if engine.state.iteration <= 3 else Part("2/2 b", 2)

    def done(self, engine: Engine) -> int:
        return 1


def drawn(terminal: Terminal) -> list[str]:
    return [line.strip() for line in terminal.getvalue().split("\r") if line.strip()]


def test_a_line_for_each_part(monkeypatch):
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    terminal, engine = Terminal(), Engine(lambda engine, item: None)
    with ProgressBar(Parts(), terminal) as bar:
        bar.attach(engine)
        engine.run(range(5), max_epochs=1)
    lines = drawn(terminal)
    assert re.match(r"1/2 a: +0%.* 0/3 ", lines[0])
    assert any(re.match(r"2/2 b: +0%.* 0/2 ", line) for line in lines)
    # Nothing stays on the screen, and there is never a second line.
    assert terminal.getvalue().rsplit("\r", 2)[1].strip() == "" and "\n" not in terminal.getvalue()


def test_the_clock_goes_on_within_a_step(monkeypatch):
    monkeypatch.setattr(progress, "_SECOND", 0.01)
    terminal = Terminal()

    def wait(engine, item):
        before = len(terminal.getvalue())
        for _ in range(3000):  # until it is drawn again
            if len(terminal.getvalue()) > before:
                return
            bar._left.wait(0.01)
        raise AssertionError("the line stood still")

    engine = Engine(wait)
    with ProgressBar(Parts(), terminal) as bar:
        bar.attach(engine)
        engine.run(range(1), max_epochs=1)


def test_an_error_takes_the_line_off():
    terminal = Terminal()

    def fail(engine, item):
        raise KeyboardInterrupt

    engine = Engine(fail)
    with pytest.raises(KeyboardInterrupt), ProgressBar(Parts(), terminal) as bar:
        bar.attach(engine)
        engine.run(range(1), max_epochs=1)
    assert terminal.getvalue().rsplit("\r", 2)[1].strip() == "" and not bar._clock.is_alive()


@pytest.mark.parametrize("kind", ["scans", "video"])
def test_on_a_terminal_there_are_no_other_lines(kind, weights, scans, tmp_path, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    if kind == "scans":
        segment("safnet", scans, tmp_path / "out", weights=weights("safnet"), progress=True)
        begins = r"scans: +0%.* 0/2 .*scan"
    else:
        video = write_video(tmp_path / "one.mp4", scene(7))
        segment("funet", video, tmp_path / "out", weights=weights("funet"), progress=True)
        begins = r"one: +0%.* 0/7 .*frame"
    assert re.match(begins, drawn(terminal)[0]) and "\n" not in terminal.getvalue()
    assert capsys.readouterr().out == ""
