"""The FCN paper's four measures, from a confusion matrix (Long, Shelhamer, Darrell, section 5).

A confusion matrix holds pixels: integer (classes, classes), a row for each class in truth, a column
for each class predicted. A class that does not occur in truth has no score (NaN) and is left out of
the means, so that they are over the same classes whatever is predicted: where it is predicted, it
costs the classes whose pixels those are.
"""

from typing import NamedTuple

import numpy as np

from stages.shared.records.ignore_label import IGNORED


class Scores(NamedTuple):
    """All from 0 to 1.

    Attributes:
        pixel_accuracy: sum_i n_ii / sum_i t_i.
        mean_accuracy: mean over classes of n_ii / t_i.
        mean_iou: mean over classes of n_ii / (t_i + sum_j n_ji - n_ii).
        frequency_weighted_iou: the same, weighted by t_i.
        iou: of each class, (classes,).
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iou: float
    frequency_weighted_iou: float
    iou: np.ndarray


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by true and predicted class.

    Args:
        truth: integer, 0 to classes - 1, or `IGNORED` for a pixel that does not count.
        predicted: integer, of the same shape, 0 to classes - 1.
        classes: their number.
    """
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def score(confusion: np.ndarray) -> Scores:
    """Score a confusion matrix that holds at least one pixel."""
    hits = np.diag(confusion).astype(np.float64)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        accuracy = hits / truth
        iou = np.where(truth > 0, hits / (truth + predicted - hits), np.nan)
    return Scores(
        pixel_accuracy=float(hits.sum() / confusion.sum()),
        mean_accuracy=float(np.nanmean(accuracy)),
        mean_iou=float(np.nanmean(iou)),
        frequency_weighted_iou=float(np.nansum(truth * iou) / truth.sum()),
        iou=iou,
    )
