"""The device that a job computes on."""

import torch

from promptad.errors import UserError


def check_device(device: str) -> None:
    """Raise UserError if torch does not see the GPU that `device` names."""
    name, _, index = device.partition(":")
    if name == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device: {device} asked for, torch sees {torch.cuda.device_count()} GPUs "
            "here; mend `device`, or see README on GPU builds of torch"
        )
