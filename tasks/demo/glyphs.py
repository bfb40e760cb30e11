"""A synthetic source task: letters of many alphabets, without digits, drawn from the fonts that matplotlib ships."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

CANVAS = 64  # px, the side of a drawn glyph's image
FRAME = 48  # px, the glyph's longer side
POINT_SIZE = 96

TRAIN_FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Oblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralItalic",
    "cmr10", "cmss10", "cmtt10", "cmti10", "cmmi10",
)  # fmt: skip
VAL_FONTS = ("DejaVuSerif-BoldItalic", "DejaVuSansMono-Bold", "STIXGeneralBol")

_LETTERS = (
    (0x0041, 0x005A), (0x0061, 0x007A),  # Latin
    (0x0391, 0x03A9), (0x03B1, 0x03C9),  # Greek
    (0x0410, 0x044F),  # Cyrillic
    (0x0531, 0x0556), (0x0561, 0x0586),  # Armenian
    (0x10D0, 0x10F0),  # Georgian
    (0x0250, 0x02A8),  # phonetic alphabet
    (0x05D0, 0x05EA),  # Hebrew
    (0x2D30, 0x2D65),  # Tifinagh
    (0x0180, 0x01BF), (0x0460, 0x0481), (0x048A, 0x04FF),  # further Latin and Cyrillic
)  # fmt: skip
_DIGITS = "0123456789"
_SMALLEST_INK = 1e-4  # not zero, where a power could have an infinite slope


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """The limits of `distort`. A pair is the range of a uniform draw; one number x means the range -x..x or 0..x."""

    rotation_degrees: float = 15.0
    shear: float = 0.3
    squeeze: tuple[float, float] = (0.6, 1.15)  # width over height
    shift: float = 0.06  # share of half the side
    zoom: tuple[float, float] = (0.95, 1.2)
    elastic: float = 0.10  # share of half the side
    knots: tuple[int, ...] = (4, 5, 6)  # per side of the elastic field
    ink_level: tuple[float, float] = (0.15, 0.7)  # low makes thick strokes, high makes thin ones
    scan_sizes: tuple[int, ...] = (7, 8, 8, 9, 10, 12, 16)  # px
    gamma: tuple[float, float] = (0.7, 1.4)
    gain: tuple[float, float] = (0.8, 1.1)
    noise: float = 0.03  # standard deviation


def source_classes(*, max_likeness: float = 0.9, max_likeness_to_digit: float = 0.87) -> tuple[str, ...]:
    """Return letters that differ enough: none looks like a digit or like an earlier letter.

    Likeness is the cosine of blurred thumbnails, 0..1; of two fonts, the larger one counts.
    """
    faces = [_load("DejaVuSans"), _load("DejaVuSans-Bold")]
    digits = [_thumbnails(faces, digit) for digit in _DIGITS]
    taken: dict[str, NDArray[np.float32]] = {}
    for character in _candidates():
        thumbnails = _thumbnails(faces, character)
        resembles_digit = _likeness(thumbnails, digits) >= max_likeness_to_digit
        if not resembles_digit and _likeness(thumbnails, taken.values()) < max_likeness:
            taken[character] = thumbnails
    return tuple(taken)


def draw_glyphs(classes: Sequence[str], fonts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Draw every class in every font that has it.

    Return images (n, CANVAS, CANVAS) uint8, light on dark, and the indices of their classes (n,).
    """
    images, labels = [], []
    for name in fonts:
        face, known = _load(name), _characters(name)
        for label, character in enumerate(classes):
            if character in known:
                images.append(_draw(face, character))
                labels.append(label)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def distort(glyphs: Tensor, generator: Generator, *, size: int, limits: Distortion) -> Tensor:
    """Turn glyphs (n, CANVAS, CANVAS) uint8 into images (n, 3, size, size) uint8 like small scans of handwriting."""
    ink = glyphs.unsqueeze(1).float() / 255
    ink = _warp(ink, generator, limits)
    ink = _restroke(ink, generator, limits)
    ink = _rescan(ink, generator, limits, size)
    ink = _expose(ink, generator, limits)
    return (ink * 255).round().byte().expand(-1, 3, -1, -1)


def _candidates() -> list[str]:
    characters = [chr(code) for first, last in _LETTERS for code in range(first, last + 1)]
    known = _characters("DejaVuSans") & _characters("DejaVuSans-Bold")
    return [character for character in characters if character in known and _is_plain_letter(character)]


def _is_plain_letter(character: str) -> bool:
    return unicodedata.category(character).startswith("L") and not unicodedata.decomposition(character)


def _path(name: str) -> Path:
    import matplotlib as mpl  # needed only to rebuild the backbone

    return Path(mpl.get_data_path(), "fonts", "ttf", f"{name}.ttf")


def _load(name: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_path(name)), POINT_SIZE)


def _characters(name: str) -> set[str]:
    from matplotlib.ft2font import FT2Font

    characters = {chr(code) for code in FT2Font(str(_path(name))).get_charmap()}
    # beyond ASCII the glyphs of the Computer Modern fonts are not those of Unicode
    return {character for character in characters if character.isascii()} if name.startswith("cm") else characters


def _draw(face: ImageFont.FreeTypeFont, character: str) -> NDArray[np.uint8]:
    left, top, right, bottom = face.getbbox(character)
    drawn = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(drawn).text((2 - left, 2 - top), character, font=face, fill=255)
    glyph = drawn.crop(drawn.getbbox())
    scale = FRAME / max(glyph.size)
    width, height = (max(1, round(side * scale)) for side in glyph.size)
    canvas = Image.new("L", (CANVAS, CANVAS))
    resized = glyph.resize((width, height), Image.Resampling.BILINEAR)
    canvas.paste(resized, ((CANVAS - width) // 2, (CANVAS - height) // 2))
    return np.array(canvas)


def _thumbnails(faces: list[ImageFont.FreeTypeFont], character: str) -> NDArray[np.float32]:
    """Return a unit-length vector per font. The dot product of two characters' vectors is their likeness."""
    images = torch.from_numpy(np.stack([_draw(face, character) for face in faces]))
    small = F.normalize(F.avg_pool2d(images.unsqueeze(1).float(), 4).flatten(1), dim=1)
    return np.asarray(small.numpy(), dtype=np.float32)


def _likeness(mark: NDArray[np.float32], others: Iterable[NDArray[np.float32]]) -> float:
    return max((float((mark * other).sum(1).max()) for other in others), default=0.0)


def _uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _choose(choices: Sequence[int], generator: Generator) -> int:
    return choices[int(torch.randint(len(choices), (1,), generator=generator))]


def _warp(ink: Tensor, generator: Generator, limits: Distortion) -> Tensor:
    """Warp each glyph by a random affine map and a random elastic field (Simard et al. 2003)."""
    n = len(ink)
    grid = F.affine_grid(_affine(n, generator, limits), [n, 1, FRAME, FRAME], align_corners=False)
    knots = _choose(limits.knots, generator)
    amplitude = _uniform(n, 0.0, limits.elastic, generator).view(n, 1, 1, 1)
    field = torch.randn(n, 2, knots, knots, generator=generator) * amplitude
    field = F.interpolate(field, (FRAME, FRAME), mode="bicubic", align_corners=True)
    return F.grid_sample(ink, grid + field.permute(0, 2, 3, 1), align_corners=False)


def _affine(n: int, generator: Generator, limits: Distortion) -> Tensor:
    angle = torch.deg2rad(_uniform(n, -limits.rotation_degrees, limits.rotation_degrees, generator))
    shear = _uniform(n, -limits.shear, limits.shear, generator)
    zoom = FRAME / CANVAS * _uniform(n, *limits.zoom, generator)
    across, down = zoom / _uniform(n, *limits.squeeze, generator), zoom
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos * across, (cos * shear - sin) * down, sin * across, (sin * shear + cos) * down]
    matrix = torch.stack(rows, 1).view(n, 2, 2)
    shift = _uniform(2 * n, -limits.shift, limits.shift, generator).view(n, 2, 1)
    return torch.cat([matrix, shift], 2)


def _restroke(ink: Tensor, generator: Generator, limits: Distortion) -> Tensor:
    """Thicken or thin the strokes: blur the glyph and cut it at a random level."""
    blurred = F.avg_pool2d(F.avg_pool2d(ink, 5, 1, 2), 5, 1, 2)
    level = _uniform(len(ink), *limits.ink_level, generator).view(-1, 1, 1, 1)
    return torch.sigmoid((blurred - level * blurred.amax((2, 3), keepdim=True)) * 20)


def _rescan(ink: Tensor, generator: Generator, limits: Distortion, size: int) -> Tensor:
    """Average down to a few pixels per side, and enlarge again. Each quarter of the minibatch has another number."""
    parts = [F.adaptive_avg_pool2d(part, _choose(limits.scan_sizes, generator)) for part in ink.chunk(4)]
    return torch.cat([F.interpolate(part, (size, size), mode="bilinear", align_corners=False) for part in parts])


def _expose(ink: Tensor, generator: Generator, limits: Distortion) -> Tensor:
    n = len(ink)
    gamma = _uniform(n, *limits.gamma, generator).view(n, 1, 1, 1)
    gain = _uniform(n, *limits.gain, generator).view(n, 1, 1, 1)
    noise = torch.randn(ink.shape, generator=generator) * limits.noise
    return (ink.clamp_min(_SMALLEST_INK) ** gamma * gain + noise).clamp(0, 1)
