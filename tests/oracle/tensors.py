# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
"""Safetensors files, bf16 and E4M3 for the oracle, in numpy alone.

A file is an 8-byte little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}
and the data; tensors may start at any address. BF16 is held as uint16 bits, F8_E4M3 as uint8 codes.
Nothing is shared with the product: this is written from the formats' definitions, so that the two
can only be wrong independently.
"""

import json
import mmap
import struct

import numpy as np

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
    "BF16": "<u2",
    "F8_E4M3": "u1",
}


class Missing(Exception):
    """A file or tensor that should be there is not."""


class Malformed(Exception):
    """A file is there but is not what it should be."""


class File:
    """A safetensors file, mapped; tensors are views of the mapping."""

    def __init__(self, path):
        self.path = path
        try:
            with open(path, "rb") as file:
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise Missing(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise Malformed(f"{path}: the file is empty") from error
        try:
            (length,) = struct.unpack_from("<Q", self.data)
            self.header = json.loads(self.data[8 : 8 + length])
            self.metadata = self.header.pop("__metadata__", {})
        except (struct.error, ValueError, AttributeError) as error:
            raise Malformed(f"{path}: not a safetensors file: {error}") from error
        self.start = 8 + length

    def __contains__(self, name):
        return name in self.header

    def dtype(self, name):
        return self._entry(name)["dtype"]

    def get(self, name):
        entry = self._entry(name)
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        if entry["dtype"] not in DTYPES:
            raise Malformed(
                f"{self.path}: {name} has type {entry['dtype']}, which is not read here"
            )
        dtype = np.dtype(DTYPES[entry["dtype"]])
        count = int(np.prod(shape, dtype=np.int64))
        if end - begin != count * dtype.itemsize or begin < 0 or self.start + end > len(self.data):
            raise Malformed(f"{self.path}: {name} {shape} does not fit its offsets {begin}..{end}")
        if count == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(self.data, dtype, count, self.start + begin).reshape(shape)

    def floats(self, name):
        """A BF16 or F32 tensor as float32."""
        dtype = self.dtype(name)
        if dtype not in ("BF16", "F32"):
            raise Malformed(f"{self.path}: {name} has type {dtype}, not BF16 or F32")
        return bf16_decode(self.get(name)) if dtype == "BF16" else self.get(name).astype(np.float32)

    def _entry(self, name):
        if name not in self.header:
            raise Missing(f"{self.path}: no tensor {name}")
        return self.header[name]


def save(path, tensors, metadata=None):
    """Write {name: (dtype, array)}."""
    header, offset, data = {}, 0, []
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, array) in tensors.items():
        raw = np.ascontiguousarray(array, DTYPES[dtype]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        offset += len(raw)
        data.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def bf16_decode(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def bf16_encode(values):
    """Round to nearest even; NaN stays NaN."""
    values = np.ascontiguousarray(values, np.float32)
    bits = values.view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def bf16_round(values):
    return bf16_decode(bf16_encode(values))


def _e4m3_table():
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    value = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    value[(code & 0x7F) == 0x7F] = np.nan
    return np.where(code & 0x80, -value, value).astype(np.float32)


E4M3 = _e4m3_table()
# Two codes at a time: half as many lookups, and the 512 KiB table stays in the second-level cache.
_PAIRS = np.stack([np.tile(E4M3, 256), np.repeat(E4M3, 256)], 1).copy().view(np.uint64).ravel()
# The midpoint above the magnitude of each code 0..0x7D; 448 takes everything from the last one up.
E4M3_MIDPOINTS = (E4M3[0x00:0x7E].astype(np.float64) + E4M3[0x01:0x7F]) / 2


def e4m3_decode(codes, out):
    """codes [rows,width] uint8 to float32 into the start of the buffer `out`."""
    codes, shape = codes.reshape(-1), codes.shape
    out = out[: codes.size]
    even = codes.size // 2 * 2
    pairs, values = codes[:even].view("<u2"), out[:even].view(np.uint64)
    for i in range(
        0, even // 2, 2**13
    ):  # take() widens its indices: keep them small, in the cache and off mmap
        np.take(_PAIRS, pairs[i : i + 2**13], out=values[i : i + 2**13], mode="wrap")
    out[even:] = E4M3[codes[even:]]
    return out.reshape(shape)


def e4m3_round(values):
    """float32 to the nearest E4M3 value, ties to even, saturating at 448."""
    magnitude = np.abs(values).astype(np.float64)
    code = np.searchsorted(E4M3_MIDPOINTS, magnitude, side="left")
    tie = (code < 0x7E) & (magnitude == E4M3_MIDPOINTS[np.minimum(code, 0x7D)]) & (code % 2 == 1)
    code = np.where(np.isnan(values), 0x7F, code + tie)
    return np.copysign(E4M3[code], values)


def quantise(rows):
    """The model's own act_quant: rows float32 to (dequantised rows, each element's scale).

    A block is 128 columns, the last may be shorter: s = max(max |x|, 1e-4) / 448,
    value = E4M3(x / s) * s, all in float32.
    """
    width = rows.shape[1]
    starts = np.arange(0, width, 128)
    amax = np.maximum(np.maximum.reduceat(np.abs(rows), starts, axis=1), np.float32(1e-4))
    scale = np.repeat(amax / np.float32(448), 128, axis=1)[:, :width]
    return e4m3_round(rows / scale) * scale, scale
