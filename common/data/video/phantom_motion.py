"""How things move in the video phantom: smooth random paths, the camera's pose, when the nerve is to be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["FRAME_RATE", "Camera", "Drift", "Pose", "Schedule"]

FRAME_RATE = 25.0


class Drift:
    """A smooth random function of time of mean 0 and standard deviation about 1.

    A sum of sines, so that it goes on for ever and a longer sequence begins as the shorter one does.

    Args:
        rng: source of the sines.
        slow: lowest frequency, Hz.
        fast: highest frequency, Hz.
    """

    def __init__(self, rng: np.random.Generator, slow: float, fast: float) -> None:
        self._frequency = np.exp(rng.uniform(np.log(slow), np.log(fast), 5))
        self._phase = rng.uniform(0, 2 * np.pi, 5)
        size = rng.uniform(0.4, 1.0, 5) * np.sqrt(slow / self._frequency)
        self._size = size / np.sqrt((size**2).sum() / 2)

    def __call__(self, frame: float) -> float:
        """Return the value at a frame."""
        angle = 2 * np.pi * self._frequency * frame / FRAME_RATE + self._phase
        return float((self._size * np.sin(angle)).sum())


class Schedule:
    """When the nerve is to be seen: runs of seconds, with smooth changes between them.

    Args:
        rng: source of the runs.
        kind: 0 to 1, which kind of sequence: always shown, now and then, never.

    Attributes:
        always: the nerve is there all the time.
        never: there is no nerve.
    """

    def __init__(self, rng: np.random.Generator, kind: float) -> None:
        self.always, self.never = kind < 0.42, kind > 0.9
        self._rng = rng
        shown = bool(rng.random() < 0.62)
        # Changes as (frame, what comes then); the first lies before frame -1.
        self._changes = [(-float(rng.uniform(1, 34)), shown)]
        self._duration = float(rng.uniform(12, 19))

    def __call__(self, frame: float) -> float:
        """Return how far the nerve is shown at a frame, 0 (not at all) to 1. Frames are to be asked for in order."""
        if self.always or self.never:
            return float(self.always)
        while len(self._changes) < 2 or self._changes[-1][0] <= frame:
            start, shown = self._changes[-1]
            length = self._rng.uniform(24, 46) if shown else self._rng.uniform(22, 34)
            self._changes.append((start + float(length), not shown))
        start, shown = self._changes[-2]
        part = np.clip((frame - start) / self._duration, 0, 1)
        if len(self._changes) == 2:
            part = 1.0
        part = part * part * (3 - 2 * part)
        return float(part if shown else 1 - part)


@dataclass(frozen=True)
class Pose:
    """The camera at one frame: place (unit: half of the view's shorter side), angle in radians, magnification."""

    x: float
    y: float
    angle: float
    zoom: float

    def plane(self, x: np.ndarray, y: np.ndarray, nearness: float) -> tuple[np.ndarray, np.ndarray]:
        """Return where rays meet a plane of the scene.

        Args:
            x: place in the image, to the right.
            y: place in the image, down.
            nearness: 1 for the plane of the nerve, more for what lies nearer and so moves faster.
        """
        scale = 1 / (1 + nearness * (self.zoom - 1))
        cosine, sine = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        right = np.float32(cosine) * x - np.float32(sine) * y + np.float32(nearness * self.x)
        down = np.float32(sine) * x + np.float32(cosine) * y + np.float32(nearness * self.y)
        return right, down


class Camera:
    """Hand-held: it drifts, turns, comes nearer and shakes.

    Args:
        rng: source of its motion.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._slow = [Drift(rng, 0.08, 0.7) for _ in range(4)]
        self._shake = [Drift(rng, 2.0, 7.0) for _ in range(3)]
        self._reach = rng.uniform(0.08, 0.26)
        self._turn, self._zoom = rng.uniform(0.03, 0.16), rng.uniform(0.03, 0.12)
        self._tremor = rng.uniform(0.001, 0.009)
        self._start = rng.uniform(-0.5, 0.5, 2)

    def __call__(self, frame: float) -> Pose:
        """Return the pose at a frame."""
        x, y, angle, zoom = (drift(frame) for drift in self._slow)
        shake = [self._tremor * drift(frame) for drift in self._shake]
        return Pose(
            self._reach * x + shake[0],
            self._reach * y + shake[1],
            self._turn * angle + 0.6 * shake[2],
            float(np.exp(self._zoom * zoom)),
        )
