"""Fragmented MP4, one frame to a fragment, written by us: what is on disk plays at any moment.

FFmpeg's own fragments hold the newest packet back until the next one arrives, so a film that is
being written lacks its last frame, and closing its muxer belongs to neither a forked child nor a
full disk (docs/decisions/0003-fragments-of-our-own.md). FFmpeg still makes the head (`ftyp` and an
empty `moov`), so all that says how to decode is its own.

Layout of the boxes: ISO/IEC 14496-12:2022, 8.8.4 to 8.8.12 (`moof`, `mfhd`, `traf`, `tfhd`, `tfdt`,
`trun`) and 8.1.1 (`mdat`). Samples: ISO/IEC 14496-15 (H.264: length-prefixed NAL units), the AV1
ISOBMFF binding 2.4 (no temporal delimiters).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

TRACK_ID = 1

_DEFAULT_BASE_IS_MOOF = 0x020000
_TRUN_FLAGS = 0x000001 | 0x000100 | 0x000200 | 0x000400  # data offset, duration, size, flags
_SYNC_SAMPLE = 0x02000000  # depends on no other sample
_OTHER_SAMPLE = 0x01010000  # depends on others, is no sync sample
_MOOF = struct.Struct(">I4sI4sIII4sI4sIII4sIQI4sIIiIIII4s")
MOOF_SIZE = _MOOF.size - 8
"""Size of our `moof` in bytes; the 8 bytes of `mdat`'s header follow it."""


def fragment(
    sequence: int, sample: bytes, *, decode_time: int, duration: int, is_keyframe: bool
) -> bytes:
    """Build `moof` + `mdat` for one sample.

    Args:
        sequence: Number of the fragment, from 1.
        sample: The coded frame, as `sample_of` returns it.
        decode_time: In ticks of the track's time scale.
        duration: In ticks of the track's time scale.
        is_keyframe: Whether decoding can begin here.
    """
    head = _MOOF.pack(
        *(MOOF_SIZE, b"moof"),
        *(16, b"mfhd", 0, sequence),
        *(MOOF_SIZE - 24, b"traf"),
        *(16, b"tfhd", _DEFAULT_BASE_IS_MOOF, TRACK_ID),
        *(20, b"tfdt", 0x01000000, decode_time),
        *(32, b"trun", _TRUN_FLAGS, 1, MOOF_SIZE + 8),
        *(duration, len(sample), _SYNC_SAMPLE if is_keyframe else _OTHER_SAMPLE),
        *(8 + len(sample), b"mdat"),
    )
    return head + sample


@dataclass(frozen=True, slots=True)
class FragmentHead:
    """What a fragment says of its sample."""

    sample_size: int
    """In bytes."""
    time: int
    """In ticks."""
    duration: int
    """In ticks."""
    is_keyframe: bool
    """Whether decoding can begin here."""


def read_head(data: bytes | mmap.mmap, start: int) -> FragmentHead | None:
    """Read the head of a fragment of ours; `None` when what stands there is none, or torn."""
    if len(data) - start < _MOOF.size:
        return None
    values = _MOOF.unpack_from(data, start)
    time, (duration, size, flags, mdat_size, mdat) = values[15], values[21:]
    if values[1] != b"moof" or mdat != b"mdat" or mdat_size != size + 8:
        return None
    return FragmentHead(size, time, duration, flags == _SYNC_SAMPLE)


def sample_of(packet: bytes, codec: str) -> bytes:
    """Turn an encoder's packet into an MP4 sample.

    Args:
        packet: One coded frame; H.264 in Annex B, AV1 as a temporal unit, VP9 as it is.
        codec: `h264`, `av1` or `vp9`.
    """
    if codec == "h264":
        return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nal_units(packet))
    if codec == "av1" and packet[:2] == b"\x12\x00":
        return packet[2:]
    return packet


def nal_units(stream: bytes) -> list[bytes]:
    """Split an Annex B byte stream (ISO/IEC 14496-10, annex B) at its start codes."""
    units = []
    start = stream.find(b"\x00\x00\x01")
    while start >= 0:
        end = stream.find(b"\x00\x00\x01", start + 3)
        # Zeros before the next start code belong to it: no NAL unit ends in a zero byte.
        unit = (stream[start + 3 :] if end < 0 else stream[start + 3 : end]).rstrip(b"\x00")
        if unit:
            units.append(unit)
        start = end
    return units
