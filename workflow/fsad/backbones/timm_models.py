"""Networks of timm: ViTs (DINOv2, DINOv3, plain ones) and CNNs, as towers."""

import difflib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fsad.artifacts.files import unreadable
from fsad.backbones.checkpoints import read_weights
from fsad.backbones.spec import PIXELS, RANDOM, TIMM
from fsad.backbones.tower import Tower
from fsad.errors import UserError

# Modules of timm whose models take images of any size and name their blocks or stages.
VITS = ("deit", "eva", "vision_transformer")
CNNS = ("convnext", "cspnet", "densenet", "dla", "dpn", "efficientnet", "ghostnet")
CNNS += ("hardcorenas", "hgnet", "inception_next", "mobilenetv3", "nfnet", "regnet")
CNNS += ("repghost", "repvit", "res2net", "resnest", "resnet", "resnetv2", "rexnet")
CNNS += ("senet", "sknet", "tresnet", "vgg", "vovnet", "xception", "xception_aligned")
# A network gives features, not classes. Position embeddings fit themselves to images.
ARGUMENTS = {"vit": {"num_classes": 0, "dynamic_img_size": True}}
ARGUMENTS["cnn"] = {"num_classes": 0}


def load_timm(backbone: Mapping) -> Tower:
    """Load a network of timm.

    backbone: `model` as MODEL.TAG, or MODEL with `pretrained`, a file of weights in
    timm's or the original format, or `random` with `random_seed`; optional
    `image_size`, `mean` and `std`. Raises UserError if there is no such model or tag,
    or its weights cannot be loaded.
    """
    check_model(backbone)
    model, pretrained = backbone["model"], backbone.get("pretrained")
    arguments = ARGUMENTS[family(model)]
    try:
        network = _create(backbone, arguments)
        for name, weight in network.state_dict().items():
            if not weight.isfinite().all():
                raise ValueError(f"{name} contains values that are not finite")
    except Exception as error:  # timm passes on whatever its loaders raise
        if pretrained is None:
            raise _no_download(network_config(model), error) from error
        raise _no_weights(backbone, error) from error
    return tower_of(network, model, arguments, backbone)


def check_model(backbone: Mapping) -> None:
    """Raise UserError for a model or tag that timm does not have, or a missing tag."""
    name, _, tag = backbone["model"].partition(".")
    known, pretrained = _tags(name), backbone.get("pretrained")
    found = f"model: {backbone['model']!r}"
    family(name)
    if pretrained is None and tag not in known:
        names = ", ".join(f"{name}.{other}" for other in known) or "none; name a file"
        what = f"has no tag {tag!r}" if tag else "names no weights"
        raise UserError(f"{found} {what}; take MODEL.TAG, of this model: {names}")
    if pretrained is not None and tag:
        raise UserError(
            f"{found} names weights, and so does `pretrained`; write {name}, or "
            "delete `pretrained`"
        )


def family(model: str) -> str:
    """`vit` or `cnn`; UserError for a model unknown to timm, or of another kind."""
    import timm

    name = model.partition(".")[0]
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), cutoff=0.4)
        raise UserError(
            f"model: timm has no model {name!r}; close to it: "
            f"{', '.join(close) or 'none'}"
        )
    module = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
    if module not in (*VITS, *CNNS):
        raise UserError(
            f"model: {name} of timm ({module}) is neither a plain ViT nor a "
            "CNN with named stages; `fsad backbones` lists those that are"
        )
    return "vit" if module in VITS else "cnn"


def _tags(name: str) -> list[str]:
    """Tags of a model that have weights."""
    from timm.models import get_arch_pretrained_cfgs

    found = get_arch_pretrained_cfgs(name)
    return [n.partition(".")[2] for n, config in found.items() if config.has_weights]


def network_config(model: str) -> dict:
    """timm's description of pretrained weights, `license` and `hf_hub_id` among it."""
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(model).to_dict()


def _create(backbone: Mapping, arguments: Mapping) -> nn.Module:
    import timm

    model, pretrained = backbone["model"], backbone.get("pretrained")
    if pretrained is None:
        return timm.create_model(model, pretrained=True, **arguments)
    if pretrained == RANDOM:
        torch.manual_seed(backbone["random_seed"])
        return timm.create_model(model, **arguments)
    weights = _without_head(read_weights(pretrained), network_config(model))
    # Of as many classes as the network, or timm would not notice missing weights.
    given = {"state_dict": weights, "num_classes": 0, "label_offset": 0}
    return timm.create_model(
        model, pretrained=True, pretrained_cfg_overlay=given, **arguments
    )


def _without_head(weights: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    heads = config.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    starts = tuple(f"{head}." for head in heads)
    return {n: w for n, w in weights.items() if not n.startswith(starts or "\n")}


def tower_of(
    network: nn.Module, model: str, arguments: Mapping, options: Mapping
) -> Tower:
    """Tower of a network of timm, with what it takes to build it again.

    arguments: with which timm's create_model made the model. options: `image_size`,
    `mean` and `std`, by default those of the pretrained weights. `config` holds
    `library`, `model`, `arguments`, `family` (vit | cnn), `image_size`, `mean`, `std`;
    of a ViT `layers`, `width`, `patch_size` and the rule of `positions` (dinov2 |
    timm), of a CNN `stages`, channels and stride by name.
    """
    kind = family(model)
    config = {"library": TIMM, "model": model, "arguments": dict(arguments)}
    config |= {"family": kind, **_inputs(network.pretrained_cfg, options)}
    config |= _vit_config(network, model) if kind == "vit" else _cnn_config(network)
    weights = {name: weight.detach() for name, weight in network.state_dict().items()}
    return Tower(weights, config)


def _inputs(pretrained: Mapping, options: Mapping) -> dict:
    pixels = {name: [*options.get(name, pretrained[name])] for name in PIXELS}
    native = pretrained["input_size"][-1]
    return {"image_size": options.get("image_size", native), **pixels}


def _vit_config(network: nn.Module, model: str) -> dict:
    # With registers, DINOv2 resizes positions as timm does; without, it has its own.
    published = "_dinov2" in model and network.reg_token is None
    return {
        "layers": len(network.blocks),
        "width": network.embed_dim,
        "patch_size": _patch_size(network, model),
        "positions": "dinov2" if published else TIMM,
    }


def _patch_size(network: nn.Module, model: str) -> int:
    size, *others = {*network.patch_embed.patch_size}
    if others or type(network.patch_embed).__name__ != "PatchEmbed":
        raise UserError(f"model: {model} has no square patches; take another")
    return size


def _cnn_config(network: nn.Module) -> dict:
    found = network.feature_info
    found = found if isinstance(found, list) else found.info
    stages = {s["module"]: [s["num_chs"], s["reduction"]] for s in found}
    return {"stages": stages}


def build(tower: Tower) -> nn.Module:
    """The network of a tower, with its weights, on its device, to be evaluated.

    Its random initialisation, which takes seconds for a large one, is left out.
    """
    import timm

    with torch.device("meta"):
        network = timm.create_model(tower.config["model"], **tower.config["arguments"])
    network = network.to_empty(device=tower.device)
    network.load_state_dict(tower.weights, assign=True)
    for module in network.modules():  # what is computed and not stored, of RoPE
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()
    return network.eval().requires_grad_(False)


def _no_download(config: Mapping, error: Exception) -> UserError:
    name = f"{config['architecture']}.{config['tag']}"
    hub = config.get("hf_hub_id") or "the hub"
    return UserError(
        f"model: the weights of {name} are not on this machine and could not "
        f"be downloaded ({_reason(error)}); run once with a network, where asked for "
        f"accept the licence ({config.get('license') or 'unknown'}) of {hub} and set "
        "HF_TOKEN, or put the file here and name it as `pretrained`, with "
        f"model: {config['architecture']}"
    )


def _no_weights(backbone: Mapping, error: Exception) -> UserError:
    path, model = backbone["pretrained"], backbone["model"]
    if isinstance(error, OSError):
        return unreadable(path, error)
    reason = f"{path} holds no weights of {model}: {_reason(error)}"
    return UserError(f"pretrained: {reason}")


def _reason(error: Exception) -> str:
    """An error in one line; torch lists the names that do not fit on further ones."""
    words = " ".join(str(error).split()) or repr(error)
    return words if len(words) <= 200 else f"{words[:197]}..."
