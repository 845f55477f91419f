"""Pictures: decoding one from a file, and resizing it, with Pillow.

Pillow resizes in fixed-point arithmetic and lets go of the GIL, so the result does not depend on
the processor and a pool of threads uses all cores.
"""

import io

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

LABELS_16_BIT = ("I;16", "I;16L", "I;16B", "I")
# Grey values beyond 8 bits and floats, which Pillow would cut off at 255.
DEEP_PICTURES = (*LABELS_16_BIT, "F")
# All that Pillow reads but PostScript, which is a program that Ghostscript would run. It tries one
# after the other, so the usual ones come first.
Image.init()
USUAL = ("JPEG", "PNG")
FORMATS = (*USUAL, *sorted(set(Image.OPEN) - {"EPS", *USUAL}))

# About ImageNet's mean: the backbones subtract nearly that, so that a border is close to zero.
PADDING_RGB = (124, 117, 104)

Size = tuple[int, int]
# The values that are black and white in a picture of more than 8 bits.
Greys = tuple[float, float]


class BadPictureError(Exception):
    """A picture or a mask that can't be used; its text says why, without naming the picture."""


def decode_picture(content: bytes, greys: Greys | None = None) -> np.ndarray:
    """Decode a picture the way a viewer shows it: turned as its EXIF orientation says.

    Args:
        content: a file of any format that Pillow reads; palettes and alpha become plain RGB.
        greys: of a picture of more than 8 bits.

    Returns:
        uint8 (height, width, 3).

    Raises:
        BadPictureError: it does not decode, or has more than 8 bits a channel and no `greys`.
    """
    return rgb(upright(open_image(content, "picture"), "picture"), greys)


def rgb(image: Image.Image, greys: Greys | None = None) -> np.ndarray:
    """The pixels of an opened picture, uint8 (height, width, 3).

    Args:
        image: opened.
        greys: of a picture of more than 8 bits; what lies beyond them is black or white too.

    Raises:
        BadPictureError: it has more than 8 bits a channel and no `greys`.
    """
    if image.mode not in DEEP_PICTURES:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    if greys is None:
        raise BadPictureError(
            f"the picture's pixels are {image.mode}, more than 8 bits; say which of its values is "
            "black and which is white, dataset.greys: [0, 4095], or save it with 8 bits a channel"
        )
    black, white = greys
    shares = (np.asarray(image, np.float32) - black) / (white - black)
    # What is not a number is black.
    grey = np.rint(255 * np.clip(np.nan_to_num(shares), 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def open_image(content: bytes, what: str) -> Image.Image:
    """Open a file of any format that Pillow reads.

    Args:
        content: of the file.
        what: it should be, `picture` or `mask`, for messages.

    Raises:
        BadPictureError: it does not decode.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        image.load()
    except UnidentifiedImageError:
        raise BadPictureError(f"the {what} is not an image in a known format") from None
    except Exception as error:
        # Pillow's readers can raise any exception on a damaged file.
        raise BadPictureError(f"the {what} does not decode: {error}") from None
    return image


def upright(image: Image.Image, what: str) -> Image.Image:
    """An opened picture turned as its EXIF orientation says.

    Args:
        image: to turn.
        what: it is, `picture` or `mask`, for messages.

    Raises:
        BadPictureError: its EXIF data is damaged.
    """
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        # As its readers, Pillow's reader of EXIF can raise any exception.
        raise BadPictureError(f"the EXIF data of the {what} is damaged: {error}") from None


def orientation(image: Image.Image) -> int:
    """How EXIF has an opened picture turned or mirrored, 2 to 8; 1 for not at all, as also for a
    value that EXIF does not know (cameras write 0)."""
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in range(2, 9) else 1


def scaled_size(size: Size, wanted: Size, mode: str, scale: float | None = None) -> Size:
    """The (height, width) to which a picture is resized before it is padded, cropped or cut.

    Args:
        size: (height, width) of the picture.
        wanted: of the records.
        mode: `dataset.fit` in params.yaml.
        scale: of the picture, with `tiles`; None: 1.
    """
    if mode == "stretch":
        return wanted
    if mode == "tiles":
        factor = 1.0 if scale is None else scale
    else:
        factor = {"pad": min, "crop": max}[mode](w / s for w, s in zip(wanted, size, strict=True))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def padded(
    pixels: np.ndarray, size: Size, value: int | tuple[int, int, int] = PADDING_RGB
) -> np.ndarray:
    """A picture or a mask, uint8 (height, width, ...), filled up to `size` at right and bottom."""
    if all(have >= wanted for have, wanted in zip(pixels.shape, size, strict=False)):
        return pixels
    frame = tuple(map(max, pixels.shape, size))
    filled = np.full((*frame, *pixels.shape[2:]), value, np.uint8)
    filled[tuple(slice(length) for length in pixels.shape[:2])] = pixels
    return filled


def resize(image: np.ndarray, mask: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Stretch a picture and its mask to `size`, (height, width) in pixels.

    The mask takes the label nearest to each pixel's centre, so no new label appears.

    Returns:
        uint8 (height, width, 3) and uint8 (height, width).
    """
    height, width = size
    labels = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return resize_picture(image, size), np.asarray(labels)


def resize_picture(image: np.ndarray, size: Size) -> np.ndarray:
    """Stretch a picture, uint8 (height, width, 3), or a plane of numbers, float32 (height, width).

    To `size`, (height, width) in pixels; bilinear, over the whole footprint of a pixel when the
    picture shrinks (antialiasing).
    """
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
