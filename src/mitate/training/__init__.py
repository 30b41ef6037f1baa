"""Fitting a classifier to a data set, on fastai, and telling how good it came out."""

from mitate.training.fit import Fitted, fit

__all__ = ["Fitted", "fit"]
