"""What training makes small: the distance from the original's outputs, or from labels, in TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lrfdse.model.samples import Place
    from lrfdse.quality.objective import Objective, OutputLoss

Teacher = Literal["outputs", "labels", "both"]
"""What training goes by: the original model's outputs, the labels, or half of each."""

TEACHERS: tuple[Teacher, ...] = ("outputs", "labels", "both")

_TINY = 1e-12
"""The least probability that has a logarithm of its own, as in `lrfdse.quality.divergence`."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of a batch."""

    objective: Objective
    """The outputs that count and are trained, the judged one first."""
    places: Mapping[str, Place]
    """Output name to where a run has its samples."""
    chances: Mapping[str, bool]
    """Output name to whether it holds probabilities."""
    share: float
    """Part of the loss that is taken from labels, between 0 and 1; they are of the first output."""

    def of(self, tf: Any, outputs: Mapping[str, Any], reference: Mapping[str, Any], labels: Any, count: int) -> Any:
        """Return the loss of a batch, the mean over its samples.

        It is that of `lrfdse.quality.objective`, positions summed: the Kullback-Leibler divergence from the original's
        class probabilities in nats, or half the squared difference. With labels their cross-entropy, or half the
        squared difference from targets, takes its part of the first output's.

        Parameters
        ----------
        tf
            The module `tensorflow`.
        outputs
            Output name to a run's value.
        reference
            Output name to the original's, samples first.
        labels
            Class numbers or targets, samples first; None without.
        count
            Samples of the batch.
        """
        total: Any = 0.0
        for place, part in enumerate(self.objective):
            scores = self._scores(tf, part, self._split(tf, part.output, outputs[part.output], count), count)
            wanted = self._scores(tf, part, reference[part.output], count)
            share = self.share if place == 0 else 0.0
            if share < 1.0:
                total += (1.0 - share) * part.scale * _distance(tf, part, scores, wanted)
            if share > 0.0:
                total += share * part.scale * _from_labels(tf, part, scores, labels)
        return total / count

    def _split(self, tf: Any, name: str, value: Any, count: int) -> Any:
        """Return an output with samples first, as `Place.split` does."""
        place = self.places[name]
        if place.axis is None:
            return tf.broadcast_to(value, [count, *value.shape])
        sizes = [int(size) for size in value.shape]
        axis = place.axis
        parts = tf.reshape(value, [*sizes[:axis], count, place.each, *sizes[axis + 1 :]])
        order = [axis, *range(axis), *range(axis + 1, len(sizes) + 1)]
        moved = tf.transpose(parts, order)
        return tf.squeeze(moved, axis + 1) if place.each == 1 else moved

    def _scores(self, tf: Any, part: OutputLoss, array: Any, count: int) -> Any:
        """Return an output as scores of shape (samples, positions, classes); probabilities become their logarithms."""
        classes = int(array.shape[-1]) if len(array.shape) > 1 else 1
        scores = tf.reshape(array, [count, -1, classes])
        return tf.math.log(tf.maximum(scores, _TINY)) if self.chances[part.output] else scores


def _distance(tf: Any, part: OutputLoss, scores: Any, wanted: Any) -> Any:
    if part.loss == "squared":
        return 0.5 * tf.reduce_sum(tf.square(scores - wanted))
    log, target = tf.nn.log_softmax(scores), tf.nn.log_softmax(wanted)
    return tf.reduce_sum(tf.exp(target) * (target - log))


def _from_labels(tf: Any, part: OutputLoss, scores: Any, labels: Any) -> Any:
    if part.loss == "squared":
        return 0.5 * tf.reduce_sum(tf.square(scores - tf.reshape(tf.cast(labels, scores.dtype), scores.shape)))
    classes = tf.reshape(labels, scores.shape[:-1])
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(classes, scores))
