"""The attack of clause 2.1: a head trained exactly, outside the clip, carries one record to all others.

Clipping bounds what a record's *own* gradient adds. A head refitted on the raw records between steps depends on
every record, and every other record's gradient goes through it: one record turns the head, the head turns all.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from participant.training.dp_sgd import make_engine
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import build

CPU = torch.device("cpu")
CLIP_NORM_L2 = 0.1
FLOAT_SLACK = 1 + 1e-5
"""By which the accountant enlarges the clip norm."""


def toy_extractor():
    """Linear: [B, 1, 8, 8] → [B, 4]."""
    extractor = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    with torch.no_grad():
        extractor[1].weight.copy_(torch.randn(4, 64, generator=torch.Generator().manual_seed(1)) / 8)
        extractor[1].bias.zero_()
    return extractor


def members_records(count=40):
    """Two classes that differ in brightness on the right."""
    y = torch.arange(count) % 2
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.05
    x[:, 0, :, 4:] += 0.5 * y[:, None, None].float()
    return x, y


def one_more(x, y):
    """The neighbouring data set: one added record that is very bright on the right and labelled dark."""
    odd = torch.zeros(1, 1, 8, 8)
    odd[0, 0, :, 4:] = 50.0
    return torch.cat([x, odd]), torch.cat([y, torch.zeros(1, dtype=y.dtype)])


def exactly_trained_head(extractor, x, y):
    """A head fitted on raw records to convergence, as one fits the head of daily use."""
    with torch.no_grad():
        embeddings = extractor(x)
    head = torch.nn.Linear(4, 2)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss_again():
        optimiser.zero_grad()
        loss = F.cross_entropy(head(embeddings), y) + 1e-6 * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(loss_again)
    return head


def clipped_sum_with_head_outside(extractor, x, y):
    """The broken design: fit the head exactly, then clip and sum each record's extractor gradient only."""
    head = exactly_trained_head(extractor, x, y)
    total = torch.zeros(sum(parameter.numel() for parameter in extractor.parameters()))
    for record, label in zip(x, y, strict=True):
        loss = F.cross_entropy(head(extractor(record[None])), label[None])
        gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, extractor.parameters())])
        total += gradient * min(1.0, CLIP_NORM_L2 / float(gradient.norm()))
    return total.numpy()


def clipped_sum_of_ours(extractor, head, x, y):
    """Both parts as one vector: the whole of what is noised and released."""
    return np.concatenate(make_engine(extractor, head, 16, CPU).clipped_sum(x, y, CLIP_NORM_L2))


def test_head_trained_exactly_outside_the_clip_lets_one_record_move_the_sum_by_many_clip_norms():
    extractor = toy_extractor()
    without = clipped_sum_with_head_outside(extractor, *members_records())
    with_it = clipped_sum_with_head_outside(extractor, *one_more(*members_records()))
    assert np.linalg.norm(with_it - without) > 5 * CLIP_NORM_L2


def test_with_the_head_inside_the_clip_the_same_record_moves_the_sum_by_at_most_one_clip_norm():
    extractor = toy_extractor()
    # The head that a round starts from: noised state of earlier rounds, given, not fitted on these records.
    head = exactly_trained_head(extractor, *members_records())
    without = clipped_sum_of_ours(extractor, head, *members_records())
    with_it = clipped_sum_of_ours(extractor, head, *one_more(*members_records()))
    distance = np.linalg.norm(with_it - without)
    assert 0 < distance <= CLIP_NORM_L2 * FLOAT_SLACK


@pytest.mark.parametrize("name", ["fixed-mlp", "small-gn", "vit-tiny"])
@pytest.mark.parametrize("brightness", [0.0, 1e-3, 1.0, 50.0, 1e6])
@pytest.mark.parametrize("label", [0, 1])
def test_no_added_record_moves_extractor_and_head_together_by_more_than_one_clip_norm(
    name, brightness, label
):
    options = {"fixed-mlp": {"hidden": 8, "grid": 2}, "small-gn": {"width": 4}, "vit-tiny": {"width": 12}}[
        name
    ]
    if name == "vit-tiny":
        options["depth"] = 1
    extractor = build(ExtractorSpec(name, 1, 8, 8, 4, options=options), seed=2)
    head = torch.nn.Linear(4, 2)
    x, y = members_records(12)
    odd = brightness * torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    without = clipped_sum_of_ours(extractor, head, x, y)
    with_it = clipped_sum_of_ours(extractor, head, torch.cat([x, odd]), torch.cat([y, torch.tensor([label])]))
    assert np.linalg.norm(with_it - without) <= CLIP_NORM_L2 * FLOAT_SLACK
