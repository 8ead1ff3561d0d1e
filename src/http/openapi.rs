//! The document that describes both roles' API. A test holds it against their routes and shapes.

use super::reply::Reply;

/// OpenAPI 3.1.
pub const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// `GET /api/v1/openapi.json`.
#[must_use]
pub(crate) fn reply() -> Reply {
    Reply::text(200, "application/json", DOCUMENT).header("Cache-Control", "max-age=300")
}
