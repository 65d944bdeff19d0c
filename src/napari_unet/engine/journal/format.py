r"""The journal's bytes: lines of JSON with length and checksum, and pixels within them.

Every line is ``LENGTH CHECKSUM JSON\n``: the number of bytes of the JSON and their CRC-32, eight
hexadecimal digits each, so that a torn or damaged line is known from a whole one. Pixels are the
bytes of an array in C order, little endian, compressed with gzip, in base64: what a chunk of a
Zarr array (version 3, codecs ``bytes`` and ``gzip``) holds. See docs/reference/formats.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError

FORMAT: Final = "napari-unet project"
VERSION: Final = 1
#: Bytes of one line. What is longer is split by who writes it, and is damage to who reads it.
LONGEST_LINE: Final = 64 * 2**20
#: Bytes of one array within a line, before it is compressed.
LARGEST_BOX: Final = 16 * 2**20
#: Axes of an array, and pixels along one of them.
MOST_AXES: Final = 8
LONGEST_SIDE: Final = 2**31
#: By their names in Zarr.
DTYPES: Final = {
    "bool": "|b1",
    "uint8": "|u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "int8": "|i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
}
_TORN: Final = "the last line was not written to its end"
_PREFIX: Final = 18  # two numbers of eight digits, and a blank after each
# Level 1: strokes shrink to a hundredth at any level, and this one takes a third of the time.
_LEVEL: Final = 1
_GZIP: Final = 31  # window bits that tell zlib to write and read gzip's frame


class JournalError(InputError):
    """A project folder or its journal cannot be used, or holds what no journal can hold."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A place from which a file cannot be read.

    Attributes
    ----------
    file
        Its name in the project folder.
    offset
        The first byte that is not understood.
    lost
        How many bytes follow, that one included.
    reason
        What is wrong there.
    """

    file: str
    offset: int
    lost: int
    reason: str

    @property
    def is_torn(self) -> bool:
        """Whether it is but the change that was being written when the program ended."""
        return self.reason == _TORN

    def __str__(self) -> str:
        return f"{self.file}: {self.reason} at byte {self.offset}; {self.lost} bytes are not read"


@dataclass(frozen=True, slots=True)
class Line:
    """One whole line.

    Attributes
    ----------
    offset, end
        Its first byte in the file, and the byte after it.
    values
        What its JSON says.
    """

    offset: int
    end: int
    values: dict[str, Any]


# ---------------------------------------------------------------------------- lines


def encode_line(values: dict[str, Any]) -> bytes:
    """Return a line that holds these values.

    Raises
    ------
    JournalError
        If they are not fit for JSON or make too long a line.
    """
    try:
        body = json.dumps(values, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"this cannot be written to a journal: {error}") from error
    if len(body) > LONGEST_LINE:
        raise JournalError("this is too long for one line of a journal; split it")
    return b"%08x %08x %s\n" % (len(body), zlib.crc32(body), body)


def read_lines(file: BinaryIO, offset: int = 0) -> Iterator[Line]:
    """Read whole lines, until the file ends or a line is damaged.

    Parameters
    ----------
    file
        A file that can be sought in.
    offset
        Where to begin.

    Yields
    ------
    Line
        One after the other.

    Raises
    ------
    JournalError
        At the first line that is damaged or was not written to its end; those before it were
        yielded.
    """
    file.seek(offset)
    while prefix := file.read(_PREFIX):
        length, checksum = _read_prefix(prefix)
        body = file.read(length + 1)
        if len(body) <= length:
            raise JournalError(_TORN)
        if body[-1:] != b"\n" or zlib.crc32(body[:-1]) != checksum:
            raise JournalError("a line does not match its checksum")
        end = offset + _PREFIX + length + 1
        yield Line(offset, end, read_json(body[:-1]))
        offset = end


def line_end(file: BinaryIO, offset: int) -> int | None:
    """Return where a line ends that begins there, by its length alone; None at the file's end.

    Raises
    ------
    JournalError
        If no line begins there.
    """
    file.seek(offset)
    prefix = file.read(_PREFIX)
    return offset + _PREFIX + _read_prefix(prefix)[0] + 1 if prefix else None


def _read_prefix(prefix: bytes) -> tuple[int, int]:
    if len(prefix) < _PREFIX:
        raise JournalError(_TORN)
    if prefix[8:9] != b" " or prefix[17:18] != b" ":
        raise JournalError("there is no line of a journal")
    try:
        # bytes.fromhex would pass over blanks, int over signs and underscores
        length = int.from_bytes(binascii.unhexlify(prefix[:8]))
        checksum = int.from_bytes(binascii.unhexlify(prefix[9:17]))
    except binascii.Error as error:
        raise JournalError("there is no line of a journal") from error
    if length > LONGEST_LINE:
        raise JournalError("a line claims to be longer than lines are")
    return length, checksum


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    JournalError
        If it is not one.
    """
    try:
        values = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise JournalError("a line is not JSON") from error
    if not isinstance(values, dict):
        raise JournalError("a line is not a JSON object")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


# ---------------------------------------------------------------------------- pixels


def compress(pixels: NDArray[Any]) -> bytes:
    """Return the bytes of an array, as a chunk of a Zarr array holds them.

    Raises
    ------
    JournalError
        If its dtype is none of `DTYPES`.
    """
    if pixels.dtype.name not in DTYPES:
        raise JournalError(f"pixels of the type {pixels.dtype} do not belong into a journal")
    plain = np.ascontiguousarray(pixels, dtype=DTYPES[pixels.dtype.name])
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(plain.tobytes()) + packer.flush()


def decompress(packed: bytes, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return the array that `compress` was given; never more bytes than it has are unpacked.

    Parameters
    ----------
    packed
        The bytes.
    shape, dtype
        Of the array; `dtype` is a key of `DTYPES`.

    Raises
    ------
    JournalError
        If the bytes are not such an array, or it is larger than `LARGEST_BOX`.
    """
    kind = np.dtype(DTYPES[dtype])
    size = prod(shape) * kind.itemsize
    if size > LARGEST_BOX:
        raise JournalError("a box claims more pixels than one can hold")
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise JournalError("the pixels of a box are damaged") from error
    if len(plain) != size or not unpacker.eof or unpacker.unused_data:
        raise JournalError("a box holds other pixels than it claims")
    return np.frombuffer(plain, kind).reshape(shape)


def to_text(packed: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(packed).decode("ascii")


def from_text(text: Any) -> bytes:
    """Return the bytes of base64.

    Raises
    ------
    JournalError
        If it is not base64.
    """
    if not isinstance(text, str):
        raise JournalError("the pixels of a box are missing")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise JournalError("the pixels of a box are not base64") from error
