"""Several batches in one computation, under JAX.

A step of a head takes an H200 0.2 to 0.5 ms, and Keras's Python between two of them more than 1 ms.
"""

from collections.abc import Callable
from typing import Any

import keras

from stages.train.supplied import Supplied

# `train_step` or `test_step` of Keras on JAX: of a state and a batch, to measures and a state.
Step = Callable[[Any, Any], tuple[dict[str, Any], Any]]


class Looped(Supplied):
    """A network that takes several batches at a time, see `Batches.at_once`, and their steps one
    after the other."""

    def train_step(self, state: Any, batches: Any) -> tuple[dict[str, Any], Any]:
        """The measures after the last batch, and the state."""
        return looped(super().train_step, state, batches)

    def test_step(self, state: Any, batches: Any) -> tuple[dict[str, Any], Any]:
        """The measures after the last batch, and the state."""
        return looped(super().test_step, state, batches)


def looped(step: Step, state: Any, batches: Any) -> tuple[dict[str, Any], Any]:
    """What a step leads to that is taken for each of some batches.

    Args:
        step: of one batch.
        state: that it starts from.
        batches: `indices`, (most, batch), and how many of the most are meant, `batches`.
    """
    import jax

    indices = batches[0]["indices"]
    # Traced once, for its shapes and for the loop.
    step = jax.jit(step)

    def batch(number: Any) -> tuple[dict[str, Any]]:
        return ({"indices": indices[number]},)

    def body(number: Any, before: Any) -> Any:
        return step(before[1], batch(number))

    none = keras.tree.map_structure(
        lambda measure: jax.numpy.zeros(measure.shape, measure.dtype),
        jax.eval_shape(step, state, batch(0))[0],
    )
    return jax.lax.fori_loop(0, batches[0]["batches"], body, (none, state))
