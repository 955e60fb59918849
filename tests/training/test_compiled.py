"""Compiled networks of volumes: the gradients of those that are not, and nothing left behind."""

import shutil
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from latens.distributions import NoiseStream
from latens.distributions.validation import validation_kept
from latens.errors import ConfigError
from latens.models.volume_vae import VolumeVAE
from latens.nets import Volumetric
from latens.nets.volumetric import VolumeTrunk, VolumeUpsampler, doubled
from latens.training.hardware import Hardware

SHAPE = (1, 10, 10, 10)


def make_model() -> VolumeVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VolumeVAE(SHAPE, dim=3, architecture=Volumetric(8, features=8, coarse=3))
    for parameter in model.parameters():  # residual blocks begin as zeros, which hide gradients
        parameter.data += 0.03 * NoiseStream(1, parameter.numel()).normal(parameter.shape)
    return model


def gradients(net: nn.Module, bf16: bool) -> dict[str, torch.Tensor]:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        volume, _ = net(NoiseStream(2, 0).normal((4, 3)))
    (volume.float() - NoiseStream(2, 1).normal(volume.shape)).square().sum().backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_gradients_of_a_decoder_in_bfloat16():
    """Compiled as it stands, nearest-neighbour interpolation has none here (torch 2.13)."""
    nets = [make_model().decoder_net.trunk for _ in range(3)]
    assert isinstance(nets[0], VolumeUpsampler)
    exact, rounded = gradients(nets[0], False), gradients(nets[1], True)
    with warnings.catch_warnings(), validation_kept():
        warnings.simplefilter("ignore")  # those of the compiler itself
        nets[2].compile(dynamic=False)
        found = gradients(nets[2], True)
    assert found.keys() == rounded.keys() == exact.keys()
    largest = max(float(value.norm()) for value in exact.values())
    for name, value in exact.items():
        if float(value.norm()) > 0.01 * largest:
            errors = [float((one[name] - value).norm() / value.norm()) for one in (rounded, found)]
            assert max(errors) < 0.2, (name, errors)


def test_nets_are_compiled_within_and_not_after(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    model = make_model()
    nets = [net for net in model.modules() if isinstance(net, VolumeTrunk | VolumeUpsampler)]
    assert len(nets) == 2
    with Hardware(compiled=True).compiling(model):
        assert all(net._compiled_call_impl is not None for net in nets)
    assert all(net._compiled_call_impl is None for net in nets)
    with Hardware().compiling(model):
        assert all(net._compiled_call_impl is None for net in nets)


@pytest.mark.parametrize("grid", [(5,), (3, 2), (2, 3, 4)])
def test_doubled_is_the_nearest_neighbour(grid):
    u = NoiseStream(3, 0).normal((2, 4, *grid))
    twice = doubled(u)
    assert torch.equal(twice, F.interpolate(u, scale_factor=2.0))
    odd = tuple(2 * n - 1 for n in grid)
    assert torch.equal(twice[(..., *(slice(0, n) for n in odd))], F.interpolate(u, size=odd))


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch):
    def broken(function):
        def call(*arguments):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with (
        pytest.raises(ConfigError, match=r"hardware\.compiled.*RuntimeError.*g\+\+"),
        Hardware(compiled=True).compiling(make_model()),
    ):
        pass
