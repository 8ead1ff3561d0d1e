//! The sans-IO files of the wire room, unchanged.

#[path = "../../src/wire/chunked.rs"]
pub mod chunked;
#[path = "../../src/wire/fields.rs"]
pub mod fields;
#[path = "../../src/wire/framing.rs"]
pub mod framing;
#[path = "../../src/wire/head/mod.rs"]
pub mod head;
#[path = "../../src/wire/target.rs"]
pub mod target;
