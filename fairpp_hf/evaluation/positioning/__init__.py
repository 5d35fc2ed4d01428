"""Models in the space of the personas: principal components and ideal points, with uncertainty."""

from fairpp_hf.evaluation.positioning.positions import (
    Place,
    Point,
    Positions,
    Respondent,
    check_anchors,
    position_respondents,
)

__all__ = ["Place", "Point", "Positions", "Respondent", "check_anchors", "position_respondents"]
