import pytest
import torch
from torch import nn

from mitate.auditing.redrawing import Redrawn, cut, learned_layers
from oracles import networks


def network():
    return networks.make("with relu")


def state(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def entered(module, layers=None):
    redrawn = Redrawn(module, 0)
    return redrawn.entered(redrawn.layers if layers is None else layers)


def test_the_weights_are_put_back_whatever_happens():
    made = network()
    before, homes = state(made), [weight.data_ptr() for weight in made.parameters()]

    def fail():
        with entered(made):
            assert not torch.equal(made.head.weight, before["head.weight"])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert all(torch.equal(weight, before[name]) for name, weight in made.state_dict().items())
    assert [weight.data_ptr() for weight in made.parameters()] == homes


def test_weights_keep_their_mean_and_deviation_and_no_two_layers_are_alike():
    made = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50))
    before = state(made)
    with entered(made):
        for place in (0, 1):
            drawn, own = made[place].weight.detach(), before[f"{place}.weight"]
            assert (drawn.mean() - own.mean()).abs() < 0.01
            assert drawn.std() / own.std() == pytest.approx(1, abs=0.05)
            assert torch.corrcoef(torch.stack([drawn.flatten(), own.flatten()]))[0, 1].abs() < 0.1
        pair = torch.stack([made[place].weight.detach().flatten() for place in (0, 1)])
        assert torch.corrcoef(pair)[0, 1].abs() < 0.1


def test_layers_without_anything_to_draw_are_left_out_and_shared_weights_come_once():
    made = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    made[2].weight = made[0].weight
    layers = learned_layers(made)
    assert len(layers) == 2
    assert layers[0] == (made[0].weight, made[0].bias)
    assert layers[1] == (made[2].bias,)


def test_stages_from_all_layers_to_the_last():
    layers = learned_layers(nn.Sequential(*(nn.Linear(2, 2) for _ in range(5))))
    found = cut(layers, 3)
    assert [len(stage) for stage in found] == [5, 4, 2]
    assert all(stage[-1] == layers[-1] for stage in found)
    assert [len(stage) for stage in cut(layers, 99)] == [5, 4, 3, 2, 1]


def test_a_layer_is_drawn_alike_in_every_stage():
    made = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    layers = learned_layers(made)
    with entered(made):
        both = made[1].weight.clone()
    with entered(made, layers[1:]):
        assert torch.equal(made[1].weight, both)


def test_weights_are_drawn_once():
    made = network()
    redrawn = Redrawn(made, 0)
    homes = []
    for _ in range(2):
        with redrawn.entered(redrawn.layers):
            homes.append([weight.data_ptr() for layer in redrawn.layers for weight in layer])
    assert homes[0] == homes[1]
