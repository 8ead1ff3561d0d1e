//! Routes: method and path to handler, with or without a bearer token.

use std::sync::Arc;

use async_trait::async_trait;
use http_types::Method;

use super::auth::Bearer;
use super::call::{Call, Handler};
use super::reply::{Failure, Reply};
use crate::wire::RequestHead;

/// A table of routes; the first that fits answers. Paths compare by raw bytes, segment by
/// segment; a segment `:name` takes anything that is not empty, percent-encoding included.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
    bearer: Option<Arc<Bearer>>,
}

struct Route {
    method: Method,
    path: Vec<&'static str>,
    secured: bool,
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
    /// A router whose secured routes ask for one of these tokens.
    #[must_use]
    pub fn new(bearer: Arc<Bearer>) -> Self {
        Self {
            routes: Vec::new(),
            bearer: Some(bearer),
        }
    }

    /// Adds a route that anybody may use.
    #[must_use]
    pub fn open(self, method: Method, path: &'static str, handler: impl Handler) -> Self {
        self.add(method, path, false, handler)
    }

    /// Adds a route that asks for the bearer token.
    #[must_use]
    pub fn secured(self, method: Method, path: &'static str, handler: impl Handler) -> Self {
        self.add(method, path, true, handler)
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
            handler: Box::new(handler),
        });
        self
    }

    /// Every route as (method, path with `:name` segments, whether it asks for a token).
    pub fn table(&self) -> impl Iterator<Item = (Method, String, bool)> + '_ {
        self.routes
            .iter()
            .map(|r| (r.method, format!("/{}", r.path.join("/")), r.secured))
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
    /// The route of a request that may be made, and what its path says.
    fn find(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
    ) -> Result<(&Route, Params), Failure> {
        let mut allowed: Vec<&str> = Vec::new();
        for route in &self.routes {
            let Some(params) = fits(&route.path, path) else {
                continue;
            };
            let head_of_get = method == "HEAD" && route.method == Method::Get;
            if route.method.as_ref() != method && !head_of_get {
                allowed.push(route.method.as_ref());
                continue;
            }
            if route.secured
                && let Some(bearer) = &self.bearer
            {
                bearer.check_value(authorization)?;
            }
            return Ok((route, params));
        }
        if allowed.is_empty() {
            return Err(Failure::not_found("path"));
        }
        let what = format!("{method} is not allowed here");
        Err(Failure::new(405, "method_not_allowed", what).header("Allow", allowed.join(", ")))
    }
}

#[async_trait]
impl Handler for Router {
    fn admit(&self, head: &RequestHead) -> Result<(), Failure> {
        let authorization = head.fields.text("authorization");
        self.find(head.method.as_str(), head.path(), authorization)
            .map(|_| ())
    }

    async fn answer(&self, mut call: Call) -> Result<Reply, Failure> {
        let authorization = call.header("authorization");
        let (route, params) = self.find(call.method.as_ref(), &call.path, authorization)?;
        call.params = params;
        route.handler.answer(call).await
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
    }
}
