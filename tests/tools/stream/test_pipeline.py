from __future__ import annotations

import pytest
import torch

from tools.stream.pipeline import lowest_logit


@pytest.mark.parametrize("threshold", [0.0, 1e-6, 0.1, 0.3, 0.5, 0.7, 0.999, 1.0])
def test_a_threshold_on_logits_is_the_one_on_probabilities(threshold):
    lowest = lowest_logit(threshold)
    edge = torch.tensor(max(lowest, -100.0))
    steps = [edge]
    for target in (-float("inf"), float("inf")):
        near = edge
        for _ in range(20):
            near = torch.nextafter(near, torch.tensor(target))
            steps.append(near)
    around = torch.stack(steps)
    wide = torch.linspace(-30, 30, 100_001)
    for logits in (around, wide):
        expected = logits.sigmoid() >= threshold
        # Near the edge a sigmoid is not monotone to the last digit.
        differs = (logits >= lowest) != expected
        assert not differs.any() or float((logits[differs].sigmoid() - threshold).abs().max()) < 1e-6
    assert not ((wide >= lowest) != (wide.sigmoid() >= threshold)).any()
