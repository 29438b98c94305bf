"""Features of sets of images: cached in files, or computed where they are used."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from torch import Tensor

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

    labels: uint8 [N]. names: str [N]. rows: of the images of each shape in the set,
    int64 [n]. blocks: gives, of a few images of one shape, the number of the shape,
    their places among `rows`, and their features.
    """

    labels: np.ndarray
    names: np.ndarray
    rows: Sequence[np.ndarray]
    blocks: Callable[[], Iterator[tuple[int, slice, Mapping]]]


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
    return stored(embed_support(network, images["images"], readout), readout)


def embed_test(
    network: Network, images: Mapping[str, np.ndarray], readout: Readout
) -> dict[str, np.ndarray]:
    """Features of test images of one or several shapes, see `groups`, as stored."""
    computed = computed_features(network, images, readout)
    groups = [(rows, {}) for rows in computed.rows]
    for index, some, block in computed.blocks():
        rows, arrays = groups[index]
        fill(arrays, block, some, len(rows))
    return joined(groups) | {name: images[name] for name in OF_THE_SET}


def fill(arrays: dict, values: Mapping, some: slice, count: int) -> None:
    """Put values of some images, tensors or arrays, among those of all.

    Arrays of all are allocated at the first: joining blocks would need memory twice,
    and small results between large blocks would keep these from being freed.
    """
    for name, value in values.items():
        if name not in arrays:
            shape, is_tensor = (count, *value.shape[1:]), isinstance(value, Tensor)
            empty = (
                value.new_empty if is_tensor else partial(np.empty, dtype=value.dtype)
            )
            arrays[name] = empty(shape)
        arrays[name][some] = value


def stored(features: Mapping[str, Tensor], readout: Readout) -> dict[str, np.ndarray]:
    """Features as they are kept: in float16 but for those of PromptAD and moments."""
    arrays = {name: feature.cpu().numpy() for name, feature in features.items()}
    if readout.kind == "promptad":
        return arrays
    halved = (n for n, array in arrays.items() if array.dtype == np.float32)
    return arrays | {name: arrays[name].astype(np.float16) for name in halved}


def computed_features(
    network: Network, images: Mapping[str, np.ndarray], readout: Readout
) -> FeatureSet:
    """Features of `images`, see `groups`, that are computed when they are asked for."""
    groups = split(images, ["images"])

    def blocks() -> Iterator[tuple[int, slice, dict]]:
        for index, (rows, own) in enumerate(groups):
            for some in _batches(len(rows)):
                found = embed_batch(network, own["images"][some], readout)
                yield index, some, stored(found, readout)

    places = [rows for rows, _ in groups]
    return FeatureSet(*(images[name] for name in OF_THE_SET), places, blocks)


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

    def blocks() -> Iterator[tuple[int, slice, dict]]:
        for index, (rows, own) in enumerate(groups):
            for some in _batches(len(rows)):
                yield index, some, {n: array[some] for n, array in own.items()}

    places = [rows[:] for rows, _ in groups]
    return FeatureSet(*(arrays[name][:] for name in OF_THE_SET), places, blocks)


def _batches(count: int) -> list[slice]:
    """Slices of a few rows; one of none where there are none."""
    starts = range(0, max(count, 1), BATCH)
    return [slice(start, min(start + BATCH, count)) for start in starts]
