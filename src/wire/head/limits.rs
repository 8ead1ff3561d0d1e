//! Limits on the size of a head.

/// Most field lines of a head; the array is on the stack.
pub(super) const LINES_MAX: usize = 100 + RELAYED_LINES;
/// Bytes and lines that another neck may have added to a head within its own limits: client
/// address, protocol, `Via`, request id, length, host, encoding.
pub(super) const RELAYED_BYTES: usize = 1024;
pub(super) const RELAYED_LINES: usize = 8;
/// The `Via` value of a neck. A client that forges it gains only those few bytes.
pub(crate) const VIA: &[u8] = b"1.1 hydraneckwebrtc";

/// Limits on the size of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Longest head in bytes, request line and final empty line included.
    pub head: usize,
    /// Longest request target in bytes.
    pub target: usize,
    /// Most field lines.
    pub lines: usize,
}

impl HeadLimits {
    /// For requests: browsers send 2 KiB or less, nginx and HAProxy accept 16 KiB by default, and
    /// RFC 9110 section 4.1 recommends at least 8000 bytes for the target.
    pub const REQUEST: Self = Self {
        head: 16 * 1024,
        target: 8_000,
        lines: 100,
    };
    /// For responses of upstreams and peers.
    pub const RESPONSE: Self = Self {
        head: 32 * 1024,
        target: 0,
        lines: 100,
    };

    pub(super) fn is_of_requests(&self) -> bool {
        self.target > 0
    }

    /// The limit in bytes before the fields, and so `Via`, are known.
    pub(super) fn scanned(&self) -> usize {
        self.head
            + if self.is_of_requests() {
                RELAYED_BYTES
            } else {
                0
            }
    }
}
