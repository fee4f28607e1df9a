"""What lies where in one sequence of the video phantom, and how it is painted for a frame."""

from __future__ import annotations

import numpy as np

from common.data.video.phantom_band import Band, ligament, nerve, vein
from common.data.video.phantom_covers import Cover, Membrane
from common.data.video.phantom_fluid import Fluid
from common.data.video.phantom_instrument import Instrument
from common.data.video.phantom_materials import MATERIALS, Palette, material
from common.data.video.phantom_motion import Camera, Pose, Schedule
from common.data.video.phantom_noise import Texture, smooth_noise, smoothstep
from common.data.video.phantom_optics import Optics
from common.data.video.phantom_surface import Surface

__all__ = ["Scene"]

_FLOOR_PERIOD, _FLOOR_SIZE, _FLOOR_NEARNESS = 4.4, 416, 0.85


class Scene:
    """One sequence's tissue, instrument and fluid, before its endoscope.

    Args:
        rng: source of everything.
        kind: 0 to 1, which kind of sequence: see ``Schedule``.
        pixel: size of a pixel, in half of the view's shorter side.

    Attributes:
        optics: the endoscope.
        fluid: the irrigation fluid.
    """

    def __init__(self, rng: np.random.Generator, kind: float, pixel: float) -> None:
        streams = rng.spawn(9)
        self.optics, self.fluid = Optics(streams[0], pixel), Fluid(streams[1], pixel)
        self._camera, self._schedule = Camera(streams[2]), Schedule(streams[3], kind)
        palette, choice = Palette(streams[4]), streams[5]
        self._floor = _floor(palette, streams[6], pixel)
        self._gloss = streams[6].uniform(0.4, 1.0)
        self._nerve = nerve(palette, streams[7], pixel)
        self._below = [_distractor(palette, choice, pixel) for _ in range(choice.integers(1, 4))]
        self._above = self._covers(palette, choice, pixel)
        self._over = _distractor(palette, choice, pixel) if choice.random() < 0.3 else None
        self._film = Membrane(palette, choice, pixel) if choice.random() < 0.5 else None
        self._tool = Instrument(streams[8], pixel) if streams[8].random() < 0.55 else None
        self._shutter = choice.uniform(0.2, 0.8)

        # The nerve goes because the camera moves off it, or because tissue falls over it.
        self._covered = bool(choice.random() < 0.4) and not self._schedule.never
        normal = np.array([-np.sin(self._nerve.angle), np.cos(self._nerve.angle)])
        side = 1.0 if self._nerve.offset >= 0 else -1.0
        self._away = -side * normal * (self.optics.radius + 0.6 - abs(self._nerve.offset))
        angle = self._nerve.angle + choice.normal(0, 0.5) + np.pi * choice.integers(2)
        kind = str(choice.choice(["flesh", "membrane", "fat", "ligament"]))
        self._curtain = Cover(kind, "flap", (np.cos(angle), np.sin(angle)), 0, palette, choice, pixel)

    def _covers(self, palette: Palette, rng: np.random.Generator, pixel: float) -> list[Cover]:
        covers = []
        for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.1, 0.3, 0.35, 0.25]))):
            kind = str(rng.choice(MATERIALS, p=[0.2, 0.15, 0.3, 0.15, 0.12, 0.08]))
            shape = "pad" if kind == "cotton" else str(rng.choice(["flap", "lump"]))
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.9) if shape == "flap" else rng.uniform(0.1, 1.0)
            place = (far * np.cos(angle), far * np.sin(angle))
            covers.append(Cover(kind, shape, place, rng.uniform(0.18, 0.42), palette, rng, pixel))
        return covers

    def pose(self, frame: float) -> tuple[Pose, float]:
        """Return the camera's pose, and how far the nerve is shown; frames are to be asked for in order."""
        pose, shown = self._camera(frame), self._schedule(frame)
        if not self._covered and not self._schedule.never:
            x, y = (1 - shown) * self._away
            pose = Pose(pose.x + float(x), pose.y + float(y), pose.angle, pose.zoom)
        return pose, shown

    def blur(self, pose: Pose, last: Pose) -> tuple[float, float]:
        """Return how far the image moves while the shutter is open."""
        return self._shutter * (pose.x - last.x), self._shutter * (pose.y - last.y)

    def paint(self, x: np.ndarray, y: np.ndarray, pose: Pose, shown: float, frame: float) -> Surface:
        """Return the visible surface.

        Args:
            x: place of every pixel in the image, to the right, float32 of shape (N,).
            y: the same, down.
            pose: the camera's pose.
            shown: how far the nerve is shown.
            frame: the time.
        """
        right, down = self.fluid.bend(x, y, frame)
        floor = self._floor.at(*pose.plane(right, down, _FLOOR_NEARNESS))
        surface = Surface(
            np.ascontiguousarray(floor[:, :3]),
            floor[:, 3].copy(),
            np.full(x.shape, self._gloss, np.float32),
            np.zeros(x.shape, np.float32),
        )
        place = pose.plane(right, down, 1.0)
        for band in self._below:
            band.paint(surface, *place, frame)
        if not self._schedule.never:
            self._nerve.paint(surface, *place, frame)
        for cover in self._above:
            cover.paint(surface, *pose.plane(right, down, cover.nearness), frame)
        if self._covered:
            # From beyond one edge of the view to beyond the other.
            reach = self.optics.radius + 0.45
            self._curtain.shift = ((2 * shown - 1) * reach - 1) * self._curtain.direction
            self._curtain.paint(surface, *pose.plane(right, down, 1.0), frame)
        if self._over is not None:
            self._over.paint(surface, *place, frame)
        if self._film is not None:
            self._film.paint(surface, *pose.plane(right, down, self._film.nearness), frame)
        surface.colour = self.fluid.stain(surface.colour, *place)
        if self._tool is not None:
            self._tool.paint(surface, right, down, frame)
        return surface


def _distractor(palette: Palette, rng: np.random.Generator, pixel: float) -> Band:
    """Return a band that is no nerve."""
    return (ligament if rng.random() < 0.6 else vein)(palette, rng, pixel)


def _floor(palette: Palette, rng: np.random.Generator, pixel: float) -> Texture:
    """Return the ground: patches of two or three tissues."""
    shape, period = (_FLOOR_SIZE, _FLOOR_SIZE), _FLOOR_PERIOD
    kinds = ["flesh", *rng.choice(["membrane", "fat", "ligament", "bone", "membrane"], 2, replace=False)]
    image = material(kinds[0], palette, rng, _FLOOR_SIZE, period)
    level = rng.uniform(-0.7, 0.6)
    for kind in kinds[1:]:
        field = smooth_noise(rng, shape, rng.uniform(0.16, 0.35) / period, octaves=4)
        soft = rng.uniform(0.1, 0.7)
        part = smoothstep(field, level - soft, level + soft)[..., None]
        over = material(str(kind), palette, rng, _FLOOR_SIZE, period)
        over[..., 3] += 0.04 * smoothstep(field, level - soft, level + soft + 0.4)
        image += part * (over - image)
    image[..., 3] += 0.05 * smooth_noise(rng, shape, 0.22 / period)
    return Texture(image, (period, period), pixel)
