"""Checkpoint files of CLIP, in the forms that open_clip and torch write."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fsad.backbones.compact import expand, is_compact

# Names in a checkpoint of a training, the last of DeepSpeed.
NESTED = ("state_dict", "model_state_dict", "model", "module")
# Of torch.compile and of FSDP, anywhere in a name; then of whole models.
WRAPPED = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
PREFIXES = ("module.", "model.", "clip.")
OTHER_KINDS = {
    b"version https://git-lfs": "a pointer of Git LFS; fetch it with `git lfs pull`",
    b"<": "a page of the web; download the file itself",
}
# Tensors of TorchScript archives and of OpenAI that are no weights.
CONSTANTS = ("attn_mask", "text.attn_mask", "input_resolution", "context_length")
CONSTANTS += ("vocab_size",)
NOT_WHOLE = (
    "it is no file of torch or safetensors, or not a whole one; download or save it "
    "again"
)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Weights of a checkpoint file, float32, without prefixes of wrappers in the names.

    Nothing but tensors is unpickled. Raises ValueError with the reason and the remedy
    for a file of another kind.
    """
    if is_compact(path):
        return expand(path)
    with open(path, "rb") as file:
        head = file.read(32)
    for start, kind in OTHER_KINDS.items():
        if head.startswith(start):
            raise ValueError(f"it is {kind}")
    is_safetensors = head[8:9] == b"{"
    content = _safe_tensors(path) if is_safetensors else _unpickled(path)
    return _floats(_plain_names(_named_tensors(content)))


def _safe_tensors(path: str | Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(NOT_WHOLE) from error


def _unpickled(path: str | Path) -> object:
    if zipfile.is_zipfile(path):
        _check_archive(path)
    try:
        with open(path, "rb") as file:  # of a path torch would trust the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises any error
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        if foreign is None:
            raise ValueError(NOT_WHOLE) from error
        raise ValueError(
            f"it is a pickle with objects of {foreign[1]}, which could run code; save "
            'the weights alone, torch.save(content["state_dict"], NEW)'
        ) from None


def _check_archive(path: str | Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = {Path(name).name for name in archive.namelist()}
    if "constants.pkl" in names:
        raise ValueError(
            "it is a TorchScript archive, which holds code; save the weights alone, "
            "torch.save(torch.jit.load(FILE).state_dict(), NEW), or for a model of "
            "OpenAI take the tag `openai` with `model: MODEL-quickgelu`"
        )
    if "data.pkl" not in names:
        raise ValueError("it is an archive of another program than torch")


def _named_tensors(content: object) -> dict[str, Tensor]:
    """The tensors in a checkpoint, of a training or alone."""
    content = content if isinstance(content, Mapping) else {}
    for name in NESTED:
        if isinstance(content.get(name), Mapping):
            return _named_tensors(content[name])
    found = {name: x for name, x in content.items() if isinstance(x, Tensor)}
    if not found or not all(isinstance(name, str) for name in found):
        raise ValueError("it holds no tensors by name; save the model's state_dict")
    return found


def _plain_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {WRAPPED.sub("", name): weight for name, weight in weights.items()}
    while any(all(name.startswith(p) for name in found) for p in PREFIXES):
        found = {name.partition(".")[2]: weight for name, weight in found.items()}
    return {name: weight for name, weight in found.items() if name not in CONSTANTS}


def _floats(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float32; ValueError for integers or sparse tensors among them."""
    for name, weight in weights.items():
        is_plain = weight.is_floating_point() or weight.ndim < 2
        if not is_plain or weight.layout is not torch.strided:
            raise ValueError(
                f"its {name} is {weight.dtype} in {weight.layout}, as of a quantised "
                "or sparse model; save the weights as dense floating-point numbers"
            )
    return {name: weight.float() for name, weight in weights.items()}


def set_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Set the weights of an open_clip model, resizing positional embeddings.

    Raises ValueError with the first names, or the shape, that do not fit.
    """
    from open_clip import model as converters

    if not hasattr(model, "positional_embedding"):  # the text side has a prefix
        weights = converters.convert_to_custom_text_state_dict(weights)
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    surplus = [name for name in weights if name not in expected]
    if missing or surplus:
        raise ValueError(
            f"its names are of another model; missing: {_first(missing)}; unknown: "
            f"{_first(surplus)}"
        )
    _resize(weights, model)
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            shapes = [list(x.shape) for x in (weight, expected[name])]
            raise ValueError(f"its {name} is {shapes[0]} instead of {shapes[1]}")
    model.load_state_dict(weights)


def _resize(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Give the logit scale and the positional embeddings the shapes of a model."""
    from open_clip import model as converters

    scale = weights["logit_scale"]
    try:
        weights["logit_scale"] = scale.reshape(model.logit_scale.shape)
        converters.resize_pos_embed(weights, model)
        converters.resize_text_pos_embed(weights, model)
    except Exception as error:  # of open_clip, for shapes that it does not expect
        raise ValueError(
            "its logit_scale is no number, or its positional embeddings are no square "
            f"of patches or of another width ({error}); set `model` to its model"
        ) from error


def _first(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
