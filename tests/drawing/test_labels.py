import numpy as np

from fairpp_hf.drawing.labels import free_places


def test_labels_of_crowded_points_cover_nothing_and_stay_inside() -> None:
    """Twelve points within 40 pixels, labels of 90 by 12 in a frame of 600 by 600."""
    points = 300 + np.random.default_rng(0).uniform(-20, 20, (12, 2))
    frame = np.array([0.0, 0.0, 600.0, 600.0])
    boxes, is_far = free_places(points, np.tile([90.0, 12.0], (12, 1)), frame, np.empty((0, 2)))
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        for a0, b0, a1, b1 in boxes[:number]:
            assert min(x1, a1) <= max(x0, a0) or min(y1, b1) <= max(y0, b0)
        assert not ((points > [x0, y0]) & (points < [x1, y1])).all(axis=1).any()
    assert (boxes >= 0).all()
    assert (boxes <= 600).all()
    assert is_far.any()


def test_a_lonely_point_has_its_label_at_its_right() -> None:
    boxes, is_far = free_places(
        np.array([[50.0, 50.0]]), np.array([[40.0, 10.0]]), np.array([0.0, 0.0, 200.0, 100.0]), np.empty((0, 2))
    )
    assert boxes[0, 0] > 50
    assert boxes[0, [1, 3]].mean() == 50
    assert not is_far[0]
