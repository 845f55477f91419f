"""Source `tfds`: any TensorFlow Datasets data set with a picture and a mask feature."""

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stages.prepare.decoding import Example, Labels, decode_pair
from stages.prepare.settings import TfdsSource, told
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.tfdata import untuned
from stages.shared.settings.section import SPLITS

if TYPE_CHECKING:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo

# TFDS itself retries ten times with growing delays, for minutes.
REACHABLE_WITHIN_SECONDS = 20


def labels(settings: TfdsSource) -> Labels:
    """What stands in the masks."""
    return Labels(settings.classes | dict.fromkeys(settings.ignore))


def check(settings: TfdsSource, seed: int) -> None:
    """Nothing: only TFDS knows the data set, and its import takes seconds."""


def files(settings: TfdsSource) -> Iterator[Path]:
    """The files that the pictures come from: the archives, and what TFDS has prepared."""
    import tensorflow_datasets as tfds

    name = settings.name.split(":")[0].split("/")[0]
    data_dir = Path(settings.data_dir or tfds.core.constants.DATA_DIR).expanduser()
    for folder in (Path(settings.root), data_dir / name):
        yield from folder.rglob("*")


class Split:
    """The pictures of a split, in the data set's own order."""

    def __init__(
        self, builder: "tfds.core.DatasetBuilder", settings: TfdsSource, split: str
    ) -> None:
        self.builder, self.settings, self.split = builder, settings, split

    def __iter__(self) -> Iterator[Example]:
        return _examples(self.builder, self.settings, self.split)

    def __length_hint__(self) -> int:
        """How many there are, if TFDS knows the split."""
        try:
            expression = getattr(self.settings.splits, self.split)
            return int(self.builder.info.splits[expression].num_examples)
        except (KeyError, ValueError, AssertionError):
            return 0


def examples(settings: TfdsSource, seed: int) -> dict[str, Split]:
    """The pictures of each split in the data set's own order, still encoded.

    Args:
        settings: of the data set.
        seed: not used; the split expressions fix the choice.

    Raises:
        UserError: the data set or a feature is not there, or can't be downloaded; or, as soon as a
            split's first picture is asked for, the split is not there.
    """
    import tensorflow_datasets as tfds

    builder = _prepared(settings)
    features = dict(builder.info.features.items())
    images = [name for name, f in features.items() if isinstance(f, tfds.features.Image)]
    for key, feature in (("image", settings.image), ("mask", settings.mask)):
        if feature not in images:
            raise UserError(
                f"params.yaml: dataset.{key} is {feature!r}, which is not an image feature of "
                f"{settings.name}; it has {', '.join(images) or 'none'}"
            )
    return {split: Split(builder, settings, split) for split in SPLITS}


def _examples(
    builder: "tfds.core.DatasetBuilder", settings: TfdsSource, split: str
) -> Iterator[Example]:
    import tensorflow_datasets as tfds

    expression = getattr(settings.splits, split)
    try:
        records = builder.as_dataset(
            split=expression,
            decoders={f: tfds.decode.SkipDecoding() for f in (settings.image, settings.mask)},
            read_config=tfds.ReadConfig(
                options=untuned(), add_tfds_id=True, interleave_cycle_length=1
            ),
        )
    except (ValueError, AssertionError) as error:
        raise UserError(f"{told(settings, split)}: {str(error).splitlines()[0]}") from None
    for record in records.as_numpy_iterator():
        name = record.get("file_name", record["tfds_id"]).decode()
        image, mask = record[settings.image], record[settings.mask]
        decode = partial(decode_pair, image, mask)
        yield Example(name, decode, carries=len(image) + len(mask))


def _prepared(settings: TfdsSource) -> "tfds.core.DatasetBuilder":
    """The data set's builder, once the data set is downloaded and prepared."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    try:
        builder = tfds.builder(settings.name, data_dir=settings.data_dir)
    except tfds.core.DatasetNotFoundError:
        raise UserError(
            f"params.yaml: dataset.name is {settings.name!r}, which TFDS does not know and does "
            f"not find prepared in {settings.data_dir or '~/tensorflow_datasets'}"
        ) from None
    except (AssertionError, ValueError) as error:
        # Of a version or a configuration that it does not have.
        raise UserError(
            f"params.yaml: dataset.name is {settings.name!r}: {str(error).splitlines()[0]}"
        ) from None
    if builder.data_path.exists():
        return builder
    _require_downloads(settings, builder.url_infos)
    download = tfds.download.DownloadConfig(manual_dir=settings.manual_dir)
    try:
        builder.download_and_prepare(download_config=download)
    except NonMatchingChecksumError as error:
        where = str(error).split("downloaded to ")[-1].split(",")[0]
        raise UserError(
            f"{where} is not the archive that TFDS expects for {settings.name} (its checksum "
            "differs); download it again"
        ) from None
    except (OSError, tfds.core.download.DownloadError) as error:
        raise _no_download(settings, builder.url_infos, error) from None
    return builder


def _require_downloads(settings: TfdsSource, urls: "Mapping[str, UrlInfo]") -> None:
    """Fail at once if an archive is neither in `manual_dir` nor reachable."""
    manual_dir = Path(settings.manual_dir or ".")
    absent = [url for url, info in urls.items() if not (manual_dir / str(info.filename)).exists()]
    for host_url in {urlsplit(url).netloc: url for url in absent}.values():
        request = urllib.request.Request(host_url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=REACHABLE_WITHIN_SECONDS).close()
        except urllib.error.HTTPError:
            continue  # The host answers; whether it serves the archive is TFDS's to find out.
        except OSError as error:
            raise _no_download(settings, urls, error) from None


def _no_download(
    settings: TfdsSource, urls: "Mapping[str, UrlInfo]", error: Exception
) -> UserError:
    archives = " and ".join(str(info.filename) for info in urls.values()) or "its archives"
    return UserError(
        f"{settings.name} cannot be downloaded ({error}); place {archives} in "
        f"{settings.manual_dir or 'a folder and name it in dataset.manual_dir'}, or set "
        "dataset.data_dir to where TFDS has prepared it, or use the built-in data set: "
        "cp profiles/demo.yaml params.yaml"
    )
