//! The tls room.
