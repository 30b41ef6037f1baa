import pytest
from torch import nn

from mitate.models.mode import evaluating


def network() -> nn.Sequential:
    made = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()))
    made[1].eval()
    made[1][1].train()
    return made


def test_every_module_gets_its_own_mode_back() -> None:
    made = network()
    before = [module.training for module in made.modules()]
    with evaluating(made):
        assert not any(module.training for module in made.modules())
    assert [module.training for module in made.modules()] == before
    assert len(set(before)) == 2


def test_after_an_exception_too() -> None:
    made = network()
    before = [module.training for module in made.modules()]
    with pytest.raises(KeyError), evaluating(made):
        raise KeyError
    assert [module.training for module in made.modules()] == before
