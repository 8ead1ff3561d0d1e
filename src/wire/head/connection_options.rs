//! The options of the `Connection` field (RFC 9110 section 7.6.1).

use super::super::fields::Fields;
use super::{HeadRefusal, Version};

/// Most options of one head. Browsers send one or two. Every field is compared with every option,
/// so their number must be limited.
const OPTIONS_MAX: usize = 16;

/// The options that concern the connection itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    pub(super) upgrade: bool,
}

impl ConnectionOptions {
    pub(super) fn of(fields: &Fields) -> Result<Self, HeadRefusal> {
        let mut options = Self::default();
        for (n, option) in fields.members("connection").enumerate() {
            if n == OPTIONS_MAX {
                return Err(HeadRefusal::BadRequest("too many Connection options"));
            }
            options.close |= option.eq_ignore_ascii_case(b"close");
            options.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            options.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(options)
    }

    /// Whether the sender keeps the connection open (RFC 9112 section 9.3).
    pub(super) fn keeps_alive(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}
