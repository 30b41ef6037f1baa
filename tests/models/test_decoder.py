import pytest
import torch
from torch import nn

import tiny
from mitate import imports
from mitate.errors import ClassifierError
from mitate.models.classifier import Classifier
from mitate.models.decoder import Decoder, MultiTask, decoder_for

FAMILIES = {  # the levels taken, and the pixels a cell of the decoder's finest grid
    "test_convnext": [0, 1, 2, 3],
    "test_resnet": [1, 2, 3, 4],
    "test_efficientnet": [1, 2, 3, 4],
    "test_vit": [1, 3, 5],
    "mobilenetv2_100": [1, 2, 3, 4],
    "coatnet_nano_rw_224": [1, 2, 3, 4],
    "swin_tiny_patch4_window7_224": [0, 1, 2, 3],
    "vit_tiny_patch16_224": [2, 5, 8, 11],
}


def built(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = imports.timm().create_model(name, num_classes=3).eval()
        size = network.pretrained_cfg["input_size"][1:]
        return network, torch.randn(2, 3, *size)


@pytest.mark.parametrize("name", FAMILIES)
def test_any_backbone_gets_one_and_keeps_its_logits(name):
    network, inputs = built(name)
    decoder = decoder_for(network, inputs[:1], ["region"]).eval()
    with torch.no_grad():
        logits, drawn = MultiTask(network, decoder)(inputs)
        assert torch.allclose(logits, network(inputs), rtol=1e-4, atol=1e-5)
    assert drawn.shape == (2, 1, *inputs.shape[-2:])
    assert drawn.isfinite().all()
    assert drawn[0].std() > 0


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "vit_tiny_patch16_224"])
def test_levels_are_those_of_a_quarter_and_coarser(name):
    network, inputs = built(name)
    decoder = decoder_for(network, inputs[:1], ["region"])
    assert list(decoder.levels) == FAMILIES[name]
    finest = []
    decoder.last.register_forward_hook(lambda *args: finest.append(args[1][0].shape[-1]))
    with torch.no_grad():
        MultiTask(network, decoder)(inputs)
    assert finest == [inputs.shape[-1] // 4]


def test_it_is_light():
    network, inputs = built("convnext_atto")
    decoder = decoder_for(network, inputs[:1], ["region"])
    weights, body = (sum(p.numel() for p in m.parameters()) for m in (decoder, network))
    assert weights < 0.1 * body


def test_it_is_built_again_from_its_description():
    decoder = Decoder((0, 2), (8, 16), ("a", "b"), doublings=1, width=16)
    again = Decoder(**decoder.description())
    again.load_state_dict(decoder.state_dict())
    features = [torch.randn(1, 8, 8, 8), torch.randn(1, 16, 2, 2)]
    assert torch.equal(again(features, (32, 32)), decoder(features, (32, 32)))


def test_it_learns_where():
    """A bright square on noise is found at its place."""
    torch.manual_seed(0)
    network = tiny.classifier().network.train()
    inputs = 0.3 * torch.randn(4, 3, 64, 64)
    truth = torch.zeros(4, 1, 64, 64)
    for i, (y, x) in enumerate([(4, 8), (32, 16), (20, 40), (40, 36)]):
        truth[i, 0, y : y + 20, x : x + 20] = 1
    inputs = inputs + 2 * truth
    both = MultiTask(network, decoder_for(network, inputs[:1], ["region"]))
    optimizer = torch.optim.Adam(both.parameters(), 0.01)
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(both(inputs)[1], truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = both(inputs)[1] > 0
    assert (drawn & (truth > 0)).sum() / (drawn | (truth > 0)).sum() > 0.7


def test_networks_without_intermediate_features_are_told():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ClassifierError, match="forward_intermediates"):
        decoder_for(network, torch.zeros(1, 3, 16, 16), ["region"])


def test_networks_that_take_another_way_are_told():
    network, inputs = built("test_convnext")
    ordinary = network.forward_head
    network.forward_head = lambda features: 2 * ordinary(features) + 1
    network.forward = lambda x: ordinary(network.forward_features(x))
    with pytest.raises(ClassifierError, match="other logits"):
        decoder_for(network, inputs[:1], ["region"])


def test_without_a_decoder_there_is_no_segmentation():
    with pytest.raises(ClassifierError, match="--masks"):
        tiny.classifier().segment(torch.zeros(1, 3, 64, 64))


def test_segmenting_leaves_the_classifier_as_it_was():
    classifier = tiny.classifier()
    inputs = torch.randn(2, 3, 64, 64)
    decoder = decoder_for(classifier.network, inputs[:1], ["region"])
    both = Classifier(classifier.network, classifier.class_names, decoder=decoder)
    classifier.network.train()
    before = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    shares = both.segment(inputs)
    assert shares.shape == (2, 1, 64, 64)
    assert 0 <= shares.min() <= shares.max() <= 1
    assert not shares.requires_grad
    assert classifier.network.training
    after = classifier.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.allclose(both.segment(inputs[:1])[0], shares[0], atol=1e-5)
