"""Judging a classifier on the images that training set aside, through its own preprocessing."""

import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mitate.models.classifier import Classifier
from mitate.training.overlaps import Overlaps
from mitate.training.photos import Photos
from mitate.training.scores import Scores, SegmentationScores, score, score_segmentation
from mitate.training.segmentation import region_truth

BATCH = 32


def judged(classifier: Classifier, photos: Photos) -> tuple[np.ndarray, Scores]:
    """Softmax probabilities (images, classes), and the scores of classes and segmentation."""
    batches = np.array_split(np.arange(len(photos)), max(1, len(photos) // BATCH))
    rows = np.concatenate(
        [
            classifier.logits(inputs_of(classifier, photos, batch)).softmax(-1).cpu()
            for batch in batches
        ]
    )
    scores = score(photos.labels, rows.argmax(1).tolist(), classifier.class_names)
    if classifier.decoder is not None:
        scores = replace(scores, segmentation=segmented(classifier, photos))
    return rows, scores


def segmented(classifier: Classifier, photos: Photos) -> SegmentationScores:
    """How well the classifier draws the photos that have a mask."""
    marked = [i for i in range(len(photos)) if bool((photos.levels(i) >= 0).any())]
    labels = torch.tensor([photos.labels[i] for i in marked], dtype=torch.long)
    regions = len(classifier.decoder.regions) if classifier.decoder else 0
    counts = [torch.zeros(0, regions, 3, dtype=torch.long)]
    for start in range(0, len(marked), BATCH):
        batch = np.array(marked[start : start + BATCH])
        drawn = classifier.segment(inputs_of(classifier, photos, batch))
        levels = torch.stack([photos.levels(int(i)) for i in batch])
        truth, known = region_truth(levels, labels[start : start + BATCH], regions)
        counts.append(Overlaps.of(drawn.cpu(), truth, known).counts)
    return score_segmentation(Overlaps(torch.cat(counts)), labels.tolist(), classifier.class_names)


def inputs_of(classifier: Classifier, photos: Photos, batch: np.ndarray) -> Tensor:
    """The inputs of some photos, by index."""
    normalize = classifier.preprocessing.normalize
    return torch.stack([normalize(photos.pixels(int(i))) for i in batch])


def milliseconds(classifier: Classifier, images: int = 16, rounds: int = 3) -> float:
    """Of one image's share of a batch, at best."""
    height, width = classifier.preprocessing.size
    batch = torch.zeros(images, len(classifier.preprocessing.mean), height, width)
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        classifier.logits(batch)
        best = min(best, time.perf_counter() - begun)
    return 1000 * best / images
