//! The clip: four seconds of VP8 that every viewer sees in a loop.
//!
//! It is part of the program (`clip/make.sh` makes it), parsed once and shared: a viewer clones
//! handles, never frames.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use rtc::media::io::ivf_reader::IVFReader;

/// The clip as the encoder wrote it.
const IVF: &[u8] = include_bytes!("clip/clip.ivf");

/// Frames a second, as encoded.
pub(super) const RATE: u32 = 30;

/// One frame's length, rounded up: rounded down, the packetizer's 90 kHz clock would count 2999
/// ticks instead of 3000.
pub(super) const FRAME: Duration = Duration::from_nanos(33_333_334);

/// Width of the picture in pixels.
pub(super) const WIDTH: u32 = 640;

/// Height of the picture in pixels.
pub(super) const HEIGHT: u32 = 360;

/// Frames in sending order.
pub(super) struct Clip {
    frames: Vec<Bytes>,
}

/// The clip cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClipError {
    /// It is no IVF file of VP8.
    NotVp8(String),
    /// The first frame needs others to be decoded.
    NoKeyframe,
}

impl fmt::Display for ClipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVp8(why) => write!(f, "clip is not VP8 in IVF: {why}; make it anew"),
            Self::NoKeyframe => f.write_str("clip does not start with a keyframe; make it anew"),
        }
    }
}

impl Clip {
    /// The built-in clip.
    ///
    /// # Errors
    /// When the program was built with a clip that cannot be played.
    pub(super) fn built_in() -> Result<Self, ClipError> {
        Self::parse(IVF)
    }

    fn parse(ivf: &[u8]) -> Result<Self, ClipError> {
        let (mut reader, header) =
            IVFReader::new(ivf).map_err(|e| ClipError::NotVp8(e.to_string()))?;
        if &header.four_cc != b"VP80" {
            let codec = String::from_utf8_lossy(&header.four_cc).into_owned();
            return Err(ClipError::NotVp8(format!("codec is {codec}")));
        }
        let mut frames = Vec::new();
        while let Ok((frame, _)) = reader.parse_next_frame() {
            frames.push(frame.freeze());
        }
        let clip = Self { frames };
        if clip.frames.first().is_some_and(|f| is_keyframe(f)) {
            Ok(clip)
        } else {
            Err(ClipError::NoKeyframe)
        }
    }

    /// The frame at `at`, counted on and on: the clip is a loop.
    pub(super) fn frame(&self, at: usize) -> Bytes {
        self.frames[at % self.frames.len()].clone()
    }

    /// The first position at or after `at` that a decoder can start from.
    pub(super) fn keyframe_from(&self, at: usize) -> usize {
        (at..at + self.frames.len())
            .find(|&n| is_keyframe(&self.frames[n % self.frames.len()]))
            .unwrap_or(at)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.frames.len()
    }
}

/// RFC 6386 section 9.1: the lowest bit of a VP8 frame is clear in a keyframe.
fn is_keyframe(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_clip_is_four_seconds_with_a_keyframe_every_second() {
        let clip = Clip::built_in().unwrap();
        assert_eq!(clip.len(), 4 * RATE as usize);
        assert_eq!(clip.keyframe_from(0), 0);
        assert!(clip.keyframe_from(1) <= RATE as usize);
        let last = clip.len() - 1;
        assert_eq!(clip.keyframe_from(last), clip.len(), "the loop starts over");
        assert_eq!(clip.frame(clip.len()), clip.frame(0));
    }

    #[test]
    fn what_is_not_a_clip_is_refused_with_a_reason() {
        assert!(matches!(Clip::parse(b"DKIF"), Err(ClipError::NotVp8(_))));
        let mut other = IVF.to_vec();
        other[8..12].copy_from_slice(b"AV01");
        let refused = Clip::parse(&other).err();
        assert_eq!(refused, Some(ClipError::NotVp8("codec is AV01".to_owned())));
    }
}
