"""The weights in ``bundles/NAME/models``: that they are the ones that were measured, whole, and of use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.phantom import write_spine_phantoms
from common.data.provenance import sha256_of
from common.handlers import load_weights
from tests.bundles.drawn_pictures import colon_polyp, ultrasound_lesion
from tests.bundles.runs import ROOT, read_json, run, undone, workflow
from tools.bundle_files import WEIGHTS, find_bundles, is_recipe
from tools.demo import dice_of
from tools.train_release.publish import LARGEST

SHIPPED = [root for root in find_bundles(ROOT / "bundles") if not is_recipe(root)]
# Mean Dice of all structures that the demo's two phantoms draw: what the shipped weights reach at least.
PHANTOM_DICE = {"safnet": 0.75, "sshsnet": 0.65}
# Mean Dice of four drawn pictures of what they were trained on, likewise.
DRAWN_DICE = {"bess": (ultrasound_lesion, 0.8), "funet": (colon_polyp, 0.7)}


COUNTS = ("cases", "structures", "sequences", "frames")
SPREADS = ("sd", "low", "high")


def figures(content: Any, path: str = "", counts: tuple[int, ...] = ()) -> Iterator[tuple[str, float, tuple[int, ...]]]:
    """Every figure of the metadata: where it stands, itself, and on how many, which may be said of all below."""
    if isinstance(content, dict):
        counts += tuple(content[name] for name in COUNTS if isinstance(content.get(name), int))
        for name, value in content.items():
            if name in ("mean", "share", "value") or (isinstance(value, float) and name not in SPREADS):
                yield f"{path}/{name}", value, counts
        for name, value in content.items():
            yield from figures(value, f"{path}/{name}", counts)


@pytest.mark.parametrize("root", SHIPPED, ids=lambda root: root.name)
class TestShippedWeights:
    def test_they_are_the_ones_that_were_published(self, root):
        origin = read_json(root / "models" / "provenance.json")
        assert origin["bundle"] == root.name
        assert origin["weights"] == {"file": WEIGHTS, "sha256": sha256_of(root / WEIGHTS)}
        assert (root / WEIGHTS).stat().st_size <= LARGEST

    def test_they_load_and_fit_their_settings(self, root):
        with undone():
            made = workflow(root, "inference", bundle_root=str(root))
            made.parser.parse(reset=True)
            network, plan = (made.parser.get_parsed_content(name) for name in ("network_def", "plan"))
        load_weights(network, root / WEIGHTS, complete=True)
        stated = read_json(root / "models" / "model.json")
        assert plan.items() <= stated.items()
        assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())

    def test_the_metadata_say_how_good_they_are_and_on_how_many(self, root):
        metadata = read_json(root / "configs" / "metadata.json")
        found = list(figures(metadata["eval_metrics"]))
        assert found
        for path, figure, counts in found:
            assert counts and min(counts) > 0, path
            assert math.isfinite(figure), path
        assert "no trained weights" not in metadata["changelog"][metadata["version"]]

    def test_the_documents_say_on_which_terms(self, root):
        licence = (root / "docs" / "data_license.txt").read_text(encoding="utf-8")
        card = (root / "docs" / "README.md").read_text(encoding="utf-8")
        assert "ships none" not in licence and "research" in licence
        assert "No trained weights" not in card and "research" in card


def shipped(dices: Mapping[str, Any]) -> list[str]:
    """Those of the named bundles that ship weights."""
    return [root.name for root in SHIPPED if root.name in dices]


@pytest.mark.parametrize("name", shipped(PHANTOM_DICE))
def test_vertebrae_and_discs_of_phantoms(name, tmp_path):
    write_spine_phantoms(tmp_path / "data", 2, seed=3)
    ids = {"input": str(tmp_path / "data" / "images"), "output_dir": str(tmp_path / "out")}
    run(ROOT / "bundles" / name, "inference", **ids, overlay=False, measures=False)
    found = dice_of(tmp_path / "data" / "labels", tmp_path / "out", ["phantom_000", "phantom_001"])
    assert found["dice"]["mean"] >= PHANTOM_DICE[name], found


@pytest.mark.parametrize("name", shipped(DRAWN_DICE))
def test_drawn_pictures(name, tmp_path):
    draw, least = DRAWN_DICE[name]
    references = {}
    (tmp_path / "drawn").mkdir()
    for seed in range(4):
        picture, references[seed] = draw(seed)
        Image.fromarray(picture).save(tmp_path / "drawn" / f"{seed}.png")
    ids = {"input": str(tmp_path / "drawn"), "output_dir": str(tmp_path / "out")}
    run(ROOT / "bundles" / name, "inference", **ids, overlay=False)
    dices = []
    for seed, reference in references.items():
        mask = np.asarray(Image.open(tmp_path / "out" / "drawn_mask" / f"{seed}.png")) > 0
        assert mask.shape == reference.shape
        dices.append(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))
    assert np.mean(dices) >= least, dices
