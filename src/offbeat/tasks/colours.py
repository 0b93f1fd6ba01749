"""Choosing the bag's colours: thresholds from a rectangle on it, and a picture of what they mark."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from offbeat.errors import ConfigError
from offbeat.tasks.visual_reacher import HSV, bag_mask, in_range
from offbeat.types import ImageArray

# Pixels of one colour; the rest of a rectangle is background, shine and seams.
_NEAR_HUES = 20
_LEFT_OUT = 2  # percent of the pixels, at either end, that no threshold has to hold
# Light changes: more room below than the pixels of one picture ask for, and all of it above.
_ROOM = (5, 30, 30)
_LEAST_PIXELS = 16
_LEAST_SATURATION = 40  # greys have no hue


@dataclass(frozen=True)
class Rectangle:
    """Columns x to x + width and rows y to y + height of an image (pixels)."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, image: ImageArray) -> ImageArray:
        """What lies in it. Raises: ConfigError when that is nothing, or not all of it lies in the image."""
        rows, columns = image.shape[:2]
        across, down = 0 < self.width <= columns - self.x, 0 < self.height <= rows - self.y
        if self.x < 0 or self.y < 0 or not across or not down:
            raise ConfigError(
                f"The rectangle {self.x},{self.y},{self.width},{self.height} is not within the image of "
                f"{columns}x{rows}: give its left edge, its top, its width and its height in pixels."
            )
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def propose(image: ImageArray, bag: Rectangle) -> tuple[HSV, HSV]:
    """Least and greatest colour that hold what a rectangle on the bag shows; image: (H, W, 3) uint8 RGB.

    The least hue is above the greatest where the colours lie across 179, as reds do.
    Raises: ConfigError when the rectangle is not within the image, or shows no colour.
    """
    hues, saturations, values = np.moveaxis(cv2.cvtColor(np.ascontiguousarray(bag.cut(image)), cv2.COLOR_RGB2HSV), 2, 0)
    # Hues go round: their mean is that of directions, and the more colour a pixel has the more it says.
    angles = hues * (np.pi / 90)
    middle = round(np.angle((saturations * np.exp(1j * angles)).sum()) * 90 / np.pi)
    off = (hues.astype(int) - middle + 90) % 180 - 90
    near = (np.abs(off) <= _NEAR_HUES) & (saturations >= _LEAST_SATURATION)
    if near.any():  # what is much paler than the rest is an edge or a thread
        near &= saturations >= np.median(saturations[near]) / 2
    if near.sum() < _LEAST_PIXELS:
        raise ConfigError(
            "The rectangle shows no colour to speak of: put it well inside the bag, with more light, or use a bag of a "
            "stronger colour."
        )
    least, greatest = np.percentile(off[near], (_LEFT_OUT, 100 - _LEFT_OUT)).round().astype(int).tolist()
    lower = [(middle + least - _ROOM[0]) % 180]
    for band, room in ((saturations, _ROOM[1]), (values, _ROOM[2])):
        lower.append(max(0, round(float(np.percentile(band[near], _LEFT_OUT))) - room))
    return (lower[0], lower[1], lower[2]), ((middle + greatest + _ROOM[0]) % 180, 255, 255)


def shares(image: ImageArray, bag: Rectangle, lower: HSV, upper: HSV) -> tuple[float, float]:
    """Shares (0 to 1) of the pixels within and outside of a rectangle that have a colour. Raises: ConfigError."""
    marked = in_range(image, lower, upper)
    inside, all_in, all_marked = bag.cut(marked), bag.width * bag.height, cv2.countNonZero(marked)
    marked_in = cv2.countNonZero(np.ascontiguousarray(inside))
    return marked_in / all_in, (all_marked - marked_in) / max(1, marked.size - all_in)


def picture(image: ImageArray, lower: HSV, upper: HSV, bag: Rectangle | None = None) -> ImageArray:
    """The image beside its mask, enlarged by whole pixels to about 640 columns each; with the rectangle's outline."""
    mask = bag_mask(image, lower, upper)
    factor = max(1, round(640 / image.shape[1]))
    both = [image, np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2)]
    left, right = (np.repeat(np.repeat(view, factor, axis=0), factor, axis=1) for view in both)
    if bag is not None:
        corner = (bag.x * factor, bag.y * factor)
        far = ((bag.x + bag.width) * factor - 1, (bag.y + bag.height) * factor - 1)
        left = cv2.rectangle(np.ascontiguousarray(left), corner, far, (255, 255, 255), 2)
    return np.concatenate([left, right], axis=1)
