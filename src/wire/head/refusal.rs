//! Why a message is refused, and the status that answers it.

use thiserror::Error;

/// Why a message is refused: the variant gives the status, the text the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadRefusal {
    /// 400.
    #[error("{0}")]
    BadRequest(&'static str),
    /// 414.
    #[error("{0}")]
    TargetTooLong(&'static str),
    /// 417.
    #[error("{0}")]
    ExpectationFailed(&'static str),
    /// 431.
    #[error("{0}")]
    HeadTooLarge(&'static str),
    /// 501.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// 505.
    #[error("{0}")]
    VersionNotSupported(&'static str),
}

impl HeadRefusal {
    fn parts(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest(what) => (400, what),
            Self::TargetTooLong(what) => (414, what),
            Self::ExpectationFailed(what) => (417, what),
            Self::HeadTooLarge(what) => (431, what),
            Self::NotImplemented(what) => (501, what),
            Self::VersionNotSupported(what) => (505, what),
        }
    }

    /// The HTTP status code.
    #[must_use]
    pub fn status(self) -> u16 {
        self.parts().0
    }

    /// The reason.
    #[must_use]
    pub fn what(self) -> &'static str {
        self.parts().1
    }
}
