"""Stage `train@VARIANT`: one variant, trained as its `train` says.

    head:    data/features/, models/PARENT/                -> models/VARIANT/
    network: data/records/, models/backbone/, models/PARENT/ -> models/VARIANT/
    both:    reports/VARIANT/history.csv, training.json

A variant starts from its parent's scores, and the score layer that it adds starts at zero, so
before its first step it says what its parent says. The start counts as epoch 0, and the weights of
the epoch with the best validation mean IoU are kept.

The reports are in their place after each epoch: `dvc exp show` and `dvc plots show` read them while
a training runs. DVCLive would write a table for each measure, can't take back an epoch that was
logged but not kept when the process was killed, and takes 2 s of each training.
"""

from contextlib import AbstractContextManager
from pathlib import Path

import keras

from stages.shared import (
    activations,
    devices,
    errors,
    fcn,
    manifest,
    outputs,
    params,
    precision,
    training,
    vgg,
)
from stages.shared.activations import FEATURES_DIR, FEATURES_FILE, Features, SplitReader
from stages.shared.augmentation import Augmentation
from stages.shared.dataset import DATASET_FILE, Dataset
from stages.shared.errors import UserError
from stages.shared.fcn import HeadConfig, Statistics
from stages.shared.losses import PixelLoss
from stages.shared.outputs import MODELS_DIR, REPORTS_DIR, Staging
from stages.shared.params import Train, Variant
from stages.shared.progress import Progress
from stages.shared.records import PictureReader
from stages.shared.training import Batches

STATE_FILE = "state.npz"
WEIGHT_BYTES = 4
# How often the weights lie on the disk at most: in the state once, as the best, and for each moment
# of the optimiser; all that twice while the state is replaced; and what is stored in the end.
COPIES = {"adamw": 9, "sgd": 7}


def train(name: str) -> None:
    """Train the variant `name` and store it.

    Raises:
        UserError: the loss is not finite, a class weight is for no class, a file that is read is
            damaged or does not belong to the others, or several processes are to train a head.
    """
    variant = params.read(f"variants.{name}")
    settings = variant.training(params.read("train"))
    if variant.train == "head" and devices.processes() > 1:
        raise UserError(
            f"{devices.PROCESSES} is {devices.processes()}, but {name} has train: head, which one "
            "process does in seconds; unset it"
        )
    devices.join()
    keras.utils.set_random_seed(params.read("seed"))
    TRAININGS[variant.train](name, variant, settings)


def train_head(name: str, variant: Variant, settings: Train) -> None:
    """Train the score layers on the stored activations."""
    features = Features.load()
    features.require_backbone(vgg.load_config().weights, vgg.BACKBONE_DIR)
    config, statistics = head_config(variant, features)
    head = fcn.head(config, statistics, settings.dropout, features.image_size)
    start_from_parent(head, variant, config, statistics)

    taps, seed = list(config.channels), params.read("seed")
    with writing(name, variant, settings, head) as staging:
        progress = shown_progress(name, settings, staging)
        training.fit(
            activations.on_stored(head),
            pixel_loss(settings),
            Batches(SplitReader(features, "train", taps), settings.batch_size, seed),
            Batches(SplitReader(features, "validation", taps), settings.batch_size),
            settings,
            name,
            progress,
        )
        fcn.save_head(
            fcn.folded(head, config, statistics), config, staging.folder(MODELS_DIR / name)
        )


def train_network(name: str, variant: Variant, settings: Train) -> None:
    """Train the backbone and the score layers together, on augmented pictures."""
    features, dataset, seed = Features.load(), Dataset.load(), params.read("seed")
    features.require_backbone(vgg.load_config().weights, vgg.BACKBONE_DIR)
    config, statistics = head_config(variant, features)
    policy = precision.policy(params.read("precision"))
    with devices.together():
        parents_backbone = vgg.load_config(vgg.backbone_dir(MODELS_DIR / variant.parent))
        backbone = vgg.load(vgg.backbone_dir(MODELS_DIR / variant.parent), policy)
        head = fcn.head(config, statistics, settings.dropout)
        start_from_parent(
            head,
            variant,
            config.model_copy(update={"backbone": parents_backbone.weights}),
            statistics,
        )
        network = fcn.network(backbone, head)
        with writing(name, variant, settings, network) as staging:
            progress = shown_progress(name, settings, staging)
            training.fit(
                network,
                pixel_loss(settings),
                Batches(
                    PictureReader(dataset, "train"),
                    settings.batch_size,
                    seed,
                    Augmentation(variant.augmentation),
                ),
                Batches(PictureReader(dataset, "validation"), settings.batch_size),
                settings,
                name,
                progress,
                policy,
            )
            folder = staging.folder(MODELS_DIR / name)
            own = vgg.save(backbone, parents_backbone.width, folder / vgg.OWN_BACKBONE)
            config = config.model_copy(update={"backbone": own.weights})
            fcn.save_head(fcn.folded(head, config, statistics), config, folder)


TRAININGS = {"head": train_head, "network": train_network}


def shown_progress(name: str, settings: Train, staging: Staging) -> Progress:
    """The progress of a training, whose reports show it after each epoch."""
    history, summary = reports(name)

    def show(progress: Progress) -> None:
        staging.show(history, progress.write_history)
        staging.show(summary, progress.write_summary)

    return Progress(staging.state(STATE_FILE), settings.epochs, settings.patience, show)


def reports(name: str) -> tuple[Path, Path]:
    """Where the history of a variant's training, and the summary of that, belong."""
    return REPORTS_DIR / name / "history.csv", REPORTS_DIR / name / "training.json"


def writing(
    name: str, variant: Variant, settings: Train, model: keras.Model
) -> AbstractContextManager[Staging]:
    """Write the outs of a training, which goes on where the same training was interrupted."""
    manifests = [DATASET_FILE, FEATURES_DIR / FEATURES_FILE]
    parent = MODELS_DIR / variant.parent
    manifests += [
        path
        for folder in (parent, vgg.backbone_dir(parent))
        for path in (folder / fcn.CONFIG_FILE, folder / vgg.CONFIG_FILE)
        if path.exists()
    ]
    made_from = outputs.origin(
        name,
        variant,
        settings,
        params.read("seed"),
        precision.policy(params.read("precision")),
        devices.gpus(),
        keras.backend.backend(),
        [manifest.digest(path) for path in manifests],
    )
    need = COPIES[settings.optimizer] * WEIGHT_BYTES * model.count_params()
    outs = (MODELS_DIR / name, *reports(name))
    # Processes that train together begin together, so none goes on from what it has kept.
    kept = made_from if devices.processes() == 1 else None
    return outputs.writing(*outs, made_from=kept, need=need)


def head_config(variant: Variant, features: Features) -> tuple[HeadConfig, dict[str, Statistics]]:
    """What the variant's head is, and the statistics of the taps that it scores."""
    taps = fcn.taps_of(variant.stride)
    statistics = {tap: features.taps[tap].statistics for tap in taps}
    config = HeadConfig(
        stride=variant.stride,
        channels={tap: len(statistics[tap].mean) for tap in taps},
        classes=features.classes,
        backbone=features.backbone,
    )
    return config, statistics


def start_from_parent(
    head: keras.Model, variant: Variant, config: HeadConfig, statistics: dict[str, Statistics]
) -> None:
    """Give a head on standardised activations its parent's scores.

    Args:
        head: gets them.
        variant: whose parent it is.
        config: the head's classes and channels, and the backbone that the parent should have.
        statistics: of each tap.

    Raises:
        UserError: the parent has other classes, or was trained on another backbone.
    """
    if variant.parent == "backbone":
        return
    folder = MODELS_DIR / variant.parent
    parent = fcn.load_head_config(folder)
    differences = {
        "backbone": parent.backbone != config.backbone,
        "number of channels": any(config.channels[t] != n for t, n in parent.channels.items()),
        "classes": parent.classes != config.classes,
    }
    for what, differs in differences.items():
        if differs:
            raise UserError(
                f"{folder}/ is of another {what} than {FEATURES_DIR}/; "
                f"`dvc repro train@{variant.parent}` trains it anew"
            )
    scores = fcn.scores(fcn.load_head(folder))
    fcn.set_scores(head, {tap: fcn.unfold(s, statistics[tap]) for tap, s in scores.items()})


def pixel_loss(settings: Train) -> PixelLoss:
    """The loss that the settings ask for."""
    pixel_share = Dataset.load().pixel_share["train"]
    return PixelLoss(
        len(pixel_share),
        training.class_weights(settings.class_weights, pixel_share),
        settings.label_smoothing,
        settings.dice,
    )


if __name__ == "__main__":
    errors.run_stage(train, "VARIANT")
