from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer

from common.engines import PreparePartialLabelBatch
from common.losses import MarginalLoss


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    return {
        "image": MetaTensor(torch.rand(2, 1, 4, 6, 8), affine=torch.eye(4)),
        "label": MetaTensor(torch.randint(0, 3, (2, 1, 4, 6, 8)), affine=torch.eye(4)),
        "drawn": torch.tensor([[True, True, False], [True, True, True]]),
        "id": ["a", "b"],
    }


def test_hands_on_plain_tensors(batch):
    image, target = PreparePartialLabelBatch()(batch)
    assert torch.equal(image, batch["image"].as_tensor())
    assert set(target) == {"label", "drawn"}
    assert all(torch.equal(target[key], torch.as_tensor(batch[key])) for key in target)
    assert all(type(tensor) is torch.Tensor for tensor in (image, *target.values()))
    assert isinstance(batch["image"], MetaTensor)  # the batch itself keeps its geometry


def test_plain_batches_are_taken_too(batch):
    plain = {key: torch.as_tensor(batch[key]) for key in ("image", "label", "drawn")}
    image, target = PreparePartialLabelBatch()(plain, "cpu", True)
    assert torch.equal(image, plain["image"]) and torch.equal(target["label"], plain["label"])


def test_memory_format_is_the_images_alone(batch):
    batch["image"] = torch.rand(2, 3, 4, 6, 8)
    batch["label"] = torch.zeros(2, 3, 4, 6, 8)
    image, target = PreparePartialLabelBatch(torch.channels_last_3d)(batch)
    assert image.is_contiguous(memory_format=torch.channels_last_3d) and not image.is_contiguous()
    assert target["label"].is_contiguous() and torch.equal(image, batch["image"])
    assert PreparePartialLabelBatch()(batch)[0].is_contiguous()


def test_device(batch):
    image, target = PreparePartialLabelBatch()(batch, device="meta")
    assert {tensor.device.type for tensor in (image, *target.values())} == {"meta"}


@pytest.mark.parametrize("missing", ["image", "label", "drawn"])
def test_missing_entry(batch, missing):
    del batch[missing]
    with pytest.raises(KeyError, match=missing):
        PreparePartialLabelBatch()(batch)


def test_in_monais_trainer_an_undrawn_structure_is_not_unlearned(batch):
    """Background everywhere, the second structure not drawn: its output rises beside the first one's."""
    batch["label"] = torch.zeros(2, 1, 4, 6, 8)
    batch["drawn"] = torch.tensor([[True, True, False]] * 2)
    network = torch.nn.Conv3d(1, 3, 1)
    torch.nn.init.zeros_(network.weight), torch.nn.init.zeros_(network.bias)
    SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[batch],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=MarginalLoss(),
        prepare_batch=PreparePartialLabelBatch(),
        decollate=False,
    ).run()
    background, drawn, undrawn = network.bias.tolist()
    assert undrawn > 0 and background > 0 > drawn
