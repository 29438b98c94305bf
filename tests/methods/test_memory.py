import pytest
import torch
import torch.nn.functional as F

from fsad.methods import memory
from helpers import relative_error
from methods.cases import normal

METRICS = ["cosine", "squared"]


def brute_force(patches, bank, metric, neighbours=1):
    """Distances [n, P], float64, from all pairs."""
    patches, bank = patches.double(), bank.double()
    if metric == "cosine":
        patches, bank = (F.normalize(x, dim=-1) for x in (patches, bank))
    pairs = torch.cdist(patches, bank).square()
    pairs = pairs / 2 if metric == "cosine" else pairs
    return pairs.sort(-1).values[..., :neighbours].mean(-1)


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    """Several products for a chunk, of 4 rows with 5 patches."""
    monkeypatch.setitem(memory.PRODUCT_SIZE, "cpu", 4 * 5)


@pytest.mark.parametrize("neighbours", [1, 3, 7])
@pytest.mark.parametrize("metric", METRICS)
def test_distances_after_each_chunk_are_those_of_brute_force(metric, neighbours):
    patches, chunks = normal(3, 5, 6), [normal(10, 6), normal(7, 6), normal(1, 6)]
    found = [*memory.nearest(patches, chunks, metric, neighbours)]
    assert len(found) == 3
    for count, distances in enumerate(found, 1):
        expected = brute_force(patches, torch.cat(chunks[:count]), metric, neighbours)
        assert distances.dtype == torch.float32
        assert relative_error(distances, expected) < 1e-6


@pytest.mark.parametrize("metric", METRICS)
def test_fewer_rows_than_neighbours_are_all_taken(metric):
    patches, bank = normal(2, 3, 6), normal(5, 6)
    (found,) = memory.nearest(patches, [bank], metric, neighbours=9)
    assert relative_error(found, brute_force(patches, bank, metric, 5)) < 1e-6


@pytest.mark.parametrize("neighbours", [1, 2])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_of_the_same_distance_are_neighbours_each(metric, neighbours):
    patches, bank = normal(2, 3, 6), normal(5, 6).repeat(2, 1)
    (found,) = memory.nearest(patches, [bank], metric, neighbours)
    assert relative_error(found, brute_force(patches, bank, metric)) < 1e-6


@pytest.mark.parametrize("metric", METRICS)
def test_a_patch_of_the_bank_is_at_distance_zero_and_never_below(metric):
    patches = normal(4, 9, 50)
    (found,) = memory.nearest(patches, [patches.flatten(0, 1)], metric)
    assert found.min() >= 0
    assert found.max() < 1e-4


def test_the_cosine_distance_is_from_zero_to_two():
    bank = normal(1, 6)
    (found,) = memory.nearest(torch.stack([3 * bank, -bank]), [bank], "cosine")
    assert found.flatten().tolist() == pytest.approx([0, 2], abs=1e-6)


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("metric", METRICS)
def test_bits_depend_on_no_later_chunk_and_no_other_image(
    monkeypatch, metric, neighbours
):
    monkeypatch.setitem(memory.PRODUCT_SIZE, "cpu", 16 * 37)
    patches, chunks = normal(5, 37, 70), [*normal(3, 61, 70)]
    whole = [*memory.nearest(patches, chunks, metric, neighbours)]
    for count in (1, 2):
        *_, found = memory.nearest(patches, chunks[:count], metric, neighbours)
        assert torch.equal(found, whole[count - 1])
    *_, alone = memory.nearest(patches[3:4].clone(), chunks, metric, neighbours)
    assert torch.equal(alone, whole[-1][3:4])
    shifted = torch.cat([torch.zeros(1), patches.flatten()])[1:].view_as(patches)
    *_, found = memory.nearest(shifted, chunks, metric, neighbours)
    assert torch.equal(found, whole[-1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("metric", METRICS)
def test_short_floats_are_compared_in_float32(metric, dtype):
    patches, bank = normal(2, 5, 6, dtype=dtype), normal(9, 6, dtype=dtype)
    (found,) = memory.nearest(patches, [bank], metric)
    (expected,) = memory.nearest(patches.float(), [bank.float()], metric)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("metric", METRICS)
def test_no_images_have_no_distances(metric):
    found = [*memory.nearest(torch.empty(0, 4, 6), [*normal(2, 3, 6)], metric)]
    assert [x.shape for x in found] == [(0, 4), (0, 4)]


def test_nested_banks_are_searched_once(monkeypatch):
    searches, search = [], memory.nearest

    def counted(patches, chunks, *others):
        searches.append(len(chunks))
        return search(patches, chunks, *others)

    monkeypatch.setattr(memory, "nearest", counted)
    patches, bank, other = normal(2, 5, 6), normal(4, 7, 6), normal(2, 9, 6)
    banks = [bank[:1], bank.clone(), other, bank[:2], bank[1:3]]
    found = memory.nearest_in_each(patches, banks, "squared", 2)
    assert sorted(searches) == [2, 2, 4]
    for distances, each in zip(found, banks, strict=True):
        *_, expected = search(patches, each, "squared", 2)
        assert torch.equal(distances, expected)


def test_banks_that_are_not_numbers_are_searched_as_well():
    banks = [torch.full((1, 2, 3), torch.nan)] * 2
    found = memory.nearest_in_each(normal(1, 2, 3), banks, "squared")
    assert all(distances.isnan().all() for distances in found)
