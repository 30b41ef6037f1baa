from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mitate.data.records import Record
from mitate.jobs.explaining import explain_photos
from mitate.jobs.photos import Shot
from mitate.jobs.segmenting import segmentation_panels
from mitate.models.decoder import decoder_for

pytestmark = pytest.mark.filterwarnings("ignore::mitate.drawing.fonts.MissingGlyphWarning")


@pytest.fixture
def classifier():
    """It draws the first of its regions on the left half of any photo, and never the second."""
    plain = tiny.classifier()
    decoder = decoder_for(plain.network, torch.zeros(1, 3, 64, 64), ["spot", "rim"]).eval()

    def forward(features, size):
        logits = torch.full((len(features[0]), 2, *size), -20.0)
        logits[:, 0, :, : size[1] // 2] = 20
        return logits

    decoder.forward = forward
    return replace(plain, decoder=decoder)


def shots(tmp_path, number):
    folder = tiny.photos(tmp_path, {"blast": number})
    return [
        Shot(Record(path, "blast"), path.name, Image.open(path).convert("RGB"))
        for path in sorted(folder.glob("*/*.png"))
    ]


def test_regions_are_tinted_where_they_are_drawn(classifier, tmp_path):
    (first, second) = shots(tmp_path, 2)
    panels = segmentation_panels(classifier, [first, second])
    assert [panel.title for panel in panels] == ["segmentation"] * 2
    assert panels[0].detail == "spot 50.0 %"
    drawn, photo = (np.asarray(p) for p in (panels[0].picture, first.photo))
    assert drawn.shape == photo.shape
    changed = (drawn != photo).any(axis=2)
    assert changed[:, :15].all()
    assert not changed[:, 25:].any()


def test_nothing_drawn_is_told(classifier, tmp_path):
    classifier.decoder.forward = lambda features, size: torch.full((1, 2, *size), -20.0)
    (panel,) = segmentation_panels(classifier, shots(tmp_path, 1))
    assert panel.detail == "nothing drawn"


def test_a_spot_is_more_than_nothing(classifier, tmp_path):
    def forward(features, size):
        logits = torch.full((1, 2, *size), -20.0)
        logits[0, 0, 0, 0] = 20
        return logits

    classifier.decoder.forward = forward
    (panel,) = segmentation_panels(classifier, shots(tmp_path, 1))
    assert panel.detail == "spot < 0.1 %"


def test_without_a_decoder_there_is_no_column(tmp_path):
    assert segmentation_panels(tiny.classifier(), shots(tmp_path, 1)) == []


def test_the_sheet_has_a_column_more(classifier, tmp_path):
    records = [shot.record for shot in shots(tmp_path, 2)]
    widths = {}
    for name, used in (("plain", tiny.classifier()), ("segmenting", classifier)):
        for methods in (("gradcam",), ("gradcam", "layercam")):
            out = tmp_path / name / str(len(methods))
            done = explain_photos(used, records, out, methods=methods, top_k=1, shown=False)
            with Image.open(done.figures[0]) as sheet:
                widths[name, len(methods)] = sheet.width
    for methods in (1, 2):
        assert widths["segmenting", methods] > widths["plain", methods] + 100
