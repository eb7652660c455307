"""The formats of file suffixes, and the libraries that write them. PyAV is not imported here."""

from __future__ import annotations

from pathlib import Path, PurePath

import soundfile

from hushwork.audio.info import AudioError, AudioInfo

LIBSNDFILE_VERSION: str = soundfile.__libsndfile_version__
# RAW files have no header that states rate and channels.
FORMAT_OF_SUFFIX = {f".{name.lower()}": name for name in soundfile.available_formats() if name != "RAW"} | {
    ".aif": "AIFF",
    ".aifc": "AIFF",
    ".bw64": "BW64",
    ".bwf": "WAV",
    ".oga": "OGG",
    ".opus": "OGG",
    ".sf": "IRCAM",
    ".snd": "AU",
    ".sph": "NIST",
    ".spx": "OGG",
    ".wave": "WAV",
}
AUDIO_SUFFIXES = frozenset(FORMAT_OF_SUFFIX)
"""Suffixes of files that libsndfile writes."""

# libavformat's name of a container and its usual encoders: suffixes. The first encoder that fits is used for audio from
# other formats, and from codecs without an encoder, such as DTS.
_CONTAINERS = {
    ("3g2", "aac"): "3g2",
    ("3gp", "aac"): "3gp 3gpp",
    ("adts", "aac"): "aac",
    ("ac3", "ac3"): "ac3",
    ("amr", "libopencore_amrnb"): "amr",
    ("asf", "wmav2"): "asf wma wmv",
    ("avi", "libmp3lame"): "avi divx",
    ("eac3", "eac3"): "eac3 ec3",
    ("mp4", "aac"): "f4a f4v m4a m4b m4r m4v mp4",
    ("flv", "aac"): "flv",
    ("mp2", "mp2"): "m2a mp1 mp2 mpa",
    ("mpegts", "aac"): "m2t m2ts mts tod trp ts",
    ("matroska", "aac"): "mk3d mka mkv",
    ("mov", "aac"): "mov qt",
    ("mpeg", "mp2"): "mpe mpeg mpg",
    ("nut", "flac"): "nut",
    ("ogv", "flac"): "ogm ogv ogx",
    ("tta", "tta"): "tta",
    ("vob", "mp2"): "vob",
    ("webm", "libopus"): "weba webm",
    ("wv", "wavpack"): "wv",
}
CONTAINERS = {f".{suffix}": kind for kind, suffixes in _CONTAINERS.items() for suffix in suffixes.split()}
# Codecs that libsndfile does not write into a format that it writes otherwise.
ALSO_WRITTEN_BY_PYAV = {
    ".caf": ("caf", ("alac",)),
    ".oga": ("oga", ("flac",)),
    ".ogg": ("ogg", ("flac",)),
    ".wav": ("wav", ("adpcm_ima_wav", "adpcm_ms")),  # with the source's blocks, where FFmpeg takes their size
}
# Suffixes of files that FFmpeg reads. Most .ts are TypeScript: see folders.py.
READABLE = (
    "aa3 adts ape awb dff dsf dss dts dtshd ec3 f4a gsm isma latm loas m2a m4p m4r mlp mp+ mp1 mpa mpc mpp oma omg qcp "
    "ra shn tak thd xwma 3gpp asf divx dv dvr-ms gxf ismv mj2 mk3d mpe mxf nut ogm ogx psp rm rmvb tod trp wtv"
)
READ_ONLY = {f".{name}" for name in READABLE.split()} - AUDIO_SUFFIXES - CONTAINERS.keys()
"""Suffixes of files that are read but not written."""
CONTAINER_SUFFIXES = (READ_ONLY | CONTAINERS.keys()) - AUDIO_SUFFIXES
"""Suffixes of files that PyAV writes or reads."""


CODECS = {
    "IMA_ADPCM": "adpcm_ima_wav",
    "MPEG_LAYER_I": "mp1",
    "MPEG_LAYER_II": "mp2",
    "MPEG_LAYER_III": "mp3",
    "MS_ADPCM": "adpcm_ms",
    "OPUS": "opus",
    "VORBIS": "vorbis",
}
"""libavcodec's names of libsndfile's subtypes."""


ADPCM_BLOCKS = tuple(1 << power for power in range(5, 14))
"""Sizes in bytes of blocks that FFmpeg writes."""


def codec_of(subtype: str) -> str:
    """libavcodec's name of a subtype that either library names; of PCM libsndfile's name."""
    return CODECS.get(subtype, subtype)


def suffix_of(path: str | Path) -> str:
    return PurePath(str(path)).suffix.lower()


def adpcm_block(info: AudioInfo) -> int:
    """Bytes of a block of ADPCM in wav, by the samples in ``padding``; 0 for other codecs."""
    halves = {"IMA_ADPCM": (1, 4), "MS_ADPCM": (2, 7)}.get(info.subtype)
    if halves is None or not info.padding:
        return 0
    in_head, head = halves  # of each channel: samples and bytes
    return info.num_channels * ((info.padding - in_head) // 2 + head)


def muxer_for(path: str | Path, info: AudioInfo) -> tuple[str, str] | None:
    """libavformat's name of the container, and the usual encoders, if PyAV writes this file; None if libsndfile does.

    Args:
        path: the file to be written.
        info: of the source.
    """
    suffix = suffix_of(path)
    if suffix in CONTAINERS:
        return CONTAINERS[suffix]
    muxer, codecs = ALSO_WRITTEN_BY_PYAV.get(suffix, ("", ()))
    codec = codec_of(info.subtype)
    if codec not in codecs or (muxer == "wav" and adpcm_block(info) not in ADPCM_BLOCKS):
        return None
    return muxer, codec


def libsndfile_format(path: Path) -> str:
    """Raises :class:`AudioError` if no format has this suffix."""
    suffix = path.suffix.lower()
    if suffix in READ_ONLY:
        raise AudioError(f"{path}: {suffix} can be read but not written; name an output such as {path.stem}.flac")
    if suffix not in FORMAT_OF_SUFFIX:
        raise AudioError(f"{path}: no audio format has the suffix {path.suffix!r}; use .wav, .flac, .ogg or .mp3")
    return FORMAT_OF_SUFFIX[suffix]
