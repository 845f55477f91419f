"""Formats that a network is exported to: each written here, and read back by its own runtime.

Whatever the format, a network takes pictures of any number, height and width, uint8 (batch, height,
width, 3), and gives `classes`, uint8 (batch, height, width), and `probabilities`, float32 (batch,
height, width, classes). The preprocessing is inside.
"""

import json
import warnings
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from keras import KerasTensor, layers, ops
from onnx import numpy_helper
from tf2onnx.optimizer import back_to_back_optimizer

from stages.shared.networks import backbones, backend, heads
from stages.shared.networks.backbones import BackboneConfig
from stages.shared.networks.families import table
from stages.shared.networks.heads import HeadConfig

Maps = dict[str, np.ndarray]
Runtime = Callable[[np.ndarray], Maps]
# Of pictures, class maps and probabilities, those of any size.
AXES = ("batch", "height", "width")
# Share of the published channels that `thin` has: few, but more than one anywhere.
THIN_WIDTH = 1 / 16


class Format(NamedTuple):
    """A format of exported networks.

    Attributes:
        path: of the file or folder, relative to the export's folder.
        write: writes a network there; takes `exportable`'s model, `thin`'s, and the classes' names.
        read: loads it in its own runtime; what it returns segments pictures.
        use: Python that does the same, for the model card: from `pictures` to `classes`.
    """

    path: str
    write: Callable[[keras.Model, keras.Model, list[str], Path], None]
    read: Callable[[Path], Runtime]
    use: str


class ClassMaps(layers.Layer):
    """Logits to class maps and probabilities, see the module."""

    def call(self, logits: KerasTensor) -> dict[str, KerasTensor]:
        # Keras's own argmax sorts out signed zeros in bits, which ONNX has no operation for.
        classes = tf.argmax(logits, axis=-1, output_type="int32")
        return {"classes": ops.cast(classes, "uint8"), "probabilities": ops.softmax(logits)}

    def compute_output_spec(self, logits: KerasTensor) -> dict[str, KerasTensor]:
        return {
            "classes": KerasTensor(logits.shape[:-1], "uint8"),
            "probabilities": KerasTensor(logits.shape, "float32"),
        }


def exportable(network: keras.Model) -> keras.Model:
    """A network of `heads.network`, with the inputs and outputs of an exported one."""
    pictures = keras.Input((None, None, 3), dtype="uint8", name="pictures")
    return keras.Model(
        pictures, ClassMaps(name="class_maps")(network(pictures)), name="segmentation"
    )


def thin(model: keras.Model, backbone: BackboneConfig, head: HeadConfig) -> keras.Model:
    """The same layers with few channels and random weights, no two of which are equal.

    The model itself, if its network can't be narrowed.
    """
    if not table.network(backbone.network, backbone.preset).narrows:
        return model
    taps = backbones.build(backbone.network, THIN_WIDTH, backbone.strides)
    channels = {tap: taps.output[tap].shape[-1] for tap in head.channels}
    narrow = exportable(
        heads.network(taps, heads.build(head.model_copy(update={"channels": channels})))
    )
    random = np.random.default_rng(0)
    narrow.set_weights([random.normal(size=w.shape) for w in narrow.get_weights()])
    return narrow


def write_saved_model(
    model: keras.Model, thin: keras.Model, classes: list[str], folder: Path
) -> None:
    """Write TensorFlow's SavedModel, with the signature `serving_default`.

    Keras's `model.export` would write every weight twice, in an order that changes.
    """
    module = tf.Module()
    module.serve = tf.function(
        lambda pictures: model(pictures, training=False),
        autograph=False,
        input_signature=[tf.TensorSpec((None, None, None, 3), "uint8", name="pictures")],
    )
    module.weights = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    # It holds nothing but checksums and a random number.
    (folder / "fingerprint.pb").unlink()


def read_saved_model(folder: Path) -> Runtime:
    """Load a SavedModel with TensorFlow alone."""
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]

    def run(pictures: np.ndarray) -> Maps:
        return {key: maps.numpy() for key, maps in serve(pictures=tf.constant(pictures)).items()}

    return run


def write_onnx(model: keras.Model, thin: keras.Model, classes: list[str], file: Path) -> None:
    """Write ONNX: Keras exports the thin network, whose weights are then replaced, if there is one.

    The graph is the same for any number of channels, but its conversion copies the weights at every
    step: for all of VGG19 that takes 22 GB and three minutes. Other networks are not narrowed; but
    for convnext_large and convnext_xlarge they have far fewer weights. The file's metadata has the
    names of the classes, as JSON.
    """
    # It orders nodes by their addresses, so the result would change from run to run.
    tf2onnx.graph.Node.__hash__ = lambda node: hash(node.name)
    # Of two reshapes it keeps the second, whose 0 then stands for a side of another shape.
    back_to_back_optimizer._func_map.pop(("Reshape",), None)
    thin(np.zeros((1, 32, 32, 3), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        thin.export(str(file), format="onnx", verbose=False)
    converted = onnx.load(str(file))
    if thin is not model:
        replace_weights(converted.graph, thin.get_weights(), model.get_weights())
    # The sizes of intermediate results, which no longer hold.
    del converted.graph.value_info[:]
    for value in (*converted.graph.input, *converted.graph.output):
        for axis, size in zip(AXES, value.type.tensor_type.shape.dim, strict=False):
            size.dim_param = axis
    onnx.helper.set_model_props(converted, {"classes": json.dumps(classes, ensure_ascii=False)})
    onnx.save(converted, str(file))


def replace_weights(
    graph: onnx.GraphProto, weights: list[np.ndarray], replacements: list[np.ndarray]
) -> None:
    """Replace weights in an ONNX graph, which are found by their values.

    Args:
        graph: is changed.
        weights: that it was converted from, none with an axis of 1 that its replacement has not.
        replacements: of the weights, in their order; other numbers of channels.

    Raises:
        ValueError: a weight is not in the graph.
    """
    stored = [
        (initializer, numpy_helper.to_array(initializer)) for initializer in graph.initializer
    ]
    for weight, replacement in zip(weights, replacements, strict=True):
        for entry, values in stored:
            if (axes := _transposition(weight, values)) is not None:
                sizes = iter(np.squeeze(replacement).transpose(axes).shape)
                shape = [1 if size == 1 else next(sizes) for size in values.shape]
                moved = np.squeeze(replacement).transpose(axes).reshape(shape)
                entry.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(moved), entry.name))
                break
        else:
            raise ValueError(f"the ONNX graph holds no weight of shape {weight.shape}")


def _transposition(weight: np.ndarray, values: np.ndarray) -> tuple[int, ...] | None:
    """The order of a weight's axes, without those of size 1, in which it is `values`, if any."""
    weight, values = np.squeeze(weight), np.squeeze(values)
    if values.dtype == weight.dtype and values.size == weight.size:
        for axes in permutations(range(weight.ndim)):
            if np.array_equal(weight.transpose(axes), values):
                return axes
    return None


def read_onnx(file: Path) -> Runtime:
    """Load an ONNX file with onnxruntime."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(pictures: np.ndarray) -> Maps:
        return dict(zip(names, session.run(names, {"pictures": pictures}), strict=True))

    return run


def write_litert(model: keras.Model, thin: keras.Model, classes: list[str], file: Path) -> None:
    """Write LiteRT's file format, with the signature `serving_default`."""
    model.export(str(file), format="litert", verbose=False)


def read_litert(file: Path) -> Runtime:
    """Load a LiteRT file with the interpreter that TensorFlow brings."""
    with warnings.catch_warnings():
        # It says that it will move to a package of its own.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(file))

    def run(pictures: np.ndarray) -> Maps:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], pictures.shape)
        with backend.quiet():
            interpreter.allocate_tensors()
            return interpreter.get_signature_runner("serving_default")(pictures=pictures)

    return run


FORMATS = {
    "saved_model": Format(
        "saved_model",
        write_saved_model,
        read_saved_model,
        """import tensorflow as tf

serve = tf.saved_model.load("saved_model").signatures["serving_default"]
classes = serve(pictures=tf.constant(pictures))["classes"]""",
    ),
    "onnx": Format(
        "model.onnx",
        write_onnx,
        read_onnx,
        """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(classes,) = session.run(["classes"], {"pictures": pictures})""",
    ),
    "litert": Format(
        "model.tflite",
        write_litert,
        read_litert,
        """import tensorflow as tf

interpreter = tf.lite.Interpreter("model.tflite")  # or ai_edge_litert.interpreter.Interpreter
index = interpreter.get_input_details()[0]["index"]
interpreter.resize_tensor_input(index, pictures.shape)
interpreter.allocate_tensors()
classes = interpreter.get_signature_runner("serving_default")(pictures=pictures)["classes"]""",
    ),
}
