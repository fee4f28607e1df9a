"""The scans or videos of one run, whatever the bundle calls its parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ignite.engine import Engine
from monai.bundle import ConfigParser

from common.data.provenance import read_provenance
from common.errors import InputError
from tools.segment.results import Failure, Segmented

__all__ = ["Part", "ScanWork", "VideoWork", "Work", "work_of"]


@dataclass(frozen=True)
class Part:
    """A part of the work whose length is known, or not.

    Attributes:
        name: what it is called.
        steps: how many steps it has; None where that is not known.
    """

    name: str
    steps: int | None


class Work:
    """What is to be done, and what is done.

    Args:
        parser: the bundle's configuration, initialized.
        listed: the id of the component that lists the inputs.

    Attributes:
        unit: what an input is.
        step: what progress is counted in.
        listed: the component that lists the inputs.
        writer: the handler that writes the results.
    """

    unit = "scan"
    step = "scan"

    def __init__(self, parser: ConfigParser, listed: str) -> None:
        self.listed = parser.get_parsed_content(listed)
        handlers = parser.get_parsed_content("handlers")
        self.writer = next(handler for handler in handlers if hasattr(handler, "existing"))
        self._all = list(self._inputs())
        self._kept: set[str] = set()

    def _inputs(self) -> Iterator[tuple[str, str]]:
        """Yield name and source of each input that is not left out."""
        raise NotImplementedError

    def _table(self, name: str) -> Path:
        raise NotImplementedError

    @property
    def failures(self) -> list[Failure]:
        """What could not be done, or not to its end, so far."""
        raise NotImplementedError

    @property
    def left(self) -> int:
        """How many inputs are still to be done."""
        return len(self._all) - len(self._kept)

    def part(self, engine: Engine) -> Part:
        """Return which part of the work the engine's current iteration belongs to."""
        raise NotImplementedError

    def done(self, engine: Engine) -> int:
        """Return how many steps the engine's latest iteration has done."""
        raise NotImplementedError

    def keep_finished(self) -> None:
        """Leave out what an earlier run has done in the same way.

        Raises:
            InputError: a result of other weights, of another input or with other settings would be overwritten.
        """
        for name, source in self._all:
            other = self.writer.existing(name, source)
            if other:
                record, what = self.writer.folder / f"{name}_seg.json", " and ".join(other)
                problem = f"belongs to a result that differs in {what}"
                raise InputError(record, problem, "pass another --output_dir, or --overwrite true")
            if other is not None:
                self._kept.add(name)
        self.listed.leave_out(self._kept)

    def items(self) -> list[Segmented]:
        """Return what is done: by this run, or by an earlier one."""
        return [self._item(name, source) for name, source in self._all if name in self._finished]

    @property
    def _finished(self) -> Collection[str]:
        return self._kept | self.writer.written.keys()

    def _item(self, name: str, source: str) -> Segmented:
        folder = self.writer.folder
        provenance = folder / f"{name}_seg.json"
        written = (read_provenance(provenance) or {}).get("segmentation")
        previews = [folder / f"{name}_overlay{end}" for end in (".png", ".mp4", "")]
        return Segmented(
            name=name,
            source=source,
            segmentation=folder / written if written else None,
            preview=next((path for path in previews if path.exists()), None) if self.writer.overlay else None,
            provenance=provenance,
            table=self._table(name),
            kept=name in self._kept,
        )


class ScanWork(Work):
    """Scans, of which the engine takes one in each iteration."""

    def _inputs(self) -> Iterator[tuple[str, str]]:
        return ((item["id"], str(item["image"])) for item in self.listed.items)

    def _table(self, name: str) -> Path:
        return self.writer.folder / "volumes.csv"

    @property
    def failures(self) -> list[Failure]:
        return [Failure(failure["file"], failure["problem"]) for failure in self.listed.failures]

    def part(self, engine: Engine) -> Part:
        return Part("scans", self.left)

    def done(self, engine: Engine) -> int:
        return 1


class VideoWork(Work):
    """Videos, of which the engine takes a clip in each iteration."""

    unit = "video"
    step = "frame"

    def _inputs(self) -> Iterator[tuple[str, str]]:
        return ((name, str(source)) for name, source in zip(self.listed.names, self.listed.sources, strict=True))

    def _table(self, name: str) -> Path:
        return self.writer.folder / f"{name}_frames.csv"

    @property
    def failures(self) -> list[Failure]:
        return [Failure(failure.where, str(failure)) for failure in self.listed.failures]

    def part(self, engine: Engine) -> Part:
        place = int(engine.state.batch["source"][0])  # an iteration begins with the batch as the loader gives it
        number = f"{place + 1}/{self.left} " if self.left > 1 else ""
        return Part(number + self.listed.names[place], self.listed.opened[place].frame_count)

    def done(self, engine: Engine) -> int:
        return sum(int(item["keep"].sum()) for item in engine.state.batch)


def work_of(parser: ConfigParser) -> Work:
    """Return the work of a bundle that was initialized."""
    return ScanWork(parser, "scans") if "scans" in parser else VideoWork(parser, "clips")
