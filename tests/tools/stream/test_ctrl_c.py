from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from tools.stream.ctrl_c import CtrlC

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there, raise_signal ends the process")


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Python's own, whatever the host of the tests does with Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_is_noted_and_the_second_raises():
    with pytest.raises(KeyboardInterrupt), CtrlC() as ctrl_c:
        assert not ctrl_c.pressed
        signal.raise_signal(signal.SIGINT)
        assert ctrl_c.pressed
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one was lost")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_afterwards_it_raises_again():
    with CtrlC() as ctrl_c:
        signal.raise_signal(signal.SIGINT)
    assert ctrl_c.pressed
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("other", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "a handler of a host"])
def test_what_it_does_already_stays(other):
    signal.signal(signal.SIGINT, other)
    with CtrlC() as ctrl_c:
        assert signal.getsignal(signal.SIGINT) is other
        signal.raise_signal(signal.SIGINT)
    assert not ctrl_c.pressed and signal.getsignal(signal.SIGINT) is other


def test_a_thread_cannot_be_interrupted():
    found = []

    def run() -> None:
        with CtrlC():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert found == [signal.default_int_handler]
