import dataclasses

import pytest
import torch

from mitate.errors import UsageError
from mitate.explain.explainer import Explainer
from mitate.explain.explanation import Explanation
from mitate.explain.figure import MOST_ROWS, as_html, draw
from mitate.explain.flags import Flag
from mitate.models.classifier import Classifier
from oracles import networks

NAMES = ("rust", "blight", "blast", "rust", "mould")


def explain(number: int = 2, method: str = "gradcam", **call) -> Explanation:
    model = Classifier.from_module(networks.make("with relu"), classes=NAMES)
    return Explainer(model, method, "tapped")(networks.make_images(number), **call)


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_titles_are_class_names_with_their_probability_and_the_true_one_marked() -> None:
    explanation = explain(1, targets=[[0, 3, 1]], labels=[3], names=["leaf.jpg"])
    shown = words(draw([explanation]))
    first, true, third = (f"{100 * float(p):.1f} %" for p in explanation.probabilities[0])
    assert "leaf.jpg" in shown
    assert "true class: rust" in shown
    assert shown.count("rust") == 2
    assert first in shown
    assert f"{true} ✓ true" in shown  # by index: another class has the same name
    assert third in shown


def test_an_unknown_class_is_not_mentioned() -> None:
    assert not any("true" in word for word in words(draw([explain()])))


def test_flags_stand_under_their_map() -> None:
    explanation = dataclasses.replace(explain(1), flags=(Flag(0, 1, "zero", "no gradient"),))
    assert "zero: no gradient" in words(draw([explanation]))


def test_methods_stand_side_by_side() -> None:
    shown = words(draw([explain(), explain(method="scorecam")]))
    assert "gradcam · tapped" in shown
    assert "scorecam · tapped" in shown
    assert "gradcam · tapped" in words(draw([explain()]))
    assert "My title" in words(draw([explain()], title="My title"))


def test_a_signed_map_gives_all_a_bar_with_two_sides() -> None:
    signed = dataclasses.replace(explain(), maps=torch.randn(2, 3, 4, 6))
    assert "-1" in words(draw([explain(), signed]))
    assert "-1" not in words(draw([explain()]))


def test_explanations_of_other_images() -> None:
    with pytest.raises(UsageError, match="must be of the same images"):
        draw([explain(1), explain(2)])


def test_a_notebook_shows_the_figure() -> None:
    html = explain()._repr_html_()
    assert html.startswith('<img src="data:image/png;base64,')
    assert 'alt="gradcam maps of 2 image(s) at tapped"' in html


def test_a_notebook_shows_some_of_many() -> None:
    one = explain(1, top_k=1)
    many = dataclasses.replace(
        one,
        maps=one.maps.expand(30, -1, -1, -1),
        classes=one.classes.expand(30, -1),
        logits=one.logits.expand(30, -1),
        pictures=one.pictures * 30,
    )
    assert f"and 6 more images: explanation[{MOST_ROWS}:].plot()" in as_html(many)
    assert "no image" in as_html(many[:0])
    with pytest.raises(UsageError, match="of no image: there is nothing to draw"):
        many[:0].plot()
