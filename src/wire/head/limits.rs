//! What a head may cost.

/// Most field lines a head may have; the array lives on the stack.
pub(super) const LINES_MAX: usize = 100 + RELAYED_LINES;
/// What a neck before this one may have added to a head that was within its own limits: an
/// address, a protocol, `Via`, a request id, a length, a host, an encoding.
pub(super) const RELAYED_BYTES: usize = 1024;
pub(super) const RELAYED_LINES: usize = 8;
/// How a neck names itself in `Via`. A client that claims to be one gains those few bytes.
pub const VIA: &[u8] = b"1.1 hydraneckwebrtc";

/// What a head may cost.
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
    /// For requests of strangers: browsers send 2 KiB or less, 16 KiB is what nginx and HAProxy
    /// take with their usual settings; 8000 bytes of target are what RFC 9110 section 4.1 asks for.
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

    /// The limit of bytes while the fields are not known.
    pub(super) fn scanned(&self) -> usize {
        self.head
            + if self.is_of_requests() {
                RELAYED_BYTES
            } else {
                0
            }
    }
}
