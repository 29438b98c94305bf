"""Features of sets of images: cached in files, or computed where they are used."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fsad.artifacts.files import Stored, is_whole, open_npz, write_npz
from fsad.artifacts.provenance import with_provenance
from fsad.artifacts.sources import Embedding, Source
from fsad.backbones.devices import check_device
from fsad.backbones.embed import BATCH, embed_pictures, embed_support
from fsad.backbones.networks import Network, open_network
from fsad.backbones.readout import Readout, parse_readout
from fsad.backbones.tower import load_tower
from fsad.data.groups import joined, split
from fsad.data.tiles import SEEN, shares
from fsad.data.views import View

OF_THE_SET = ("labels", "names")
SPANS = ("row_spans", "column_spans")  # of tiles, [N, R, 2] and [N, C, 2], see `tiles`
ALL = slice(None)
BLOCK_BYTES = 2**26  # of features that are read at once


class FeatureSet(NamedTuple):
    """Features of the test images of a class, to be read block by block.

    labels: uint8 [N]. names: str [N]. rows: of the images of each shape in the set,
    int64 [n]. blocks: gives, of a few images of one shape, the number of the shape,
    their places among `rows`, and their features. is_costly: whether these are computed
    when they are asked for, and not read.
    """

    labels: np.ndarray
    names: np.ndarray
    rows: Sequence[np.ndarray]
    blocks: Callable[[], Iterator[tuple[int, slice, Mapping]]]
    is_costly: bool = False


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
        images = open_images(Source(path, expected))
        compute = embed_draw if expected["stage"] == "support" else embed_test
        arrays = compute(network, images, parse_readout(record["readout"]))
        write_npz(features, arrays, with_provenance(record))


def open_images(source: Source) -> dict[str, np.ndarray | Stored]:
    """Arrays of cached images; the images themselves are read when they are needed.

    Raises UserError if the file is damaged or of another record.
    """
    arrays = open_npz(*source)
    large = {name for name in arrays if name.partition(".")[0] in SEEN}
    return {name: x if name in large else x[:] for name, x in arrays.items()}


def open_vision(tower: Source, record: Mapping) -> Network:
    """The network of a vision tower, on the device of a record of features."""
    check_device(record["device"])
    return open_network(load_tower(*tower).to(record["device"], record["precision"]))


def embed_draw(
    network: Network, images: Mapping[str, np.ndarray], readout: Readout
) -> dict[str, np.ndarray]:
    """Features of support images of `prepare.load_support`, as they are stored."""
    copies = {name: images[name][:] for name in _seen(images)}
    found = stored(embed_support(network, copies, readout), readout)
    return found | tile_spans(images, readout.view)


def _seen(images: Mapping) -> list[str]:
    """Names of what is seen of images, see `tiles.pictures`."""
    found = {name.partition(".")[0] for name in images}
    return [name for name in SEEN if name in found]


def tile_spans(
    images: Mapping[str, np.ndarray], view: View, rows: np.ndarray | slice = ALL
) -> dict[str, np.ndarray]:
    """Where the tiles of images lie, as features, see `tiles.shares`.

    images: their `shapes` before resizing. rows: of images among them.
    """
    if not view.is_tiled:
        return {}
    return dict(zip(SPANS, shares(images["shapes"][rows], view), strict=True))


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
    view = readout.view
    groups = split(images, _seen(images))

    def blocks() -> Iterator[tuple[int, slice, dict]]:
        for index, (rows, own) in enumerate(groups):
            tiles = int(np.prod(own["images"].shape[1:-3]))
            for some in _batches(len(rows), max(1, BATCH // tiles)):
                pictures = {name: array[some] for name, array in own.items()}
                found = stored(embed_pictures(network, pictures, readout), readout)
                yield index, some, found | tile_spans(images, view, rows[some])

    places = [rows for rows, _ in groups]
    of_the_set = (images[name] for name in OF_THE_SET)
    return FeatureSet(*of_the_set, places, blocks, is_costly=True)


def in_memory(features: FeatureSet) -> FeatureSet:
    """The same features, read or computed once and kept."""
    kept = cache(lambda: [*features.blocks()])
    return features._replace(blocks=lambda: iter(kept()), is_costly=False)


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
            for some in _batches(len(rows), _fitting(own.values())):
                yield index, some, {n: array[some] for n, array in own.items()}

    places = [rows[:] for rows, _ in groups]
    of_the_set = (arrays[name][:] for name in OF_THE_SET)
    return FeatureSet(*of_the_set, places, blocks)


def _fitting(arrays: Iterable[Stored]) -> int:
    """Rows of arrays that are read at once: fewer where they are large."""
    row = sum(x.dtype.itemsize * int(np.prod(x.shape[1:])) for x in arrays)
    return max(1, min(BATCH, BLOCK_BYTES // max(row, 1)))


def _batches(count: int, size: int) -> list[slice]:
    """Slices of `size` rows; one of none where there are none."""
    starts = range(0, max(count, 1), size)
    return [slice(start, min(start + size, count)) for start in starts]
