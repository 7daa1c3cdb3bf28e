"""The dense CRF as its definition reads: dictionaries, dense matrices and no speed at all."""

import numpy as np


def enclosing_simplex(point):
    """Keys and barycentric weights of the simplex around a d-vector, in single precision.

    Conway and Sloane's way: round to the sublattice (d+1)Z^(d+1), repair the sum by moving the
    worst-rounded coordinates, order the residuals; remainder-r corners follow from that order.
    """
    f32 = np.float32
    d = len(point)
    deviation = f32(np.sqrt(2 / 3) * (d + 1))
    scaled = [f32(point[i]) * f32(deviation / np.sqrt((i + 1) * (i + 2))) for i in range(d)]
    tail = [f32(0)]  # tail[-1 - j] = sum of scaled[j:], added from the last axis
    for value in reversed(scaled):
        tail.append(tail[-1] + value)
    tail = tail[::-1]
    elevated = np.array([tail[0]] + [tail[j] - f32(j) * scaled[j - 1] for j in range(1, d + 1)])

    multiples = np.rint(elevated * (f32(1) / f32(d + 1)))
    residual = elevated - multiples * f32(d + 1)
    order = sorted(range(d + 1), key=lambda j: -residual[j])  # largest first, then lowest axis
    excess = int(multiples.sum())
    order = order[-excess:] + order[:-excess] if excess else order
    raised = multiples * (d + 1)
    if excess > 0:  # the sum is too large: the smallest residuals, now in front, step down
        raised[order[:excess]] -= d + 1
    elif excess < 0:  # too small: the largest residuals, now at the back, step up
        raised[order[excess:]] += d + 1
    residual = (elevated - raised.astype(np.float32)) / f32(d + 1)

    # Corner 0 is `raised`; corner r adds r, and takes d+1 off the r axes of smallest residual.
    keys = [
        tuple(int(raised[j]) + r - (d + 1) * (j in order[d + 1 - r :]) for j in range(d + 1))
        for r in range(d + 1)
    ]
    inner = [residual[order[d - r]] - residual[order[d + 1 - r]] for r in range(1, d + 1)]
    return keys, [1 - sum(inner), *inner]


class NaiveLattice:
    """Splat, blur and slice over a dictionary of vertices; the filter is a dense matrix."""

    def __init__(self, features):
        n, d = features.shape
        self.vertices = {}
        entries = []
        padded = [*features, np.zeros(d)] if n % 4 else list(features)
        for i, point in enumerate(padded):
            for key, weight in zip(*enclosing_simplex(point), strict=True):
                vertex = self.vertices.setdefault(key, len(self.vertices))
                if i < n:
                    entries.append((i, vertex, weight))
        m = len(self.vertices)
        splat = np.zeros((m, n))
        for i, vertex, weight in entries:
            splat[vertex, i] += weight
        blur = np.eye(m)
        for axis in range(d + 1):
            step = np.eye(m)
            for key, vertex in self.vertices.items():
                for sign in (1, -1):
                    moved = [k + sign for k in key]
                    moved[axis] -= sign * (d + 1)
                    other = self.vertices.get(tuple(moved))
                    if other is not None:
                        step[vertex, other] = 0.5
            blur = step @ blur
        self.kernel = splat.T @ blur @ splat / (1 + 2.0**-d)


def vertices(lattice):
    """How many vertices each kernel has in a lattice of crf/cpu: its rows but the ghosts."""
    ghosts = np.isin(np.arange(lattice.rows[-1]), lattice.ghosts[:, 0])
    kernels = (lattice.kernel_rows[:, k : k + 2] for k in range(len(lattice.kernel_starts) - 1))
    return [sum(int((~ghosts[slice(*rows)]).sum()) for rows in kernel) for kernel in kernels]


def softmax(x):
    y = np.exp(x - x.max(axis=0))
    return y / y.sum(axis=0)


def naive_dense_crf(image, probs, params, iterations):
    """Marginals, C x H x W float64, of the mean field with Potts and once-normalised kernels."""
    height, width = image.shape[:2]
    f32 = np.float32
    points = [(f32(x), f32(y), *map(f32, image[y, x])) for y in range(height) for x in range(width)]
    sigma_alpha, sigma_beta, sigma_gamma = map(
        f32, (params.sigma_alpha, params.sigma_beta, params.sigma_gamma)
    )
    position = np.array([[x / sigma_gamma, y / sigma_gamma] for x, y, *_ in points])
    bilateral = np.array(
        [
            [x / sigma_alpha, y / sigma_alpha, *(c / sigma_beta for c in rgb)]
            for x, y, *rgb in points
        ]
    )
    pairwise = 0
    for weight, features in ((params.w2, position), (params.w1, bilateral)):
        kernel = NaiveLattice(features).kernel
        pairwise = pairwise + weight * kernel / (kernel.sum(axis=1, keepdims=True) + 1e-20)
    with np.errstate(divide="ignore"):
        unary = -np.log(probs.reshape(len(probs), -1).astype(np.float64))
    q = softmax(-unary)
    for _ in range(iterations):
        q = softmax(-unary + q @ pairwise.T)
    return q.reshape(probs.shape)
