"""Graphs of every method: those of torch, for any number of images."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from fsad.artifacts.content import digest_of
from fsad.errors import UserError
from fsad.evaluation.detector import detect, view_of
from helpers import REPOSITORY

TILES = {"tiles": {"grid": [2, 2], "overlap": 0.25}, "whole": True}
NEAR = {"tiles": {"grid": [1, 2]}, "position": "near"}
ROI = np.zeros((40, 50), bool)
ROI[5:30, 3:28] = True
CASES = {
    "promptad_raw": {"resolution": "raw"},
    "promptad_cls_tiles": {"task": "cls", **TILES, "roi": ROI},
    "patchcore_coreset": {"coreset": 0.5, "neighbours": 2, "roi": ROI},
    "anomalydino": {"fit": "edge"},
    "anomalydino_near": {**NEAR, "roi": ROI},
    "subspacead_near": {**NEAR, "roi": ROI},
    "winclip_zero": {},
    "winclip_roi": {"roi": ROI},
}


@pytest.fixture(params=CASES)
def detector(request, fit, photographs):
    shots = 0 if "zero" in request.param else 2
    method = request.param.partition("_")[0]
    return fit(method, photographs[:shots], **CASES[request.param])


def run(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def test_a_graph_is_the_detector_for_any_number_of_images(
    onnx, detector, photographs, tmp_path
):
    from fsad.deployment.onnx_file import batches, export_onnx

    path, new = tmp_path / "nut.onnx", photographs[2:4]
    seen = [view_of(detector, image) for image in new]
    found = export_onnx(path, detector, seen)
    assert found.images == 8 + 2
    assert 0 < max(found.scores, found.maps) < 1e-5
    (inputs,) = batches(detector, seen)
    scores, maps = run(path, inputs)
    expected = detect(detector, seen)
    assert scores == pytest.approx(expected[0], rel=1e-3)  # of features in float16
    assert maps == pytest.approx(np.stack(expected[1]), rel=2e-2, abs=1e-4)
    assert not maps[:, -2:].any() or detector.region is None
    alone, _ = run(path, {name: x[:1] for name, x in inputs.items()})
    assert alone == pytest.approx(scores[:1], rel=1e-5)


@pytest.mark.parametrize("name", ["dinov2", "cnn"])
def test_networks_of_timm_are_exported(onnx, fit, photographs, tmp_path, name):
    """Whose position embeddings are resized once, and whose kernels are kept: a tensor
    that is made while a graph is traced has no values."""
    from backbones.test_networks import make
    from fsad.backbones.neighbourhoods import layer_kernels
    from fsad.deployment.onnx_file import export_onnx

    _, network = make({"dinov2": "dinov2", "cnn": "resnet"}[name])
    method = {"dinov2": "anomalydino", "cnn": "patchcore"}[name]
    detector = fit(method, photographs[:1], network, size=64)
    layer_kernels.cache_clear()
    assert export_onnx(tmp_path / "nut.onnx", detector).maps < 1e-5


@pytest.fixture(scope="module")
def patchcore(fit, photographs):
    return fit("patchcore", photographs[:2], roi=ROI)


@pytest.fixture(scope="module")
def traced(onnx, patchcore):
    """The graph of `patchcore`."""
    from fsad.deployment.onnx_file import _in_float32, _traced

    return _traced(_in_float32(patchcore))


def test_a_file_tells_what_it_is_and_is_the_same_each_time(
    onnx, patchcore, traced, tmp_path, monkeypatch
):
    from fsad.deployment import onnx_file

    path, again = (tmp_path / name for name in ("nut.onnx", "again.onnx"))
    onnx_file.export_onnx(path, patchcore)
    monkeypatch.setattr(onnx_file, "_traced", lambda detector: traced)
    onnx_file.export_onnx(again, patchcore)
    assert path.read_bytes() == again.read_bytes()
    model = onnx.load(path)
    (images,), outputs = model.graph.input, model.graph.output
    batch, *size = images.type.tensor_type.shape.dim
    assert batch.dim_param
    assert [one.dim_value for one in size] == [32, 32, 3]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [output.name for output in outputs] == ["scores", "maps"]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata["class"], metadata["method"]) == ("nut", "patchcore")
    assert float(metadata["threshold"]) == patchcore.described["threshold"]
    assert json.loads(metadata["image_size"]) == [32, 32]
    assert "INTER_AREA" in metadata["resizing"]
    region = cv2.imdecode(
        np.frombuffer(base64.b64decode(metadata["region"]), np.uint8), 0
    )
    assert np.array_equal(region == 255, patchcore.region)
    assert metadata["run"] == digest_of(patchcore.described["run"])
    assert json.loads(metadata["support_images"]) == patchcore.described["images"]
    assert b"/fsad/" not in path.read_bytes()  # no file of the machine


@pytest.mark.parametrize("shift", [0.1, np.nan])
def test_a_graph_that_differs_from_torch_is_not_written(
    patchcore, traced, tmp_path, monkeypatch, shift
):
    from fsad.deployment import onnx_file

    monkeypatch.setattr(onnx_file, "_traced", lambda detector: traced)
    monkeypatch.setattr(onnx_file, "_in_float64", lambda detector: other)
    bank = dict(patchcore.fitted.support)
    bank["patch"] = bank["patch"].double() + shift
    other = patchcore._replace(fitted=patchcore.fitted._replace(support=bank))
    with pytest.raises(UserError, match=r"nut\.onnx: not written, since ONNX Runtime"):
        onnx_file.export_onnx(tmp_path / "nut.onnx", patchcore)
    assert not [*tmp_path.iterdir()]


def test_images_that_are_compared_are_not_in_the_memory(patchcore, fit):
    from fsad.deployment.onnx_file import check_inputs

    checked = check_inputs(patchcore)["images"]
    assert len(checked) == len(np.unique(checked, axis=0)) == 8
    for seen in patchcore.seen:
        assert not (checked == seen["images"]).all((1, 2, 3)).any()
    scores, _ = detect(
        patchcore, [{"images": x, "shape": np.array([1, 1])} for x in checked]
    )
    assert scores.min() > 0
    random = check_inputs(fit("winclip", []))["images"]
    assert random.shape == (8, 32, 32, 3)
    assert np.array_equal(random, check_inputs(fit("winclip", []))["images"])


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("anomalydino", {"mask": "2d"}, "mask: a graph has no foreground mask"),
        ("patchcore", {"tiles": {"size": 20}}, "tiles: their number depends on"),
    ],
)
def test_what_no_graph_can_hold_is_named(fit, photographs, method, options, reason):
    from fsad.deployment.graph import check_exportable

    detector = fit(method, photographs[:1], **options)
    with pytest.raises(UserError, match=f"{reason}.* or export .safetensors"):
        check_exportable(detector)


def test_images_of_several_shapes_are_refused(patchcore):
    from fsad.deployment.graph import check_exportable

    edge = patchcore.readout._replace(view=patchcore.readout.view._replace(fit="edge"))
    check_exportable(patchcore._replace(readout=edge))
    seen = [*patchcore.seen, patchcore.seen[0] | {"shape": np.array([9, 9])}]
    with pytest.raises(UserError, match="fit: edge, or resolution: raw, of support"):
        check_exportable(patchcore._replace(readout=edge, seen=seen))


def test_a_graph_that_is_too_large_is_refused():
    from fsad.deployment.onnx_file import LARGEST, _check_size

    half = SimpleNamespace(const_value=SimpleNamespace(nbytes=LARGEST // 2))
    graph = SimpleNamespace(initializers={"a": half})
    program = SimpleNamespace(model=SimpleNamespace(graph=graph))
    _check_size(program)
    graph.initializers["b"] = half
    with pytest.raises(UserError, match=r"backbone: its weights .* take 2\.1 GB, more"):
        _check_size(program)


@pytest.fixture
def alone(tmp_path):
    """An environment of onnxruntime, NumPy and OpenCV, without site-packages."""
    import cv2
    import onnxruntime

    packages = tmp_path / "packages"
    packages.mkdir()
    for module in (np, cv2, onnxruntime):
        folder = Path(module.__file__).parent
        for path in (folder, *folder.parent.glob(f"{folder.name}*.libs")):
            (packages / path.name).symlink_to(path)
    for path in Path(cv2.__file__).parents[1].glob("opencv*.libs"):
        (packages / path.name).symlink_to(path)
    return {"PYTHONPATH": str(packages)}


def test_the_example_gives_the_scores_of_predict(
    onnx, fit, photographs, alone, tmp_path
):
    from fsad.deployment.onnx_file import export_onnx

    detector = fit("anomalydino", photographs[:2], **TILES)
    export_onnx(tmp_path / "nut.onnx", detector)
    document = (REPOSITORY / "docs/deploy.md").read_text()
    (tmp_path / "example.py").write_text(
        document.split("```python\n")[1].split("```")[0]
    )
    files = [f"{index}.png" for index in range(len(photographs))]
    for name, image in zip(files, photographs, strict=True):
        Image.fromarray(image).save(tmp_path / name)

    def run(*arguments):
        command = [sys.executable, "-S", *arguments]
        known = {"cwd": tmp_path, "env": alone, "text": True}
        return subprocess.run(command, **known, capture_output=True)

    assert "No module named 'torch'" in run("-c", "import torch").stderr
    done = run("example.py", "nut.onnx", *files)
    assert done.returncode == 0, done.stderr
    scores, maps, anomalous = detector.predict(photographs)
    found = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in found] == files
    assert [float(line[1]) for line in found] == pytest.approx(scores, abs=1e-4)
    highest = maps.max((1, 2))
    assert [float(line[2]) for line in found] == pytest.approx(highest, abs=1e-4)
    assert [line[3] for line in found] == [str(x) for x in anomalous]


def test_a_missing_package_is_named(patchcore, tmp_path, monkeypatch):
    from fsad.deployment.onnx_file import export_onnx

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnx", object())
    with pytest.raises(
        UserError, match=r"--out: \.onnx needs onnxscript; `pip install"
    ):
        export_onnx(tmp_path / "nut.onnx", patchcore)


def test_a_photograph_of_another_shape_is_refused(fit, photographs):
    from fsad.deployment.onnx_file import batches

    detector = fit("anomalydino", photographs[:1], fit="edge")
    seen = [view_of(detector, photographs[5])]
    with pytest.raises(UserError, match="--check: an image becomes 33x32 pixels, the"):
        [*batches(detector, seen)]
