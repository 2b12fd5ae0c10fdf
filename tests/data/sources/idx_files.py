"""The IDX format, written."""

import struct


def idx(values):
    """An array of bytes as the format's description has it."""
    return bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", size) for size in values.shape) + values.tobytes()
