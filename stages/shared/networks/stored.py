"""A head on stored activations (see `formats.features`)."""

import keras
from keras import KerasTensor, layers, ops

from stages.shared.networks.families.preprocessing import Shape


class Decode(layers.Layer):
    """Activations, float32 (batch, height, width, channels), from steps and what a step means:
    (batch, 2, channels), the lowest activation and the size of a step."""

    def call(self, values: KerasTensor, scale: KerasTensor) -> KerasTensor:
        lowest, step = scale[:, 0, None, None], scale[:, 1, None, None]
        return ops.cast(values, "float32") * step + lowest

    def compute_output_shape(self, values_shape: Shape, scale_shape: Shape) -> Shape:
        return values_shape


def on_stored(head: keras.Model) -> keras.Model:
    """The same head, with the same weights, on what `FeatureReader.take` returns."""
    inputs: dict[str, KerasTensor] = {}
    taps: dict[str, KerasTensor] = {}
    for tap, activations in head.input.items():
        values = keras.Input(activations.shape[1:], dtype="uint8", name=tap)
        scale = keras.Input((2, activations.shape[-1]), name=f"{tap}_scale")
        inputs |= {tap: values, f"{tap}_scale": scale}
        taps[tap] = Decode(name=f"decode_{tap}")(values, scale)
    return keras.Model(inputs, head(taps), name=f"stored_{head.name}")
