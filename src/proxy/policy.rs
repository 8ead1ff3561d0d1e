//! How one request is forwarded, and what becomes of an upgrade.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::exec::Stop;

/// How one request is forwarded.
#[derive(Clone, Default)]
pub struct Policy {
    /// Fields set on the request, in place of any that the client sent.
    pub set: Vec<(&'static str, String)>,
    /// Cookies that pass; all others stay here. `None` passes all.
    pub cookies: Option<&'static [&'static str]>,
    /// Put into HTML documents right after `<head>`; ASCII.
    pub snippet: Option<Arc<str>>,
    /// Waited for when the upstream has switched, before the client learns it.
    pub on_tunnel: Option<Arc<dyn Fn() -> Admission + Send + Sync>>,
    /// What a browser is shown in place of a JSON error: HTML for a status.
    pub error_page: Option<Arc<dyn Fn(u16) -> String + Send + Sync>>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("snippet", &self.snippet.is_some())
            .finish_non_exhaustive()
    }
}

/// A tunnel's admission under way.
pub(crate) type Admission = Pin<Box<dyn Future<Output = Pass> + Send>>;

/// Leave to run a tunnel.
pub struct Pass {
    /// Cuts the tunnel.
    pub cut: Stop,
    /// Dropped when the tunnel has ended.
    pub keep: Box<dyn Any + Send + Sync>,
}
