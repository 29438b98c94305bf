"""The benchmark on a tiny backbone: its command takes minutes, and no test runs it."""

import json
from pathlib import Path

import pytest

from fsad.backbones.readout import variant_readout
from fsad.data.views import View
from helpers import TINY, write_class


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The module of the benchmark, of a tiny backbone."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import bench

    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    readout = variant_readout(bench.ORIGINAL, View("square", 32))
    monkeypatch.setitem(bench.BACKBONE, "model", str(tmp_path / "tiny.json"))
    monkeypatch.setattr(bench, "READOUT", readout)
    return bench


def test_the_figures_of_one_process_are_made(bench, tmp_path):
    write_class(tmp_path, "bottle")
    clip = bench.load_clip(bench.BACKBONE)
    towers = bench.split_towers(clip, "tiny")
    caches = bench.Caches(tmp_path / "work", "cpu")
    prepared = bench.prepare(tmp_path, caches, towers, 1)
    learned = bench.drawn_text(towers[1])
    figures = bench.in_process(clip, towers, prepared, learned, 1)
    for name in ("text_step", "evaluation", "embedding", "auroc"):
        assert figures[name]["ratio"] > 0
    assert {"visual", "bfloat16"} < figures.keys()
