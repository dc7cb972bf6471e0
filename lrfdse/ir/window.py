"""A window that slides over images."""

from __future__ import annotations

from dataclasses import dataclass


def same_pads(
    image: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    upper: bool,
) -> tuple[int, int, int, int]:
    """Return pads, top, left, bottom and right, that make the output as large as the image divided by the strides.

    Where their sum is odd, one more is at the end if `upper`, else at the beginning (ONNX's SAME_UPPER, SAME_LOWER).

    >>> same_pads((5, 6), (3, 3), (2, 2), (1, 1), upper=True)
    (1, 0, 1, 1)
    """
    sizes = zip(image, kernel, strides, dilations, strict=True)
    total = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in sizes]
    less, more = [each // 2 for each in total], [each - each // 2 for each in total]
    begin, end = (less, more) if upper else (more, less)
    return begin[0], begin[1], end[0], end[1]


@dataclass(frozen=True, slots=True)
class Window:
    """A window that slides over images: sizes of both axes, height first. One-dimensional data have height 1."""

    batch: int
    image: tuple[int, int]
    """Height and width of the input."""
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right."""
    ceil: bool = False
    """Whether a last window that begins inside but ends outside counts (pooling only)."""

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output.

        >>> Window(1, (5, 7), (3, 3), pads=(1, 1, 1, 1), strides=(2, 2)).out
        (3, 4)
        """
        sizes = []
        for axis in (0, 1):
            extent = self.dilations[axis] * (self.kernel[axis] - 1) + 1
            room = self.image[axis] + self.pads[axis] + self.pads[axis + 2] - extent
            count = (-(-room // self.strides[axis]) if self.ceil else room // self.strides[axis]) + 1
            # A window that begins in the padding behind the image does not count.
            if self.ceil and (count - 1) * self.strides[axis] >= self.image[axis] + self.pads[axis]:
                count -= 1
            sizes.append(count)
        return sizes[0], sizes[1]

    @property
    def lying(self) -> Window:
        """The same window on the same arrays with height 1, where data of width 1 stand upright; else as it is.

        >>> Window(1, (512, 1), (5, 1), strides=(2, 1), pads=(2, 0, 2, 0)).lying.image
        (1, 512)
        """
        top, left, bottom, right = self.pads
        if self.image[1] != 1 or self.kernel[1] != 1 or left or right:
            return self
        image, kernel, strides, dilations = (
            (pair[1], pair[0]) for pair in (self.image, self.kernel, self.strides, self.dilations)
        )
        return Window(self.batch, image, kernel, strides, dilations, (left, top, right, bottom), self.ceil)
