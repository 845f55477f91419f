"""Presets of KerasHub with small random networks."""

from pathlib import Path

import keras
import keras_hub

# What the pictures of a preset are divided by, and what is taken away, as its converter says it.
SCALE, OFFSET = [0.017, 0.0175, 0.0174], [-2.1, -2.0, -1.8]
SIDE = 64
# Of DINOv2's tokens: 14 pixels each, and as many for a window of 64 as for one of 56.
PATCH, DINOV2_SIDE = 14, 56


def resnet() -> keras.Model:
    """Of any picture; its first convolutions have to have 64 channels."""
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64] * 4,
        stackwise_num_blocks=[1] * 4,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )


def mit() -> keras.Model:
    """Of squares of one size; its windows need not be those of its preset."""
    return keras_hub.models.MiTBackbone(
        layerwise_depths=[1] * 4,
        num_layers=4,
        layerwise_num_heads=[1, 1, 2, 2],
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
        image_shape=(96, 96, 3),
        hidden_dims=[4, 8, 16, 16],
    )


def dinov2() -> keras.Model:
    """Of squares of one size, by tokens; with places of another size than its windows."""
    return keras_hub.models.DINOV2Backbone(
        patch_size=PATCH,
        num_layers=8,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        num_register_tokens=2,
        image_shape=(70, 70, 3),
        position_embedding_shape=(70, 70, 3),
    )


KINDS = {"resnet": resnet, "mit": mit, "dinov2": dinov2}
CONVERTERS = {
    "resnet": keras_hub.layers.ResNetImageConverter,
    "mit": keras_hub.layers.MiTImageConverter,
    "dinov2": keras_hub.layers.DINOV2ImageConverter,
}


def save(kind: str, folder: Path) -> str:
    """Write the preset; its handle."""
    keras.utils.set_random_seed(1)
    backbone = KINDS[kind]()
    # Statistics of a normalisation that no network begins with.
    keras.utils.set_random_seed(2)
    for weight in backbone.weights:
        if weight.name in ("moving_mean", "moving_variance", "beta"):
            weight.assign(keras.random.uniform(weight.shape, 0.5, 1.5))
    backbone.save_to_preset(str(folder))
    CONVERTERS[kind](scale=SCALE, offset=OFFSET).save_to_preset(str(folder))
    return str(folder)
