"""Fitting a classifier to a data set, on fastai, and telling how good it came out."""

from mitate.training.fit import Fitted, fit
from mitate.training.segmentation import Supervision

__all__ = ["Fitted", "Supervision", "fit"]
