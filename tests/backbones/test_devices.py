import pytest
import torch

from fsad.backbones.devices import captured, check_device
from fsad.errors import UserError
from helpers import NEEDS_GPU


@pytest.fixture
def one_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0"])
def test_a_device_that_is_there(device):
    check_device(device)


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_that_is_absent_is_refused():
    with pytest.raises(UserError, match="cuda:1 asked for, torch sees 1 GPUs"):
        check_device("cuda:1")


def test_without_any_gpu_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="cuda asked for"):
        check_device("cuda")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "CPU", ""])
def test_an_invalid_device_is_refused(device):
    with pytest.raises(UserError, match=f"'{device}' is neither cpu nor cuda"):
        check_device(device)


def test_without_a_gpu_work_is_not_captured():
    assert captured(int, torch.device("cpu")) is int


@NEEDS_GPU
def test_a_captured_graph_reads_its_inputs_again():
    given = torch.ones(3, device="cuda")
    replay = captured(lambda: 2 * given, given.device)
    assert replay().tolist() == [2, 2, 2]
    given.fill_(5)
    assert replay().tolist() == [10, 10, 10]
