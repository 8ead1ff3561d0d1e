//! Routes: method and path to handler, open or behind a gate.

use std::sync::Arc;

use async_trait::async_trait;
use http_types::Method;

use super::audit::{Audit, Caller};
use super::auth::{Asking, Gate};
use super::call::{Call, Handler};
use super::exchange::Exchange;
use super::reply::{Failure, Reply};

/// A table of routes; the first that fits answers. Paths compare by raw bytes, segment by
/// segment; a segment `:name` takes anything that is not empty, percent-encoding included.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
    /// What every path begins with.
    base: &'static str,
    gate: Option<Arc<dyn Gate>>,
    audit: Option<Arc<Audit>>,
}

struct Route {
    method: Method,
    path: Vec<&'static str>,
    secured: bool,
    is_audited: bool,
    handler: Box<dyn Handler>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.routes.iter().map(|r| (r.method, r.path.join("/"))))
            .finish()
    }
}

impl Router {
    /// A router whose secured routes are behind this gate.
    #[must_use]
    pub fn new(gate: Arc<dyn Gate>) -> Self {
        Self {
            gate: Some(gate),
            ..Self::default()
        }
    }

    /// Every path begins with `base`, which routes do not repeat.
    #[must_use]
    pub fn under(mut self, base: &'static str) -> Self {
        self.base = base;
        self
    }

    /// Secured routes that change something are audited from now on.
    #[must_use]
    pub fn audit(mut self, audit: Arc<Audit>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Takes the route that was added last out of the audit: machines call it all the time.
    #[must_use]
    pub fn unaudited(mut self) -> Self {
        if let Some(route) = self.routes.last_mut() {
            route.is_audited = false;
        }
        self
    }

    /// Adds a route that anybody may use.
    #[must_use]
    pub fn open(self, method: Method, path: &'static str, handler: impl Handler) -> Self {
        self.add(method, path, false, handler)
    }

    /// Adds a route behind the gate.
    #[must_use]
    pub fn secured(self, method: Method, path: &'static str, handler: impl Handler) -> Self {
        self.add(method, path, true, handler)
    }

    /// Adds a route behind the gate or not, as the configuration says.
    #[must_use]
    pub fn route(
        self,
        method: Method,
        path: &'static str,
        secured: bool,
        handler: impl Handler,
    ) -> Self {
        self.add(method, path, secured, handler)
    }

    fn add(
        mut self,
        method: Method,
        path: &'static str,
        secured: bool,
        handler: impl Handler,
    ) -> Self {
        let path = path.split('/').skip(1).collect();
        self.routes.push(Route {
            method,
            path,
            secured,
            is_audited: secured && !matches!(method, Method::Get | Method::Head),
            handler: Box::new(handler),
        });
        self
    }

    /// Every route as (method, path with `:name` segments, whether it is behind the gate).
    pub fn table(&self) -> impl Iterator<Item = (Method, String, bool)> + '_ {
        let path = |parts: &[&str]| {
            parts
                .iter()
                .flat_map(|part| ["/", part])
                .collect::<String>()
        };
        self.routes.iter().map(move |r| {
            (
                r.method,
                format!("{}{}", self.base, path(&r.path)),
                r.secured,
            )
        })
    }
}

fn fits(path: &[&'static str], raw: &str) -> Option<Vec<(&'static str, String)>> {
    let mut params = Vec::new();
    let mut parts = raw.split('/').skip(1);
    for wanted in path {
        let part = parts.next()?;
        match wanted.strip_prefix(':') {
            Some(_) if part.is_empty() => return None,
            Some(name) => params.push((name, part.to_owned())),
            None if *wanted == part => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(params)
}

/// The parts of a path that its route names.
type Params = Vec<(&'static str, String)>;

impl Router {
    /// The route of a request, and what its path says.
    fn find(&self, method: &str, path: &str) -> Result<(&Route, Params), Failure> {
        let mut allowed: Vec<&str> = Vec::new();
        let inner = path.strip_prefix(self.base);
        for route in &self.routes {
            let Some(params) = inner.and_then(|inner| fits(&route.path, inner)) else {
                continue;
            };
            let head_of_get = method == "HEAD" && route.method == Method::Get;
            if route.method.as_ref() == method || head_of_get {
                return Ok((route, params));
            }
            allowed.push(route.method.as_ref());
        }
        if allowed.is_empty() {
            return Err(Failure::not_found("path"));
        }
        let what = format!("{method} is not allowed here");
        Err(Failure::new(405, "method_not_allowed", what).header("Allow", allowed.join(", ")))
    }

    /// Who asks, where the route wants to know.
    fn check(&self, route: &Route, asking: &Asking<'_>) -> Result<&'static str, Failure> {
        match &self.gate {
            Some(gate) if route.secured => gate.identify(asking),
            _ => Ok("anybody"),
        }
    }

    fn audit_of(&self, route: &Route) -> Option<&Audit> {
        self.audit.as_deref().filter(|_| route.is_audited)
    }
}

#[async_trait]
impl Handler for Router {
    fn admit(&self, exchange: &Exchange) -> Result<(), Failure> {
        let head = &exchange.head;
        let (route, _) = self.find(head.method.as_str(), head.path())?;
        let outcome = self.check(route, &Asking::Head(exchange));
        if let (Err(failure), Some(audit)) = (&outcome, self.audit_of(route)) {
            audit.note("nobody", &Caller::asking(exchange), &Err(failure.clone()));
        }
        outcome.map(|_| ())
    }

    async fn answer(&self, mut call: Call) -> Result<Reply, Failure> {
        let (route, params) = self.find(call.method.as_ref(), &call.path)?;
        // Looked at again: not every caller of a handler admits first.
        let who = self.check(route, &Asking::Whole(&call))?;
        call.params = params;
        let Some(audit) = self.audit_of(route) else {
            return route.handler.answer(call).await;
        };
        let caller = Caller::of(&call);
        let outcome = route.handler.answer(call).await;
        audit.note(who, &caller, &outcome);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_by_whole_raw_segments() {
        let path = ["api", "v1", "sessions", ":id"];
        assert_eq!(
            fits(&path, "/api/v1/sessions/a%2fb"),
            Some(vec![("id", "a%2fb".to_owned())])
        );
        for other in [
            "/api/v1/sessions",
            "/api/v1/sessions/",
            "/api/v1/sessions/a/b",
            "/API/v1/sessions/a",
            "/",
        ] {
            assert_eq!(fits(&path, other), None, "{other}");
        }
        assert_eq!(fits(&["livez"], "/livez"), Some(Vec::new()));
        assert_eq!(fits(&[], ""), Some(Vec::new()));
        assert_eq!(fits(&[], "/"), None);
        assert_eq!(fits(&[""], "/"), Some(Vec::new()));
    }
}
