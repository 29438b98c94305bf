import pytest
import torch

from promptad.devices import check_device
from promptad.errors import UserError


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0"])
def test_a_device_that_is_there(device):
    check_device(device)


def test_a_gpu_that_is_absent_is_told():
    with pytest.raises(UserError, match="cuda:1 asked for, torch sees 1 GPUs"):
        check_device("cuda:1")


def test_without_any_gpu_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="cuda asked for"):
        check_device("cuda")
