"""Convolutions and linear layers on a CPU, run in one go with what follows them.

A network as it is written computes a convolution, then its batch norm, then its activation, and
each of them reads and writes every number of a layer. oneDNN does all three in one pass. While
``Fusing`` is entered, a convolution or a linear layer is put off: what stands for its result knows
how to compute it. A batch norm, an addition or an activation that comes next joins it; whatever
else is done with it computes it first. So the network's own code is run as ever, with its branches
and hooks. Where gradients are recorded a batch norm alone joins a convolution, as a scale of its
weights that is recorded too; where none is asked of the weights, a scale joins a layer likewise,
and a mean over places is taken before the layer. Results differ by the rounding of float32.
"""

from mitate.fusing.mode import Fusing, pays
from mitate.fusing.pending import forgetting

__all__ = ["Fusing", "forgetting", "pays"]
