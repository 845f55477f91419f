"""The benchmark's results as Markdown tables, goals beside figures."""

from collections.abc import Sequence
from typing import Any

from stages.shared.results import pages

GIB = 2**30
MIB = 2**20


def markdown(results: dict[str, Any]) -> str:
    """All tables, from what `benchmarks.run` measured."""
    parts = (heading, head_to_head, growth, reading, stored, nothing_to_do, rates)
    return "\n".join(part(results) for part in parts)


def heading(results: dict[str, Any]) -> str:
    """What ran where."""
    options, device = results["options"], results["rates"]["device"]
    size = options["image_size"]
    return (
        f"On {device}; {results['rates']['precision']}. Pictures of {size} x {size}, VGG19 of "
        f"width {options['width']:g}, {options['epochs']} epochs of each of three heads. One run, "
        "paired.\n"
    )


def head_to_head(results: dict[str, Any]) -> str:
    """The pipeline's stages against the backbone run on every step."""
    seconds, sampled = results["growth"][-1]["seconds"], results["sampled"]
    recomputed = results["recomputed"]
    epochs, pictures = results["options"]["epochs"], results["growth"][-1]["pictures"]
    scale = epochs * pictures / recomputed["pictures"]
    notebook = {n: s * scale for n, s in recomputed["seconds_an_epoch"].items()}
    # Up to the heads it is one run.
    some = seconds | sampled["seconds"]
    rows = [(name, f"{seconds[name]:.1f} s", f"{some[name]:.1f} s", "") for name in seconds]
    rows += [(f"recomputing, {name}", "", "", f"{s:,.0f} s") for name, s in notebook.items()]
    ours, quicker, theirs = (sum(each.values()) for each in (seconds, some, notebook))
    rows += [
        ("all", f"{ours:.0f} s", f"{quicker:.0f} s", f"{theirs:,.0f} s"),
        ("ratio", f"**{theirs / ours:.1f}**", f"**{theirs / quicker:.1f}**", ""),
    ]
    share = f"`pixels: {sampled['pixels']:g}`"
    columns = (f"head to head, {pictures:,} pictures", "pipeline", share, "notebook's way")
    return (
        table(columns, rows)
        + f"\nThe notebook's way is one epoch over {recomputed['pictures']} pictures, timed once "
        f"compiled and scaled to {epochs} epochs of {pictures:,} pictures; every epoch of it costs "
        f"the same. It decodes and resizes JPEG and PNG of 500 x 375 in each epoch. {share} is the "
        "pipeline with a share of the pixels in each step's loss, as all profiles but the "
        "notebook's have it; what follows is measured with it, the growth without.\n"
    )


def growth(results: dict[str, Any]) -> str:
    """Time and memory as the pictures grow."""
    rows = []
    for run in results["growth"]:
        seconds = run["seconds"]
        trained = sum(s for name, s in seconds.items() if name.startswith("train"))
        peaks = run["peak_bytes"]
        heads = max(p for name, p in peaks.items() if name.startswith("train"))
        rows.append(
            (
                f"{run['pictures']:,}",
                *(f"{s:.1f} s" for s in (seconds["prepare"], seconds["features"], trained)),
                *(f"{p / GIB:.2f} GiB" for p in (peaks["prepare"], peaks["features"], heads)),
            )
        )
    columns = ("pictures", "prepare", "features", "three heads")
    return table(
        (*columns, *(f"peak of {name}" for name in ("prepare", "features", "a head"))), rows
    )


def reading(results: dict[str, Any]) -> str:
    """Cached records against the original files."""
    found = results["input"]
    return table(
        ("input", "pictures a second"),
        [
            (
                "JPEG and PNG of 500 x 375, decoded and resized on all cores",
                f"{found['originals']:,.0f}",
            ),
            ("cached records", f"{found['records']:,.0f}"),
            ("ratio", f"{found['records'] / found['originals']:.1f}"),
            ("features takes", f"{results['rates']['features_pictures_a_second']:,.1f}"),
        ],
    )


def stored(results: dict[str, Any]) -> str:
    """Bytes in all and for each picture."""
    found = results["bytes"]
    rows = [
        (name, f"{found[name] / MIB:,.1f} MiB", f"{found[name] / found['pictures'] / 1e6:.3f} MB")
        for name in ("records", "features")
    ]
    rows += [(name, f"{found[name] / MIB:,.2f} MiB", "") for name in ("backbone", "heads")]
    models = (found["backbone"] + found["heads"]) / found["backbone"]
    rows.append(("three variants, in backbones", f"{models:.4f}", ""))
    return table(("stored", "in all", "a picture"), rows)


def nothing_to_do(results: dict[str, Any]) -> str:
    """`dvc repro` after little or nothing."""
    rows = [(name, f"{seconds:.1f} s") for name, seconds in results["repro"].items()]
    return table(("`dvc repro` after a change of", "takes"), rows)


def rates(results: dict[str, Any]) -> str:
    """Features and heads on arrays, against the device's own peak."""
    found = results["rates"]
    validation = found["validation_pictures_for_each"]
    rows = [
        ("backbone, pictures a second", f"{found['features_pictures_a_second']:,.1f}"),
        ("operations a picture", f"{found['gflop_a_picture']:.1f} GFLOP"),
        ("matrix product of this device", f"{found['matrix_tflops']:.3f} TFLOP/s"),
        ("share of it in the backbone", f"{found['features_share_of_matrix_peak']:.0%}"),
    ]
    rows += [
        (
            f"{name}, training on a picture, validating on {validation:.2f}, an epoch",
            f"{head['ms_a_picture_and_epoch']:.2f} ms",
        )
        for name, head in found["heads"].items()
    ]
    return table((f"rates on arrays, Keras on {found['backend']}", ""), rows)


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table, a line of its own."""
    return pages.markdown(columns, rows) + "\n"
