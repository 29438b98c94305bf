"""Features of sets of images: cached in files, or computed where they are used."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from fsad.artifacts.files import is_whole, open_npz, read_npz, write_npz
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import Embedding, Source
from fsad.backbones.devices import check_device
from fsad.backbones.embed import BATCH, embed_batch, embed_support
from fsad.backbones.networks import Network, open_network
from fsad.backbones.readout import Readout, parse_readout
from fsad.backbones.tower import load_tower
from fsad.data.groups import joined, split

OF_THE_SET = ("labels", "names")


class FeatureSet(NamedTuple):
    """Features of the test images of a class, to be read block by block.

    labels: uint8 [N]. names: str [N]. counts: of the images of each shape. blocks:
    gives, of a few images of one shape, the number of the shape, their rows in the set,
    and their features.
    """

    labels: np.ndarray
    names: np.ndarray
    counts: Sequence[int]
    blocks: Callable[[], Iterator[tuple[int, np.ndarray, Mapping]]]


def write_features(tower: Source, work: Sequence[Embedding]) -> None:
    """Embed cached images and write their features, unless these exist as planned.

    Readout, device and precision are taken from the records. Raises UserError if a
    file is damaged or has another record.
    """
    missing = [item for item in work if not is_whole(*item.features)]
    if not missing:
        return
    network = open_vision(tower, missing[0].features.record)
    for (path, expected), (features, record) in missing:
        images = read_npz(path, record=expected)
        compute = embed_draw if expected["stage"] == "support" else embed_test
        arrays = compute(network, images, parse_readout(record["readout"]))
        write_npz(features, arrays, with_provenance(record))


def open_vision(tower: Source, record: Mapping) -> Network:
    """The network of a vision tower, on the device of a record of features."""
    check_device(record["device"])
    return open_network(load_tower(*tower).to(record["device"], record["precision"]))


def embed_draw(
    network: Network, images: Mapping[str, np.ndarray], readout: Readout
) -> dict[str, np.ndarray]:
    """Features of support images, `images` [k, c, H, W, 3], as they are stored."""
    found = embed_support(network, images["images"], readout)
    return {name: stored(array.cpu().numpy(), readout) for name, array in found.items()}


def embed_test(
    network: Network, images: Mapping[str, np.ndarray], readout: Readout
) -> dict[str, np.ndarray]:
    """Features of test images of one or several shapes, see `groups`, as stored."""
    computed = computed_features(network, images, readout)
    sizes = [len(rows) for rows, _ in split(images, ["images"])]
    groups = [(np.empty(size, int), {}) for size in sizes]
    filled = [0] * len(groups)
    for index, rows, block in computed.blocks():
        places, arrays = groups[index]
        start = filled[index]
        filled[index] = stop = start + len(rows)
        places[start:stop] = rows
        for name, values in block.items():
            if name not in arrays:  # filled in place: joined blocks need memory twice
                shape = sizes[index], *values.shape[1:]
                arrays[name] = np.empty(shape, values.dtype)
            arrays[name][start:stop] = values
    return joined(groups) | {name: images[name] for name in OF_THE_SET}


def stored(array: np.ndarray, readout: Readout) -> np.ndarray:
    """Features as they are kept: in float16 but for those of PromptAD and moments."""
    halved = readout.kind != "promptad" and array.dtype == np.float32
    return array.astype(np.float16) if halved else array


def computed_features(
    network: Network, images: Mapping[str, np.ndarray], readout: Readout
) -> FeatureSet:
    """Features of `images`, see `groups`, that are computed when they are asked for."""
    groups = split(images, ["images"])

    def blocks() -> Iterator[tuple[int, np.ndarray, dict]]:
        for index, (rows, own) in enumerate(groups):
            for some in _batches(len(rows)):
                found = embed_batch(network, own["images"][some], readout)
                values = {n: stored(x.cpu().numpy(), readout) for n, x in found.items()}
                yield index, rows[some], values

    counts = [len(rows) for rows, _ in groups]
    return FeatureSet(*(images[name] for name in OF_THE_SET), counts, blocks)


def in_memory(features: FeatureSet) -> FeatureSet:
    """The same features, read or computed once and kept."""
    kept = cache(lambda: [*features.blocks()])
    return features._replace(blocks=lambda: iter(kept()))


def stored_features(source: Source) -> FeatureSet:
    """Features of a file, of which a few are in memory at once.

    Raises UserError if the file is damaged or of another record.
    """
    arrays = open_npz(*source)
    known = (*OF_THE_SET, "rows")
    names = {name.partition(".")[0] for name in arrays}.difference(known)
    groups = split(arrays, sorted(names))

    def blocks() -> Iterator[tuple[int, np.ndarray, dict]]:
        for index, (rows, own) in enumerate(groups):
            for some in _batches(len(rows)):
                yield index, rows[some], {n: array[some] for n, array in own.items()}

    counts = [len(rows) for rows, _ in groups]
    return FeatureSet(*(arrays[name][:] for name in OF_THE_SET), counts, blocks)


def _batches(count: int) -> list[slice]:
    """Slices of a few rows; one of none where there are none."""
    starts = range(0, max(count, 1), BATCH)
    return [slice(start, min(start + BATCH, count)) for start in starts]
