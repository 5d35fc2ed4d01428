"""Personas, their majority vote and models on two maps, with the uncertainty of each place.

Places are estimated from a sample of questions, and from single draws where answers are texts. The bootstrap over
(problem, group) clusters repeats the whole estimate, axes included; each replicate is turned over the estimate by orthogonal
Procrustes on the personas. Its mean shift is the bias of the estimate, which is taken off (Efron and Tibshirani 1993,
chapter 10): noise drives the personas apart, and more so the fewer the questions. Its covariance gives the ellipse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.evaluation.positioning import ideal_points, pca
from fairpp_hf.evaluation.positioning.counts import Template, cluster_counts, resampled_counts, templates_of
from fairpp_hf.evaluation.positioning.words import axis_in_words, turned
from fairpp_hf.statistics.bootstrap import Interval
from fairpp_hf.statistics.options import js_distances

_Floats = NDArray[np.float64]

METHODS = ("pca", "ideal_point")
MIN_PERSONAS = 3
"""Two span a line, and no plane."""
MIN_CLUSTERS = 10
"""(problem, group) pairs to draw from; a bootstrap over fewer has next to nothing to vary."""
MIN_DECIDED = 10
"""Answers A or B for an ideal point."""
FEW_QUESTIONS = 200
"""Under it, regions are not what they say: benchmarks/position_coverage.py."""
RESAMPLES = 200

TEMPLATES: pca.Divisions = ((("topic", "dimension", "form"), 10), (("dimension", "form"), 0))
"""What has parameters of its own in the ideal-point fit, and how many answers A or B each persona must have there."""

_CHI_SQUARE_95 = 5.991464547107979
"""95% point of chi-square with 2 degrees of freedom."""
_NORMAL_95 = 1.959963984540054

Kind = Literal["persona", "majority", "baseline", "model"]


class Respondent(NamedTuple):
    """Whoever has answered the questions."""

    name: str
    kind: Kind
    probabilities: _Floats
    """(n, 3), over A, B, C; one-hot for answers, a row of NaN where there is none."""
    region: str | None = None
    before: str | None = None
    """Name of the respondent that an arrow to this one starts from."""


class Place(NamedTuple):
    """A point of a map."""

    xy: _Floats
    """(2,), without the bootstrap's bias."""
    covariance: _Floats
    """(2, 2)."""
    nearest: str
    """The persona whose point is nearest; of a persona, the nearest other."""
    nearest_share: float
    """Share of the replicates in which it is."""

    def ellipse(self, points: int = 60) -> _Floats:
        """Outline of the region that holds the true point in 95% of samples, (points, 2)."""
        angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
        values, vectors = np.linalg.eigh(self.covariance)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.sqrt(_CHI_SQUARE_95 * np.maximum(values, 0))
        return self.xy + circle @ vectors.T

    def intervals(self) -> tuple[Interval, Interval]:
        """95% interval of each coordinate alone."""
        half = _NORMAL_95 * np.sqrt(np.diag(self.covariance))
        low, high = (self.xy - half).tolist(), (self.xy + half).tolist()
        return Interval(low[0], high[0]), Interval(low[1], high[1])


class Point(NamedTuple):
    """A respondent on the maps."""

    name: str
    kind: Kind
    region: str | None
    before: str | None
    answered: int
    """Questions with an answer."""
    abstention: float | None
    """Share of C among the answers; None without any."""
    nearest_by_js: str | None
    """The persona (of a persona, another) with the smallest Jensen-Shannon distance of the shares of A, B and C."""
    js_distance: float | None
    """To it, natural logarithm."""
    places: dict[str, Place | None]
    """Method of `METHODS` to the place; None where there were too few answers, or too few of A and B, to say."""
    on_map: float | None
    """Share of the squared distance from the personas' mean that the plane of principal components shows, 0 to 1."""


class Axes(NamedTuple):
    """What the two axes of a map are made of."""

    by: tuple[str, ...]
    """Fields of `Template` that cells, or templates, are divided by."""
    cells: int
    """Number of cells or templates."""
    shares: tuple[float, float]
    """Of the personas' sample variance: by principal component, or of ideal points by axis."""
    words: tuple[str, str]
    """A sentence on each axis."""


@dataclass(frozen=True)
class Positions:
    """Everything on the maps."""

    points: tuple[Point, ...]
    questions: int
    division: str
    """Where the questions come from, such as `"test split"`."""
    reference: str
    """Whose answers the personas' are, such as `"survey:britains_choice_2020 (simulated)"`."""
    axes: dict[str, Axes]
    """Method of `METHODS` to its axes."""


def check_anchors(answers: Mapping[str, NDArray[np.integer]], questions: pa.Table) -> None:
    """Check, before anything is scored, that the personas' answers span a map.

    Args:
        answers: Persona id to answers, (n,), 0..2 or -1 for none.
        questions: The n questions.

    Raises:
        ValueError: There are too few personas or clusters of questions, a persona has chosen A or B too rarely, or all
            personas answer alike.
    """

    def kinds(*columns: str) -> int:
        return len(set(zip(*(questions[name].to_pylist() for name in columns), strict=True)))

    chosen = {persona: int(np.isin(column, (0, 1)).sum()) for persona, column in answers.items()}
    fewest = min(chosen, key=lambda persona: chosen[persona], default="")
    clusters, columns = kinds("problem", "group"), list(answers.values())
    if len(answers) < MIN_PERSONAS:
        message = (
            f"A map must have at least {MIN_PERSONAS} personas as anchors; got {len(answers)} ({', '.join(answers)}). Two "
            "span a line. Use a larger set of personas."
        )
    elif clusters < MIN_CLUSTERS:
        message = (
            f"The questions must be on at least {MIN_CLUSTERS} (problem, group) pairs; got {clusters}. The uncertainty of a "
            "place is measured over them. Ask more questions."
        )
    elif kinds("dimension", "form") < 2:
        message = (
            "The questions must be of at least 2 dimensions or forms; got one of each. One kind of question spans no "
            "plane. Ask more questions."
        )
    elif chosen[fewest] < MIN_DECIDED:
        message = (
            f"Each persona must have chosen A or B for at least {MIN_DECIDED} of the questions; got {chosen[fewest]} at "
            f"{fewest!r}. Ask more questions, or complete its answers."
        )
    elif all(np.array_equal(column, columns[0]) for column in columns):
        message = (
            f"The personas must differ in their answers; got the same from all {len(answers)}. Nothing can be told apart "
            "by them. Use other answers."
        )
    else:
        return
    raise ValueError(message)


def position_respondents(
    respondents: Sequence[Respondent],
    questions: pa.Table,
    *,
    reference: str,
    division: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Positions:
    """Place respondents among the personas, by principal components and by ideal points.

    Args:
        respondents: Personas (at least 3, see `check_anchors`), and any others; names are unique.
        questions: Table of n rows with `topic`, `problem`, `group`, `dimension`, `pole_a`, `pole_b` and `form`.
        reference: Name of the respondent behind the personas' answers.
        division: Where the questions come from.
        resamples: Number of bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        Points in the order of `respondents`. Principal components go by cells of questions that are as fine as the
        personas' answers allow (`pca.DIVISIONS`); a model with fewer than 40 answers in one of them has no place there. One
        with fewer than 10 answers A or B has no ideal point.
    """
    templates, template = templates_of(questions)
    clustered = cluster_counts(np.stack([item.probabilities for item in respondents]), questions, template)
    totals = clustered.sum(axis=0)
    replicates = resampled_counts(clustered, resamples, seed)
    answered, decided = totals.sum(axis=(1, 2)), totals[..., :2].sum(axis=(1, 2))
    is_persona = np.array([item.kind == "persona" for item in respondents])
    cells = pca.choose_cells(templates, totals[is_persona], pca.DIVISIONS)
    frames = {
        "pca": _Frame.of(is_persona, cells.fewest(totals) >= pca.MIN_ANSWERS),
        "ideal_point": _Frame.of(is_persona, decided >= MIN_DECIDED - 1e-9),
    }
    poles = _poles(questions)
    names = [item.name for item in respondents]

    maps: dict[str, _Map] = {}
    frame = frames["pca"]
    maps["pca"] = components = _principal_components(totals[frame.rows], replicates[:, frame.rows], frame, cells, poles)
    frame = frames["ideal_point"]
    maps["ideal_point"] = _ideal_points(
        totals[frame.rows, :, :2], replicates[:, frame.rows, :, :2], frame, templates, poles, components.estimate
    )
    places = {method: _places(maps[method], frames[method], names) for method in METHODS}
    on_map = dict(zip(frames["pca"].rows.tolist(), components.on_map, strict=True))
    nearest = _nearest_by_shares(totals.sum(axis=1), is_persona)
    of_c = totals[..., 2].sum(axis=1)
    positioned = tuple(
        Point(
            *(item.name, item.kind, item.region, item.before),
            answered=round(float(answered[row])),
            abstention=float(of_c[row] / answered[row]) if answered[row] else None,
            nearest_by_js=names[nearest[row][0]] if answered[row] else None,
            js_distance=nearest[row][1] if answered[row] else None,
            places={method: places[method].get(row) for method in METHODS},
            on_map=on_map.get(row),
        )
        for row, item in enumerate(respondents)
    )
    return Positions(
        positioned,
        questions=len(questions),
        division=division,
        reference=reference,
        axes={method: maps[method].axes for method in METHODS},
    )


class _Frame(NamedTuple):
    """Who is on a map: the personas first."""

    rows: NDArray[np.int64]
    """Of the respondents, (m,)."""
    personas: int
    """How many of them are personas."""

    @classmethod
    def of(cls, is_persona: NDArray[np.bool_], placed: NDArray[np.bool_]) -> "_Frame":
        anchors = np.flatnonzero(is_persona)
        return cls(np.concatenate([anchors, np.flatnonzero(~is_persona & placed)]), len(anchors))


class _Map(NamedTuple):
    """Points of the estimate, (m, 2), and of each replicate, turned over it, (b, m, 2)."""

    estimate: _Floats
    replicates: _Floats
    axes: Axes
    on_map: Sequence[float] = ()


def _principal_components(
    totals: _Floats,
    replicates: _Floats,
    frame: _Frame,
    cells: pca.Cells,
    poles: Mapping[int, tuple[str, str]],
) -> _Map:
    features = pca.features_of(cells.counts(totals[None]))
    plane = pca.fit_plane(features[:, : frame.personas])
    loadings = plane.axes[0].reshape(2, -1, 3)
    signs = turned(loadings[..., 0] - loadings[..., 1], cells)
    estimate = plane.coordinates(features)[0] * signs
    again = pca.features_of(cells.counts(replicates))
    moved = pca.fit_plane(again[:, : frame.personas]).coordinates(again)
    squares = ((features[0] - plane.centre[0]) ** 2).sum(axis=1)
    return _Map(
        estimate,
        pca.aligned(moved, moved[:, : frame.personas], estimate[: frame.personas]),
        Axes(
            *(cells.by, len(cells.labels), tuple(plane.explained[0].tolist())),
            axis_in_words(loadings * signs[:, None, None], cells, poles),
        ),
        [float(share) for share in np.minimum((estimate**2).sum(axis=1) / np.maximum(squares, 1e-12), 1.0)],
    )


def _ideal_points(
    totals: _Floats,
    replicates: _Floats,
    frame: _Frame,
    templates: Sequence[Template],
    poles: Mapping[int, tuple[str, str]],
    beside: _Floats,
) -> _Map:
    """Axes point as on the other map, `beside`, whose first points are the same personas."""
    cells = pca.choose_cells(templates, totals[: frame.personas], TEMPLATES)
    totals, replicates = cells.counts(totals), cells.counts(replicates)
    fit = ideal_points.fit_spatial_model(totals[: frame.personas])
    estimate, slopes = _in_fits([fit], totals[None], frame)
    leaning = slopes[0].T
    alike = (estimate[0, : frame.personas] * beside[: frame.personas]).sum(axis=0)
    signs = np.where(alike < 0, -1.0, 1.0)
    points = estimate[0] * signs
    # A hundredth of a standard deviation does not show in a covariance, and takes as long again.
    fits = [ideal_points.fit_spatial_model(counts[: frame.personas], fit, tolerance=1e-8) for counts in replicates]
    moved, _ = _in_fits(fits, replicates, frame)
    variance = (points[: frame.personas] ** 2).sum(axis=0)
    # The log-odds of A against B are all that there is: what A gains, B loses.
    loadings = (leaning * signs[:, None])[..., None] * np.array([0.5, -0.5, 0.0])
    shares = tuple((variance / variance.sum()).tolist())
    return _Map(
        points,
        pca.aligned(moved, moved[:, : frame.personas], points[: frame.personas]),
        Axes(cells.by, len(cells.labels), shares, axis_in_words(loadings, cells, poles)),
    )


def _in_fits(fits: Sequence[ideal_points.SpatialModel], counts: _Floats, frame: _Frame) -> tuple[_Floats, _Floats]:
    """Points of all respondents in b fits, (b, m, 2), and the templates' slopes there, (b, t, 2)."""
    slopes = np.stack([fit.slopes for fit in fits])
    theta = ideal_points.place(slopes, np.stack([fit.intercepts for fit in fits]), counts)
    return ideal_points.coordinates(theta, slopes, frame.personas)


def _places(found: _Map, frame: _Frame, names: Sequence[str]) -> dict[int, Place]:
    """Row of each respondent on a map to its place."""
    bias = found.replicates.mean(axis=0) - found.estimate
    points = found.estimate - bias
    # The replicates scatter about the estimate as that does about the truth; the bias is taken off them as well.
    cloud = found.replicates - 2 * bias
    away = found.replicates - found.replicates.mean(axis=0)
    covariance = np.einsum("bmi,bmj->mij", away, away) / (len(away) - 1)
    own = np.arange(len(points))[:, None] == np.arange(frame.personas)
    nearest = _distances(points[None], frame.personas, own)[0].argmin(axis=1)
    again = _distances(cloud, frame.personas, own).argmin(axis=2)
    return {
        row: Place(
            points[place],
            covariance[place],
            names[frame.rows[nearest[place]]],
            float((again[:, place] == nearest[place]).mean()),
        )
        for place, row in enumerate(frame.rows.tolist())
    }


def _distances(points: _Floats, personas: int, own: NDArray[np.bool_]) -> _Floats:
    """Of m points from the personas among them, (b, m, p); infinite from itself."""
    away = np.linalg.norm(points[:, :, None] - points[:, None, :personas], axis=-1)
    return np.where(own, np.inf, away)


def _nearest_by_shares(counts: _Floats, is_persona: NDArray[np.bool_]) -> list[tuple[int, float]]:
    """Row of the nearest (other) persona by Jensen-Shannon distance of marginal shares, and the distance; counts (r, 3)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    personas = np.flatnonzero(is_persona)
    distances = js_distances(shares[:, None], shares[None, personas])
    distances[personas, np.arange(len(personas))] = np.inf
    nearest = distances.argmin(axis=1)
    return [(int(personas[near]), float(distances[row, near])) for row, near in enumerate(nearest)]


def _poles(questions: pa.Table) -> dict[int, tuple[str, str]]:
    """Dimension to the names of its poles."""
    columns = (questions[name].to_pylist() for name in ("dimension", "pole_a", "pole_b"))
    return {dimension: (pole_a, pole_b) for dimension, pole_a, pole_b in zip(*columns, strict=True)}
