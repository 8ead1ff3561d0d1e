//! Why a message is not accepted, and what its sender is told.

use std::error::Error;
use std::fmt;

/// Why a message is not accepted: the status to answer with, and the reason in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRefusal {
    /// 400.
    BadRequest(&'static str),
    /// 413.
    ContentTooLarge(&'static str),
    /// 414.
    TargetTooLong(&'static str),
    /// 417.
    ExpectationFailed(&'static str),
    /// 431.
    HeadTooLarge(&'static str),
    /// 501.
    NotImplemented(&'static str),
    /// 505.
    VersionNotSupported(&'static str),
}

impl HeadRefusal {
    /// The HTTP status code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::ContentTooLarge(_) => 413,
            Self::TargetTooLong(_) => 414,
            Self::ExpectationFailed(_) => 417,
            Self::HeadTooLarge(_) => 431,
            Self::NotImplemented(_) => 501,
            Self::VersionNotSupported(_) => 505,
        }
    }

    /// What was wrong.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::BadRequest(w)
            | Self::ContentTooLarge(w)
            | Self::TargetTooLong(w)
            | Self::ExpectationFailed(w)
            | Self::HeadTooLarge(w)
            | Self::NotImplemented(w)
            | Self::VersionNotSupported(w) => w,
        }
    }
}

impl fmt::Display for HeadRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

impl Error for HeadRefusal {}
