from __future__ import annotations

from collections import Counter

import pytest
import torch

from common.data import BalancedSampler
from common.errors import InputError

ITEMS = [{"sequence": "T1"}] * 16 + [{"sequence": "T2"}] * 4 + [{}]


@pytest.mark.parametrize(("power", "shares"), [(0, (16, 4, 1)), (0.5, (4, 2, 1)), (1, (1, 1, 1))])
def test_shares_of_the_groups(power, shares):
    sampler = BalancedSampler(ITEMS, "sequence", power)
    total = sampler.weights.sum()
    found = [float(sampler.weights[part].sum() / total) for part in (slice(16), slice(16, 20), slice(20, 21))]
    assert found == pytest.approx([share / sum(shares) for share in shares])


def test_draws_follow_the_shares_and_torchs_seed():
    torch.manual_seed(1)
    first = list(BalancedSampler(ITEMS, "sequence", 1, 3000))
    torch.manual_seed(1)
    assert list(BalancedSampler(ITEMS, "sequence", 1, 3000)) == first
    counts = Counter(ITEMS[index].get("sequence") for index in first)
    assert all(900 < count < 1100 for count in counts.values()) and len(counts) == 3


def test_an_epoch_is_as_long_as_there_are_cases():
    assert len(BalancedSampler(ITEMS)) == 21 and len(BalancedSampler(ITEMS, length=60)) == 60


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"power": 1.5}, "balance_power=1.5: is not between 0 and 1; pass 0 for no balance, 1 for full"),
        ({"length": 0}, "epoch_length=0: is not a number of cases; pass 1 or more"),
    ],
)
def test_what_cannot_be(given, line):
    with pytest.raises(InputError) as error:
        BalancedSampler(ITEMS, **given)
    assert str(error.value) == line
