"""Survey respondents, whose true probabilities are known: personas of one set, and those of another in place of models."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from fairpp_hf.evaluation.positioning import Place, Respondent, ideal_points, pca
from fairpp_hf.evaluation.positioning.counts import templates_of
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.survey import survey_answers

CHI_SQUARE_95 = chi2.ppf(0.95, df=2)

ANCHORS, MODELS = "britains_choice_2020", "hidden_tribes_2018"


@cache
def true_probabilities(personas: str) -> NDArray[np.float64]:
    """(p, 28,420, 3)."""
    known = load_personas(personas)
    return np.stack([survey_answers(load_questions(), known, name).probabilities for name in known.ids])


def drawn(probabilities: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """One answer for each row of probabilities, one-hot."""
    choice = (rng.random(probabilities.shape[:-1])[..., None] > probabilities.cumsum(axis=-1)[..., :2]).sum(axis=-1)
    return np.eye(3)[choice]


def respondents(probabilities: NDArray[np.float64], personas: int) -> list[Respondent]:
    """The first `personas` rows of (r, n, 3) as personas, the others as models."""
    return [
        Respondent(
            f"persona {row}" if row < personas else f"model {row}", "persona" if row < personas else "model", item
        )
        for row, item in enumerate(probabilities)
    ]


def drawn_clusters(
    cluster: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clusters drawn with replacement, each draw a cluster of its own.

    Args:
        cluster: number of each row's cluster, (n,).
        count: how many are drawn.
        rng: draws them.

    Returns:
        The rows of the drawn clusters, and the number of the draw that each belongs to.
    """
    order = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[order], np.arange(cluster.max() + 2))
    picked = rng.integers(0, cluster.max() + 1, count)
    rows = np.concatenate([order[starts[number] : starts[number + 1]] for number in picked])
    return rows, np.repeat(np.arange(count), np.diff(starts)[picked])


def true_points(truth: NDArray[np.float64], personas: int, method: str, by: tuple[str, ...]) -> NDArray[np.float64]:
    """Where respondents stand by their true probabilities over all questions, (r, 2), up to a rotation or reflection.

    Args:
        truth: (r, 28,420, 3); the first `personas` rows are theirs.
        personas: how many.
        method: of `METHODS`.
        by: what the map's cells are divided by.
    """
    templates, template = templates_of(load_questions())
    by_template = np.zeros((len(truth), len(templates), 3))
    np.add.at(by_template, (slice(None), template), truth)
    counts = pca.cells_by(templates, by).counts(by_template)
    if method == "pca":
        features = pca.features_of(counts)[None]
        return pca.fit_plane(features[:, :personas]).coordinates(features)[0]
    fit = ideal_points.fit_spatial_model(counts[:personas, :, :2])
    theta = ideal_points.place(fit.slopes[None], fit.intercepts[None], counts[None, ..., :2])
    return ideal_points.coordinates(theta, fit.slopes[None], personas)[0][0]


def held(places: Sequence[Place | None], true: NDArray[np.float64], personas: int) -> NDArray[np.float64]:
    """Whether each respondent's 95% region holds its true point, (r,): 1 or 0; NaN for one without a place.

    Args:
        places: of r respondents; the first `personas` are the personas', who all have one.
        true: `true_points`, (r, 2).
        personas: how many.
    """
    anchors = np.stack([place.xy for place in places[:personas] if place is not None])
    turned = pca.aligned(true[None], true[None, :personas], anchors - anchors.mean(axis=0))[0]
    return np.array(
        [
            np.nan if place is None else float(distance(place, point) <= CHI_SQUARE_95)
            for place, point in zip(places, turned, strict=True)
        ]
    )


def distance(place: Place, point: NDArray[np.float64]) -> float:
    """Squared distance in the metric of the covariance: a chi-square with 2 degrees of freedom."""
    return float((point - place.xy) @ np.linalg.pinv(place.covariance) @ (point - place.xy))
