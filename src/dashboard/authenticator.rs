//! Who may make the dashboard's calls: a cookie alone proves nothing.

use super::session_cookie::AdminSession;
use super::{Dashboard, WHO};
use crate::http::auth::{Asking, Gate, foreign};
use crate::http::reply::Failure;

/// The field that carries the proof: other origins cannot send it without asking first, and other
/// pages of this origin do not know it.
const PROOF: &str = "x-neck-proof";

/// 401, and not in a way that makes a browser ask for a password.
pub(super) fn unauthorized(what: &str) -> Failure {
    Failure::new(401, "unauthorized", what).header("WWW-Authenticate", "Cookie realm=\"/admin\"")
}

/// Calls come from a page of this very origin: the browser says so where it can
/// (`Sec-Fetch-Site`), and what asks for a change names its origin and sends JSON.
///
/// # Errors
/// 403, 415.
pub(super) fn check_sender(asking: &Asking<'_>) -> Result<(), Failure> {
    let site = asking.field("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") || asking.is_foreign() {
        return Err(foreign());
    }
    if asking.changes() && asking.field("origin").is_none() {
        return Err(foreign());
    }
    if asking.method() == "POST" {
        let kind = asking.field("content-type").unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let what = "send Content-Type: application/json";
            return Err(Failure::new(415, "unsupported_media_type", what));
        }
    }
    Ok(())
}

impl Dashboard {
    /// The pass of a call that our page made.
    fn proven(&self, asking: &Asking<'_>) -> Result<AdminSession, Failure> {
        check_sender(asking)?;
        let pass = self
            .pass(asking)
            .ok_or_else(|| unauthorized("sign in at /admin"))?;
        let proof = asking.field(PROOF).unwrap_or_default();
        if !self.passes.proves(&pass, proof) {
            let what = "only the page at /admin makes this call";
            return Err(Failure::new(403, "forbidden", what));
        }
        Ok(pass)
    }
}

impl Gate for Dashboard {
    fn identify(&self, asking: &Asking<'_>) -> Result<&'static str, Failure> {
        self.proven(asking).map(|_| WHO)
    }
}
