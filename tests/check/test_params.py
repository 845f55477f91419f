"""params.yaml: what is accepted, and what a user is told otherwise."""

from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from stages.check.schema import Params, read_all
from stages.prepare.settings import AnySource
from stages.shared.results.variants import seconds_of, variant_names
from stages.shared.runtime.errors import UserError
from stages.shared.settings.mistakes import validate
from stages.shared.settings.reading import load, read
from stages.shared.settings.section import Section
from stages.train.settings import Train, Variant
from tests.conftest import ROOT, Project

DEMO = (ROOT / "profiles/demo.yaml").read_text()

# What is wrong: an edit of the demo's profile, and what the message must name.
MISTAKES = {
    "a key twice": (
        "epochs: 12",
        "epochs: 12\n  batch_size: 2",
        ["line 30 has the key batch_size again, after line 29; remove one of them"],
    ),
    "a variant twice": (
        "  fcn16s: {",
        "  fcn32s: {",
        ["has the key fcn32s again, after line"],
    ),
    "a key twice in a line": (
        "fcn16s: {backbone: vgg19, train: head, ",
        "fcn16s: {backbone: vgg19, train: head, stride: 8, ",
        ["has the key stride again, after line"],
    ),
    "misspelt section": ("train:\n  epochs", "trian:\n  epochs", ["trian", "did you mean train?"]),
    "misspelt key": ("epochs:", "epoch:", ["train.epoch ", "did you mean epochs?"]),
    "misspelt key of a variant": ("stride: 16", "strid: 16", ["variants.fcn16s.strid", "stride?"]),
    "misspelt split": (
        "    train:",
        "    trains:",
        ["dataset.splits.trains", "did you mean train?"],
    ),
    "unknown key": ("seed:", "colour: 1\nseed:", ["colour is not a key", "known here: seed"]),
    "missing key": ("  opacity: 0.6\n", "", ["compare.opacity is missing"]),
    "wrong type": ("epochs: 12", "epochs: many", ["train.epochs is 'many'", "integer"]),
    "fraction for a count": (
        "pictures: 6",
        "pictures: 6.5",
        ["compare.pictures is 6.5", "integer"],
    ),
    "no epochs": ("epochs: 12", "epochs: 0", ["train.epochs is 0", "greater than or equal to 1"]),
    "zero learning rate": ("rate: 0.01", "rate: 0", ["train.learning_rate is 0", "greater than 0"]),
    "negative learning rate": ("rate: 0.01", "rate: -1", ["train.learning_rate is -1", "than 0"]),
    "infinite learning rate": (
        "rate: 0.01",
        "rate: .inf",
        ["train.learning_rate is inf", "finite"],
    ),
    "learning rate not a number": ("rate: 0.01", "rate: .nan", ["train.learning_rate is nan"]),
    "tiny picture": ("size: 128", "size: 31", ["dataset.image_size: it is 31", "none below 32"]),
    "three sides": ("size: 128", "size: [64, 64, 3]", ["image_size: it is [64, 64, 3]", "height"]),
    "unknown fit": (
        "fit: stretch",
        "fit: squash",
        ["dataset.fit is 'squash'", "'crop' or 'tiles'"],
    ),
    "an overlap without tiles": (
        "fit: stretch",
        "fit: pad\n  overlap: 0.5",
        ["dataset: overlap is for fit: tiles, and fit is pad"],
    ),
    "tiles that hardly move": (
        "fit: stretch",
        "fit: tiles\n  overlap: 0.99",
        ["dataset.overlap is 0.99", "less than or equal to 0.9"],
    ),
    "an export of no variant": (
        "variants: [fcn8s, fcn8s-finetuned]",
        "variants: [fcn4s]",
        ["export.variants names 'fcn4s'", "the variants are fcn32s, fcn16s"],
    ),
    "an export twice": (
        "variants: [fcn8s, fcn8s-finetuned]",
        "variants: [fcn8s, fcn8s]",
        ["export.variants names a variant twice"],
    ),
    "unknown format": ("litert]", "coreml]", ["export.formats.2 is 'coreml'", "'litert'"]),
    "odd stride": ("stride: 16", "stride: 2", ["variants.fcn16s.stride is 2", "4, 8, 16 or 32"]),
    "a stride that the backbone does not store": (
        "stride: 16",
        "stride: 4",
        ["fcn16s.stride is 4, but backbones.vgg19.strides is [8, 16, 32]", "add it there"],
    ),
    "no such backbone": (
        "fcn32s: {backbone: vgg19",
        "fcn32s: {backbone: vgg91",
        ["variants.fcn32s.backbone is 'vgg91'", "use one of vgg19, lite0"],
    ),
    "a variant called as a backbone": (
        "  lite0-fcn8s:",
        "  lite0:",
        ["variants.lite0 has the name of a backbone", "models/lite0/", "rename one"],
    ),
    "a backbone called as a stage's folder": (
        "  lite0: {network",
        "  export: {network",
        ["backbones.export", "taken"],
    ),
    "a parent on another backbone": (
        "parent: fcn16s}",
        "parent: lite0-fcn8s}",
        ["fcn8s.parent is 'lite0-fcn8s'", "nor a variant on it; use one of vgg19, fcn32s, fcn16s"],
    ),
    "unknown network": (
        "network: efficientnet_lite0",
        "network: efficientnet_lite3",
        ["backbones.lite0.network is 'efficientnet_lite3'", "did you mean efficientnet_lite2?"],
    ),
    "a network like none": (
        "network: efficientnet_lite0",
        "network: unet",
        ["backbones.lite0.network is 'unet'", "'efficientnet_lite0'", "or hub: and a preset"],
    ),
    "a preset without a name": (
        "network: efficientnet_lite0",
        'network: "hub:"',
        ["backbones.lite0.network is 'hub:'", "or hub: and a preset of KerasHub"],
    ),
    "ImageNet's weights of a preset": (
        "network: efficientnet_lite0",
        "network: hub:mit_b0_ade20k_512",
        ["backbones.lite0: hub:mit_b0_ade20k_512 needs weights: preset, or random"],
    ),
    "a preset's weights of a network that is none": (
        "weights: imagenet}",
        "weights: preset}",
        ["backbones.lite0: weights: preset needs a preset, network: hub:NAME"],
    ),
    "a window that strides do not divide": (
        "weights: imagenet}",
        "weights: imagenet, window: 100}",
        ["backbones.lite0.window is 100", "multiple of 32"],
    ),
    "a window of a network that needs none": (
        "weights: imagenet}",
        "weights: imagenet, window: 128}",
        ["backbones.lite0: window needs a preset", "efficientnet_lite0 sees a picture whole"],
    ),
    "a narrow network that can't be": (
        "weights: imagenet}",
        "weights: random, width: 0.5}",
        ["backbones.lite0: width 0.5 needs a VGG", "efficientnet_lite0 needs width: 1.0"],
    ),
    "a stride twice": (
        "weights: imagenet}",
        "weights: imagenet, strides: [8, 8]}",
        ["backbones.lite0.strides", "names a stride twice"],
    ),
    "a crop larger than the pictures": (
        "scale: 0.2, colour",
        "scale: 0.2, crop: [96, 160], colour",
        ["fcn8s-finetuned.augmentation.crop is [96, 160]", "pictures are [128, 128]"],
    ),
    "a share of no pixel": (
        "    learning_rate: 1.0e-3\n",
        "    learning_rate: 1.0e-3\n    pixels: 1.0e-6\n",
        [
            "the pixels of variants.fcn8s-finetuned is 1e-06",
            "leaves none of pictures of [128, 128]",
        ],
    ),
    "a share that no rows and columns make": (
        "    learning_rate: 1.0e-3\n",
        "    learning_rate: 1.0e-3\n    pixels: 0.5\n",
        ["fcn8s-finetuned.pixels: it is 0.5; it should be 1, 0.25"],
    ),
    "no such parent": ("parent: fcn16s", "parent: fcn61s", ["fcn8s.parent is 'fcn61s'", "fcn16s"]),
    "parents in a circle": (
        "parent: vgg19",
        "parent: fcn8s",
        ["fcn32s.parent", "fcn32s -> fcn8s -> fcn16s -> fcn32s"],
    ),
    "finer parent": (
        "fcn32s: {backbone: vgg19, train: head, stride: 32",
        "fcn32s: {backbone: vgg19, train: head, stride: 8",
        ["variants.fcn16s.parent is fcn32s", "stride 8 is finer", "16"],
    ),
    "shell in a variant's name": ("fcn8s:", '"x; rm -r ~":', ["x; rm -r ~", "letters, digits"]),
    "a variant called as a stage's folder": ("fcn8s:", "comparison:", ["comparison", "taken"]),
    "a variant called as the seconds' folder": ("fcn8s:", "seconds:", ["seconds", "taken"]),
    "a variant called as what stands beside its mask": ("fcn8s:", "truth:", ["truth", "taken"]),
    "a variant that is no mapping": (
        "fcn8s: {backbone: vgg19, train: head, stride: 8, parent: fcn16s}",
        "fcn8s: 8",
        ["fcn8s is 8"],
    ),
    "no variants": (DEMO[DEMO.index("  fcn32s") : DEMO.index("evaluate:")], "", ["variants"]),
    "a head on a network": (
        "  fcn8s-finetuned:",
        "  late: {backbone: vgg19, train: head, stride: 8, parent: fcn8s-finetuned}\n"
        "  fcn8s-finetuned:",
        ["variants.late.parent is fcn8s-finetuned", "a backbone of its own", "train: network"],
    ),
    "a width of an fcn": (
        "parent: fcn16s}",
        "parent: fcn16s, width: 64}",
        ["variants.fcn8s.width needs decoder: mlp or fpn", "score layers alone"],
    ),
    "another decoder than the parent's": (
        "parent: fcn16s}",
        "parent: fcn16s, decoder: mlp}",
        ["variants.fcn8s.decoder is 'mlp', and that of its parent fcn16s is 'fcn'", "vgg19"],
    ),
    "unknown decoder": (
        "parent: fcn16s}",
        "parent: fcn16s, decoder: unet}",
        ["variants.fcn8s.decoder is 'unet'", "'fcn', 'mlp' or 'fpn'"],
    ),
    "augmentation of a head": (
        "parent: fcn16s}",
        "parent: fcn16s, augmentation: {flip: false}}",
        ["variants.fcn8s.augmentation needs train: network"],
    ),
    "misspelt augmentation": ("flip: true", "flop: true", ["augmentation.flop", "mean flip?"]),
    "nothing of a variant's own": (
        "parent: fcn16s}",
        "parent: fcn16s, epochs: null}",
        ["variants.fcn8s.epochs is None", "integer"],
    ),
    "unknown optimiser": ("adamw #", "adam #", ["train.optimizer is 'adam'", "'adamw' or 'sgd'"]),
    "unknown schedule": ("constant #", "linear #", ["train.schedule is 'linear'", "'cosine'"]),
    "class weights that are none": (
        "class_weights: null",
        "class_weights: [1, 2]",
        ["train.class_weights", "[1, 2]", "balanced, null, or a mapping of class names"],
    ),
    "a class weight of nothing": (
        "class_weights: null",
        "class_weights: {ring: 0}",
        ["train.class_weights", "weights above 0"],
    ),
    "unknown source": (
        "source: demo",
        "source: pets",
        ["dataset.source is 'pets'", "demo, folder or tfds"],
    ),
    "unknown precision": ("precision: auto", "precision: half", ["precision is 'half'", "float32"]),
    "narrow ImageNet": ("weights: random", "weights: imagenet", ["width 0.25", "random", "1.0"]),
    "no YAML": ("seed: 27", "seed: [27", ["not readable as YAML"]),
    "a YAML tag": ("seed: 27", "seed: !!python/name:os.system", ["not readable as YAML"]),
}


FOLDER = (ROOT / "profiles/folder.yaml").read_text()
SPLITS_OF_FOLDER = "by: fraction # of all pictures, drawn with `seed`"
# The same for a data set of one's own.
FOLDER_MISTAKES = {
    "no way to split": (SPLITS_OF_FOLDER, "by: half", ["splits.by is 'half'", "fraction or list"]),
    "more than everything": ("train: 0.7", "train: 0.9", ["splits: train, validation", "to 1.2"]),
    "percents": ("train: 0.7", "train: 70", ["dataset.splits.train: it is 70", "such as 0.7"]),
    "one folder for two splits": (
        FOLDER[FOLDER.index(SPLITS_OF_FOLDER) : FOLDER.index("    # by: folder")],
        "by: folder\n    train: a\n    validation: a\n    test: b\n",
        ["dataset.splits: 'a' stands for two splits"],
    ),
    "a share of everything": (
        FOLDER[FOLDER.index(SPLITS_OF_FOLDER) : FOLDER.index("    # by: folder")],
        "by: list\n    train: a\n    validation: 1.0\n    test: b\n",
        ["dataset.splits.validation: it is 1.0", "above 0 and below 1"],
    ),
    "colours without quotes": (
        "{0: background, 1: object}",
        "\n    #ff0000: object\n    #000000: background",
        ["dataset.classes: it is None", "in quotes"],
    ),
    "colours without quotes in a row": (
        "{0: background, 1: object}",
        "{#ff0000: object, #000000: background}",
        ["not readable as YAML", "a colour needs quotes"],
    ),
    "a label out of range": ("{0: background", "{65536: background", ["classes: it is", "65535"]),
    "a single class": (", 1: object}", "}", ["dataset.classes: it is", "2 to 255 classes"]),
    "colours to ignore among labels": (
        "ignore: [255]",
        "ignore: ['#ffffff']",
        ["ignore holds colours, classes labels"],
    ),
    "a class to ignore": ("ignore: [255]", "ignore: [1]", ["ignore and classes both hold [1]"]),
    "a pattern out of the root": (
        "images/**/*.jpg",
        "../images/*.jpg",
        ["dataset.pictures: it is '../images/*.jpg'", "relative to dataset.root"],
    ),
}


@pytest.mark.parametrize("mistake", FOLDER_MISTAKES)
def test_a_mistake_in_a_folder_s_settings_is_named(mistake: str, tmp_path: Path):
    right, wrong, expected = FOLDER_MISTAKES[mistake]
    assert right in FOLDER
    path = tmp_path / "params.yaml"
    path.write_text(FOLDER.replace(right, wrong, 1))
    with pytest.raises(UserError) as error:
        read_all(path)
    for words in expected:
        assert words in str(error.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_what_would_be_right(mistake: str, tmp_path: Path):
    right, wrong, expected = MISTAKES[mistake]
    assert right in DEMO
    path = tmp_path / "params.yaml"
    path.write_text(DEMO.replace(right, wrong))
    with pytest.raises(UserError) as error:
        read_all(path)
    assert str(error.value).startswith(str(path))
    for words in expected:
        assert words in str(error.value)


FRACTION = {"by": "fraction", "train": 0.7, "validation": 0.15, "test": 0.15}
# Of each source, a section `dataset` without a mistake.
SOURCES = {
    "demo": {"splits": {"train": 9, "validation": 3, "test": 3}},
    "folder": {"pictures": "*.jpg", "masks": "*.png", "splits": FRACTION, "classes": ["a", "b"]},
    "annotations": {"format": "coco", "pictures": "*.jpg", "annotations": "*.json"}
    | {"splits": FRACTION},
    "tfds": {"name": "oxford_iiit_pet", "image": "image", "mask": "mask", "data_dir": None}
    | {"manual_dir": None, "classes": {1: "a", 2: "b"}}
    | {"splits": {"train": "train", "validation": "train", "test": "test"}},
}
# Of a section, what is changed in it, and the beginning of the message.
SLIPS = {
    "a typo": ({"fitt": "pad"}, "dataset.fitt is not a key of the pipeline; did you mean fit?"),
    "a value": ({"overlap": 2, "fit": "tiles"}, "dataset.overlap is 2; it should be less than"),
    "two keys": ({"overlap": 0.5, "fit": "pad"}, "dataset: overlap is for fit: tiles, and fit"),
    "a split": (
        {"splits": FRACTION | {"validaton": 0.1}},
        "dataset.splits.validaton is not a key of the pipeline; did you mean validation?",
    ),
    "shares": (
        {"splits": FRACTION | {"train": 0.9}},
        "dataset.splits: train, validation and test add up to 1.2",
    ),
}


OF_SHARES = ("folder", "annotations")


@pytest.mark.parametrize(
    ("source", "slip"),
    [(o, s) for o in SOURCES for s in SLIPS if o in OF_SHARES or "splits" not in SLIPS[s][0]],
)
def test_a_message_names_the_key_as_it_stands_in_params_yaml(source: str, slip: str):
    common = {"source": source, "root": "data/pictures", "image_size": 224, "shard_size": 4}
    dataset = common | {"bad_pictures": "stop", **SOURCES[source]}
    validate(AnySource, dataset, ("dataset",), Path("params.yaml"))
    change, expected = SLIPS[slip]
    with pytest.raises(UserError) as error:
        validate(AnySource, dataset | change, ("dataset",), Path("params.yaml"))
    assert str(error.value).startswith(f"params.yaml: {expected}")


def test_every_mistake_is_told_at_once(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text(DEMO.replace("epochs: 12", "epochs: 0").replace("size: 128", "size: 1"))
    with pytest.raises(UserError, match=r"(?s)image_size: it is 1;.*epochs is 0;"):
        read_all(path)


def test_a_missing_file_is_named_with_the_way_out(tmp_path: Path):
    with pytest.raises(UserError, match=r"params\.yaml is missing; copy one from profiles/"):
        read_all(tmp_path / "params.yaml")


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").iterdir()), ids=lambda p: p.name)
def test_every_profile_follows_the_schema(profile: Path):
    assert read_all(profile).variants


def test_the_variant_that_is_commented_out_follows_the_schema(tmp_path: Path):
    """`profiles/folder.yaml`: what is uncommented as a whole is a variant more."""
    text = FOLDER.replace("  # mlp-finetuned:", "  mlp-finetuned:").replace("\n  #   ", "\n    ")
    (tmp_path / "params.yaml").write_text(text)
    tuned = read_all(tmp_path / "params.yaml").variants["mlp-finetuned"]
    assert (tuned.train, tuned.parent, tuned.backbone_rate) == ("network", "mlp", 0.2)


def test_weights_that_are_no_file_are_found_before_dvc_deletes_anything(in_project: Project):
    in_project.set_params({"backbones.vgg19.width": 1.0, "backbones.vgg19.weights": "none.h5"})
    told = in_project.stage("check", check=False).stderr
    assert "params.yaml: backbones.vgg19.weights is 'none.h5', which is not a file" in told


def test_the_committed_parameters_are_the_demos():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles/demo.yaml").read_bytes()


def test_the_pets_profile_has_the_notebooks_hyperparameters():
    pets = read_all(ROOT / "profiles/pets.yaml")
    assert (pets.seed, pets.dataset.image_size, pets.precision) == (27, (224, 224), "auto")
    assert pets.dataset.splits.train == "train[:85%]"
    assert pets.dataset.splits.validation == "train[85%:]"
    # What the notebook has not is off.
    assert pets.train == Train(
        epochs=20, batch_size=32, learning_rate=1e-3, weight_decay=1e-4, dropout=0.5, pixels=1.0
    )


def test_a_variant_may_switch_off_what_train_switches_on():
    train = Train(epochs=9, batch_size=8, learning_rate=1, weight_decay=0, dropout=0, patience=3)
    variant = Variant(train="head", backbone="lite0", stride=8, parent="lite0", patience=None)
    assert variant.training(train).patience is None
    assert (
        Variant(train="head", backbone="lite0", stride=8, parent="lite0").training(train).patience
        == 3
    )


def test_a_label_cannot_be_ignored_and_a_class(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "profiles/pets.yaml").read_text().replace("ignore: []", "ignore: [3]"))
    with pytest.raises(UserError, match=r"ignore and classes both hold \[3\]"):
        read_all(path)


def test_mappings_that_are_merged_may_override_each_other(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\n")
    assert load(path)["c"] == {"x": 2, "y": 3}


def test_scientific_notation_is_a_number_as_it_is_for_dvc(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text(DEMO.replace("learning_rate: 0.01", "learning_rate: 3e-4"))
    assert read("train", Train, path).learning_rate == 3e-4


def reversed_mappings(value: Any) -> Any:
    """The same for DVC, which compares mappings without their order."""
    if isinstance(value, dict):
        return {key: reversed_mappings(value[key]) for key in reversed(value)}
    return value


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").iterdir()), ids=lambda p: p.name)
def test_the_order_of_keys_changes_nothing_that_a_stage_reads(profile: Path, tmp_path: Path):
    params = yaml.safe_load(profile.read_text())
    params["train"]["class_weights"] = {"a": 1.0, "b": 2.0}
    found = []
    for number, content in enumerate([params, reversed_mappings(params)]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        whole = read_all(path)
        sections = {key: getattr(whole, key) for key in Params.model_fields if key != "variants"}
        stored = {k: v.model_dump_json() for k, v in sections.items() if isinstance(v, Section)}
        variants = {name: repr(whole.variants[name]) for name in variant_names(path)}
        found.append((stored, list(variants.items())))
    assert found[0] == found[1]


def test_parents_in_a_circle_keep_nobody_waiting_before_check_finds_them(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text("variants: {a: {stride: 8, parent: b}, b: {stride: 8, parent: a}}")
    assert seconds_of("a", path) == (None, None)


def test_no_variant_at_all_is_told(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text("variants: {}")
    with pytest.raises(UserError, match="variants"):
        variant_names(path)


def test_variants_are_shown_coarse_to_fine_and_heads_before_networks():
    assert variant_names(ROOT / "profiles/demo.yaml") == [
        "fcn32s",
        "fcn16s",
        "fcn8s",
        "lite0-fcn8s",
        "lite0-mlp",
        "fcn8s-finetuned",
    ]


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").iterdir()), ids=lambda p: p.name)
def test_a_section_read_alone_is_that_of_the_whole_file(profile: Path):
    whole = read_all(profile)
    for section in Params.model_fields:
        schema = get_type_hints(Params, include_extras=True)[section]
        default = Params.model_fields[section].default
        assert read(section, schema, profile, default) == getattr(whole, section)
    for name, variant in whole.variants.items():
        assert read(f"variants.{name}", Variant, profile) == variant


def test_a_mistake_in_a_section_read_alone_is_named(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text(DEMO.replace("size: 128", "size: 1"))
    with pytest.raises(UserError, match=r"params\.yaml: dataset\.image_size: it is 1; it should b"):
        read("dataset", AnySource, path)


def test_a_section_is_read_without_looking_at_the_others(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"train": yaml.safe_load(DEMO)["train"], "evaluate": 3}))
    assert read("train", Train, path).epochs == 12


def test_a_variant_s_own_settings_come_before_those_of_train():
    variant = Variant(train="head", backbone="lite0", stride=8, parent="lite0", epochs=3)
    train = Train(epochs=20, batch_size=32, learning_rate=1e-3, weight_decay=1e-4, dropout=0.5)
    assert variant.training(train) == train.model_copy(update={"epochs": 3})
