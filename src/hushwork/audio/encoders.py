"""The encoders of FFmpeg that a container takes, and the codec tags that it allows."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Any

import av
import numpy as np

from hushwork.audio.av_reader import LIBSNDFILE_FORMATS, LIBSNDFILE_SUBTYPES, PIECE, codec_tag
from hushwork.audio.formats import adpcm_block, codec_of
from hushwork.audio.info import AudioInfo

ENCODERS = {"mp3": "libmp3lame", "opus": "libopus", "vorbis": "libvorbis", "amr_nb": "libopencore_amrnb"}
LAYOUTS = dict(enumerate(("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"), 1))
BIT_RATE = 96_000  # per channel at least, so that a second encoding stays inaudible
DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Encoder:
    """An encoder, its settings, and its delay in samples."""

    name: str
    settings: dict[str, Any] = field(hash=False)
    delay: int

    @property
    def layout(self) -> str:
        return str(self.settings["layout"])

    @property
    def form(self) -> str:
        return str(self.settings["format"])

    def added_to(self, container: Any) -> Any:
        """Add a stream with this encoder to a container."""
        settings = dict(self.settings)
        tag = settings.pop("codec_tag", None)
        stream = container.add_stream(self.name, **settings)
        if tag:
            stream.codec_context.codec_tag = tag
        return stream


def find_encoder(muxer: str, usual: str, info: AudioInfo, template: Any = None, codec: str = "") -> Encoder | None:
    """The encoder of the source's codec, or else the usual one; None if neither fits the sound and the container.

    Args:
        muxer: libavformat's name of the container.
        usual: names of encoders.
        info: of the sound.
        template: the source's stream, whose codec, layout, sample format, bit rate and tag are kept; or None.
        codec: the source's, where there is no template, by either library's name.
    """
    names, layout, form, tag = usual.split(), "", "", ""
    bit_rate = BIT_RATE * info.num_channels
    if template:
        source = template.codec_context
        codec, tag = source.codec.canonical_name, codec_tag(template)
        codec = codec_of(info.subtype) if codec == "mp3" else codec  # in transport streams it may be mp2
        form, bit_rate = source.format.name if source.format else "", max(bit_rate, source.bit_rate or 0)
        layout = source.layout.name if source.layout.nb_channels == info.num_channels else ""
    if codec:
        codec = codec_of(codec)
        names.insert(0, ENCODERS.get(codec, codec))
    if not layout or layout.endswith(" channels"):  # the speakers of the channels are unknown
        layout = LAYOUTS.get(info.num_channels, "")
    block = adpcm_block(info) if muxer == "wav" else 0
    is_deep = info.subtype in DEEP or info.bits > 16
    tags = (tag, "") if tag else ("",)
    for name in dict.fromkeys(names):
        # Some encoders refuse a bit rate that is high for the sample rate.
        for tagged, share in product(tags if name == names[0] else ("",), (1, 2, 4)):
            try:
                settings = {"rate": info.sample_rate, "layout": layout, "format": _form_for(name, form, is_deep)}
                settings |= {"options": {"block_size": str(block)}} if block else {"bit_rate": bit_rate // share}
                encoder = Encoder(name, settings, _delay(name, settings))
                if tagged:
                    encoder.settings["codec_tag"] = tagged
                with av.open(io.BytesIO(), "w", format=muxer) as scratch:
                    encoder.added_to(scratch)
                    scratch.start_encoding()
                return encoder
            except (av.FFmpegError, ValueError, OSError):
                continue
    return None


def subtype_of(encoder: Encoder, muxer: str) -> str:
    """The subtype that :class:`AudioInfo` gives such sound."""
    name = str(av.Codec(encoder.name, "w").canonical_name)
    reader = {"oga": "ogg", "mp2": "mp3"}.get(muxer, muxer)
    return LIBSNDFILE_SUBTYPES.get(name, name) if reader in LIBSNDFILE_FORMATS else name


def allowed_tag(muxer: str, template: Any) -> str:
    """The codec tag of a stream, if such a container allows it for a copy; else ""."""
    if tag := codec_tag(template):
        try:
            with av.open(io.BytesIO(), "w", format=muxer) as scratch:
                scratch.add_stream_from_template(template, opaque=True).codec_context.codec_tag = tag
                scratch.start_encoding()
            return tag
        except (av.FFmpegError, ValueError, OSError):
            pass
    return ""


def frame_of(samples: np.ndarray, layout: str, rate: int, position: int) -> Any:
    """A frame of samples (C, n), float32 or float64, that begins at sample ``position``."""
    form = "dblp" if samples.dtype == np.float64 else "fltp"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=form, layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, position, Fraction(1, rate)
    return frame


def _form_for(encoder: str, source: str, is_deep: bool) -> str:
    """The input format of an encoder: that of the source, or else float, or else with enough bits."""
    formats = [form.name for form in av.Codec(encoder, "w").audio_formats or ()]
    order = [source, source.rstrip("p"), source.rstrip("p") + "p", "flt", "fltp"]
    order += ["s32", "s32p", "s16", "s16p"] if is_deep else ["s16", "s16p", "s32", "s32p"]
    return next((form for form in order if form in formats), (formats or ["fltp"])[0])


def _delay(name: str, settings: dict[str, Any]) -> int:
    """The delay of an encoder in samples. Raises av.FFmpegError or ValueError if it takes no such sound."""
    encoder: Any = av.CodecContext.create(name, "w")
    for setting, value in settings.items():
        setattr(encoder, setting, value)
    silence = np.zeros((encoder.layout.nb_channels, PIECE), np.float32)
    frame = frame_of(silence, settings["layout"], settings["rate"], 0)
    return -int([*encoder.encode(frame), *encoder.encode(None)][0].pts)
