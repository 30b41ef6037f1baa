"""Classifiers: load, save, convert; timm, torchvision, fastai and plain modules."""
