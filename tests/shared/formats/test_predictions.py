"""Predicted masks as they are stored."""

import numpy as np
import pytest
from PIL import Image

from stages.shared.formats import predictions


def test_a_mask_may_be_larger_than_pillow_lets_a_stranger_s_picture_be(
    monkeypatch: pytest.MonkeyPatch,
):
    mask = np.random.default_rng(0).integers(0, 5, (20, 30), np.uint8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(predictions.decode(predictions.encode(mask)), mask)


def test_what_is_no_mask_is_named():
    with pytest.raises(ValueError, match="not a PNG"):
        predictions.decode(b"no mask")
