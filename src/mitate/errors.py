"""Everything that mitate raises on purpose.

MitateError
├── UsageError               the call is wrong: unknown method, option or value
│   ├── LayerError           no such layer, or one without a spatial grid
│   ├── TargetError          targets that do not fit the batch or the classes
│   └── MissingExtraError    the work needs an optional package
├── ClassifierError          a reference that gives no classifier
│   ├── WeightsError         weights that do not fit the architecture
│   └── UnsafePickleError    a pickle, which would run code
├── DataError                a data set that cannot be used
└── ImageError               one picture that cannot be read

Every message says what was wrong, what was expected and what to do.
"""


class MitateError(Exception):
    """Parent of every error that mitate raises on purpose."""


class UsageError(MitateError):
    """The call itself is wrong; the command line exits with 2."""


class LayerError(UsageError):
    """No such layer, or a layer whose output has no spatial grid."""


class TargetError(UsageError):
    """Targets that do not fit the batch or the number of classes."""


class MissingExtraError(UsageError):
    """An optional package is needed and not installed."""


class ClassifierError(MitateError):
    """A reference or folder that gives no classifier."""


class WeightsError(ClassifierError):
    """Weights that do not fit the architecture."""


class UnsafePickleError(ClassifierError):
    """A file that is a pickle: reading it would run code."""


class DataError(MitateError):
    """A data set that cannot be used."""


class ImageError(MitateError):
    """One picture that cannot be read."""


class MitateWarning(UserWarning):
    """Something that the user should know and that stops nothing; the command line prints it."""
