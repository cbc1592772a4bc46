"""Shards of TFRecords, damaged in each of the ways that a reader has to notice."""

import struct

import numpy as np


def masked_crc(data: bytes) -> int:
    """CRC32C as TFRecord files have it, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def variants(contents: bytes, spans: list[tuple[int, int]], count: int):
    """Yields (kind, bytes of a damaged shard)."""
    rng = np.random.default_rng(4)
    kinds = (
        *("length", "length's checksum", "payload", "payload's checksum"),
        *("cut", "cut between records", "tail", "no bytes", "length of its own"),
    )
    for i in range(count):
        kind = kinds[i % len(kinds)]
        start, length = spans[int(rng.integers(len(spans)))]
        damaged = bytearray(contents)
        if kind == "cut":
            del damaged[int(rng.integers(1, len(contents))) :]
            if len(damaged) in {start - 12 for start, _ in spans}:
                del damaged[-1]
        elif kind == "cut between records":
            del damaged[start - 12 :]
        elif kind == "tail":
            damaged += rng.bytes(int(rng.integers(1, 40)))
        elif kind == "no bytes":
            damaged.clear()
        elif kind == "length of its own":
            # With a checksum that fits: TensorFlow would believe it.
            value = int(rng.integers(length + 1, 2**62))
            header = struct.pack("<Q", value)
            damaged[start - 12 : start] = header + struct.pack("<I", masked_crc(header))
        else:
            first, size = {
                "length": (start - 12, 8),
                "length's checksum": (start - 4, 4),
                "payload": (start, length),
                "payload's checksum": (start + length, 4),
            }[kind]
            damaged[first + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
        yield kind, bytes(damaged)
