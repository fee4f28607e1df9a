"""The weights in ``bundles/NAME/models``: that they are the ones that were measured, whole, and of use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from common.data.phantom import write_spine_phantoms
from common.data.provenance import sha256_of
from common.handlers import load_weights
from tests.bundles.runs import ROOT, read_json, run, undone, workflow
from tools.bundle_files import WEIGHTS, find_bundles, is_recipe
from tools.demo import dice_of
from tools.train_release.publish import LARGEST

SHIPPED = [root for root in find_bundles(ROOT / "bundles") if not is_recipe(root)]
# Mean Dice of all structures that the demo's two phantoms draw: what the shipped weights reach at least.
PHANTOM_DICE = {"safnet": 0.75}


COUNTS = ("cases", "structures", "sequences", "frames")


def figures(content: Any, path: str = "", counts: tuple[int, ...] = ()) -> Iterator[tuple[str, float, tuple[int, ...]]]:
    """Every figure of the metadata: where it stands, itself, and on how many, which may be said of all below."""
    if isinstance(content, dict):
        counts += tuple(content[name] for name in COUNTS if isinstance(content.get(name), int))
        for name in ("mean", "share", "value"):
            if name in content:
                yield path, content[name], counts
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


@pytest.mark.skipif(not any(root.name == "safnet" for root in SHIPPED), reason="safnet ships no weights")
def test_safnet_on_phantoms(tmp_path):
    write_spine_phantoms(tmp_path / "data", 2, seed=3)
    run(ROOT / "bundles" / "safnet", "inference", input=str(tmp_path / "data" / "images"),
        output_dir=str(tmp_path / "out"), overlay=False, measures=False)  # fmt: skip
    found = dice_of(tmp_path / "data" / "labels", tmp_path / "out", ["phantom_000", "phantom_001"])
    assert found["dice"]["mean"] >= PHANTOM_DICE["safnet"], found
