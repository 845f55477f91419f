"""A head on stored activations (see `formats.features`)."""

import keras
from keras import KerasTensor, layers, ops

from stages.shared.networks.vgg import Shape


class Decode(layers.Layer):
    """Activations, float32 (batch, height, width, channels), from steps and the size of a step."""

    def call(self, values: KerasTensor, steps: KerasTensor) -> KerasTensor:
        return ops.cast(values, "float32") * ops.expand_dims(ops.expand_dims(steps, 1), 1)

    def compute_output_shape(self, values_shape: Shape, steps_shape: Shape) -> Shape:
        return values_shape


def on_stored(head: keras.Model) -> keras.Model:
    """The same head, with the same weights, on what `FeatureReader.take` returns."""
    inputs: dict[str, KerasTensor] = {}
    taps: dict[str, KerasTensor] = {}
    for tap, activations in head.input.items():
        values = keras.Input(activations.shape[1:], dtype="uint8", name=tap)
        steps = keras.Input(activations.shape[-1:], name=f"{tap}_step")
        inputs |= {tap: values, f"{tap}_step": steps}
        taps[tap] = Decode(name=f"decode_{tap}")(values, steps)
    return keras.Model(inputs, head(taps), name=f"stored_{head.name}")
