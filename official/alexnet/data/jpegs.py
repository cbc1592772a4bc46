"""Decodes prepared JPEGs, a batch a call, into the crops that are wanted.

libjpeg-turbo through simplejpeg: the same pixels as TensorFlow's and Pillow's, in half
the time, and without Python's lock. What is no square JPEG of the size, or raises so
much as a warning, is left to TensorFlow's decoder, which judges it.
"""

import atexit
import math
import struct
import threading
import time

import cv2
import numpy as np
import simplejpeg

# Bytes: Eigen's, of its widest vectors.
_ALIGNMENT = 64
# The first bytes of the frames that are taken: baseline, extended and progressive.
_FRAMES = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2")


class _Calls:
    """The calls that decode now, in threads of TensorFlow's.

    When Python ends, a thread that comes back to it is ended in the middle of its work,
    for which its iterator then waits without end. So decoding is left to TensorFlow
    from then on, and Python ends when no call has come for a while.
    """

    _REST, _LONGEST = 0.25, 10.0  # Seconds.

    def __init__(self) -> None:
        self.ending = False
        self._threads: set[int] = set()
        self._last = -self._REST
        atexit.register(self._end)

    def __enter__(self) -> None:
        self._threads.add(threading.get_ident())

    def __exit__(self, *_) -> None:
        self._last = time.monotonic()
        self._threads.discard(threading.get_ident())

    def _end(self) -> None:
        self.ending = True
        start = time.monotonic()
        while (now := time.monotonic()) < start + self._LONGEST and (
            self._threads or now < self._last + self._REST
        ):
            time.sleep(0.01)


_calls = _Calls()


def decode_crops(
    encoded: np.ndarray,
    offsets: np.ndarray,
    mirrored: np.ndarray,
    *,
    size: int,
    image_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes whole squares of side `image_size`, and cuts a window out of each.

    From bytes (batch,), top and left of the windows, int (batch, 2), and whether they
    are mirrored, bool (batch,), to RGB uint8 (batch, size, size, 3), and bool (batch,):
    what could be decoded; the pixels of the rest mean nothing.
    """
    images = _aligned((len(encoded), size, size, 3))
    square = np.empty((image_size, image_size, 3), np.uint8)
    frame = struct.pack(">BHH", 8, image_size, image_size)
    decoded = []
    columns = encoded.tolist(), offsets.tolist(), mirrored.tolist(), images
    with _calls:
        for jpeg, (top, left), is_mirrored, image in zip(*columns, strict=True):
            decoded.append(
                not _calls.ending and _has_frame(jpeg, frame) and _decode(jpeg, square)
            )
            if not decoded[-1]:
                continue
            window = square[top : top + size, left : left + size]
            # OpenCV mirrors 25 times as fast as NumPy, and without Python's lock.
            if is_mirrored:
                cv2.flip(window, 1, dst=image)
            else:
                cv2.copyTo(window, None, image)
    return images, np.array(decoded)


def _decode(jpeg: bytes, square: np.ndarray) -> bool:
    try:
        # Of fewer pixels than its header seemed to say it would fill a part only.
        return simplejpeg.decode_jpeg(jpeg, "RGB", buffer=square).shape == square.shape
    except ValueError:
        return False


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Memory that TensorFlow takes over as it is: any other it copies."""
    count = math.prod(shape)
    memory = np.empty(count + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + count].reshape(shape)


def _has_frame(jpeg: bytes, frame: bytes) -> bool:
    """Whether the header names precision and size as `frame`, in colour or grey.

    CMYK, which could mean two pictures, is not taken; nor is what TensorFlow's decoder
    has no way of decoding.
    """
    place = 2
    while (marker := jpeg[place : place + 2]) not in _FRAMES:
        length = jpeg[place + 2 : place + 4]
        if marker[:1] != b"\xff" or len(length) < 2:
            return False
        place += 2 + int.from_bytes(length, "big")
    place += 4
    return jpeg[place : place + 6] in (frame + b"\1", frame + b"\3")
