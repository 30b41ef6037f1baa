"""Images that are decided alike: spectral clustering with the number of groups by the eigengap."""

import numpy as np
from jaxtyping import Float, Int

from mitate import imports

FEWEST_TO_SPLIT = 8
MOST_GROUPS = 8
NEIGHBOURS = 7
LOOSE = 0.2  # an eigenvalue above this does not belong to a part that hangs loosely on the rest


def group(features: Float[np.ndarray, "n d"], seed: int = 0) -> Int[np.ndarray, " n"]:
    """Give each image the number of its group, the largest group first.

    After SpRAy (Lapuschkin et al. 2019, doi:10.1038/s41467-019-08987-4): a graph joins each image
    with its nearest ones, and what the eigenvectors of its normalised Laplacian tell apart is a
    group (von Luxburg 2007, doi:10.1007/s11222-007-9033-z). Fewer than eight images, or images
    without a difference, are one group. Time grows with the cube of the number of images.

    Args:
        features: one row an image.
        seed: of k-means; equal seeds give equal groups.
    """
    if len(features) < FEWEST_TO_SPLIT or not np.ptp(features, axis=0).any():
        return np.zeros(len(features), dtype=np.int64)
    values, vectors = np.linalg.eigh(_laplacian(_affinity(features)))
    number = groups_by_eigengap(values)
    if number == 1:
        return np.zeros(len(features), dtype=np.int64)
    rows = vectors[:, :number]
    # Rows of the graph's parts point in different directions (Ng, Jordan and Weiss 2002).
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1)
    kmeans = imports.sklearn("cluster").KMeans(number, n_init=10, random_state=seed)
    return _by_size(kmeans.fit_predict(rows))


def groups_by_eigengap(values: Float[np.ndarray, " n"]) -> int:
    """How many eigenvalues of a Laplacian, in rising order, lie before the widest gap.

    At most eight, and at most a quarter of the images. The gap is looked for behind small
    eigenvalues only: where images do not fall into groups, the widest gap is anywhere.
    """
    small = int((values <= LOOSE).sum())
    most = max(1, min(MOST_GROUPS, len(values) // 4, small))
    gaps = np.diff(values[: most + 1])
    return int(np.argmax(gaps)) + 1 if len(gaps) else 1


def _affinity(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """1 between images that are each among the other's nearest, 1/2 where only one is."""
    nearest = min(NEIGHBOURS, len(features) - 1)
    graph = imports.sklearn("neighbors").kneighbors_graph(features, nearest)
    joined = graph.toarray()
    return np.asarray((joined + joined.T) / 2)


def _laplacian(affinity: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The symmetric normalised Laplacian; every image has neighbours."""
    scale = 1 / np.sqrt(affinity.sum(1))
    return np.asarray(np.eye(len(affinity)) - scale[:, None] * affinity * scale[None])


def _by_size(groups: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The same groups, numbered from the largest; of equal ones the first image's comes first."""
    numbers, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    order = numbers[np.lexsort((first, -sizes))]
    renamed = np.empty(int(numbers.max()) + 1, dtype=np.int64)
    renamed[order] = np.arange(len(order))
    return np.asarray(renamed[groups])
