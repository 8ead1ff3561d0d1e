//! Who may use the secured routes: a gate, and the usual one, bearer tokens (RFC 6750).

use std::fmt;

use super::call::Call;
use super::exchange::Exchange;
use super::reply::Failure;
use crate::secret::Secret;

/// What guards secured routes.
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// Who asks, as the audit names it.
    ///
    /// # Errors
    /// The answer to a request that is refused.
    fn identify(&self, asking: &Asking<'_>) -> Result<&'static str, Failure>;
}

/// The head of a request, before or after its content was read.
#[derive(Clone, Copy, Debug)]
pub enum Asking<'a> {
    /// Before.
    Head(&'a Exchange),
    /// After.
    Whole(&'a Call),
}

impl Asking<'_> {
    /// First value of a field, if it is ASCII.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        match self {
            // `name` need not live as long as what is found under it.
            Self::Head(exchange) => exchange.head.fields.iter().find_map(|(n, value)| {
                let is_it = n.eq_ignore_ascii_case(name.as_bytes()) && value.is_ascii();
                is_it.then(|| std::str::from_utf8(value).ok()).flatten()
            }),
            Self::Whole(call) => call.header(name),
        }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        match self {
            Self::Head(exchange) => exchange.head.method.as_str(),
            Self::Whole(call) => call.method.as_ref(),
        }
    }

    /// Whether it asks for a change.
    #[must_use]
    pub fn changes(&self) -> bool {
        !matches!(self.method(), "GET" | "HEAD")
    }

    /// Whether `Origin` names another origin than the one that was asked. Programs send none.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        let host = match self {
            Self::Head(exchange) => exchange.head.host(),
            Self::Whole(call) => &call.host,
        };
        self.field("origin").is_some_and(|o| !is_origin_of(o, host))
    }
}

fn is_origin_of(origin: &str, host: &str) -> bool {
    let named = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    named.is_some_and(|named| named.eq_ignore_ascii_case(host))
}

/// 403 for a request of another origin.
#[must_use]
pub(crate) fn foreign() -> Failure {
    let what = "requests of other origins are refused";
    Failure::new(403, "forbidden_origin", what)
}

/// The tokens that open the secured routes.
#[derive(Debug)]
pub struct Bearer {
    tokens: Vec<(&'static str, Secret)>,
}

impl Bearer {
    /// Accepts any of these; empty ones match nothing.
    #[must_use]
    pub fn new(tokens: Vec<Secret>) -> Self {
        let named = tokens.into_iter().map(|token| ("admin_token", token));
        Self::named(named.collect())
    }

    /// Accepts any of these, each with the name that the audit knows it by.
    #[must_use]
    pub fn named(tokens: Vec<(&'static str, Secret)>) -> Self {
        Self { tokens }
    }

    /// The name of the token that this `Authorization` value carries. Every token is compared,
    /// each in constant time.
    #[must_use]
    pub fn who(&self, authorization: Option<&str>) -> Option<&'static str> {
        let (scheme, token) = authorization.and_then(|v| v.split_once(' '))?;
        let token = token.trim_start_matches(' ').as_bytes();
        let mut found = None;
        for (name, secret) in &self.tokens {
            let matches = secret.matches(token);
            found = found.or(matches.then_some(*name));
        }
        found.filter(|_| scheme.eq_ignore_ascii_case("bearer"))
    }

    /// Whether this `Authorization` value carries one of the tokens.
    #[must_use]
    pub fn accepts(&self, authorization: Option<&str>) -> bool {
        self.who(authorization).is_some()
    }

    /// Lets the call pass or not.
    ///
    /// # Errors
    /// 401 with `WWW-Authenticate: Bearer`.
    pub fn check(&self, call: &Call) -> Result<(), Failure> {
        self.identify(&Asking::Whole(call)).map(|_| ())
    }
}

impl Gate for Bearer {
    /// 401 with `WWW-Authenticate: Bearer` for who has no token.
    fn identify(&self, asking: &Asking<'_>) -> Result<&'static str, Failure> {
        self.who(asking.field("authorization")).ok_or_else(|| {
            Failure::new(401, "unauthorized", "send Authorization: Bearer <token>")
                .header("WWW-Authenticate", "Bearer")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_ours_when_it_names_the_host_that_was_asked() {
        for (origin, host) in [
            ("https://Neck.example", "neck.example"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_origin_of(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "null"),
            ("", ""),
            ("neck.example", "neck.example"),
            ("https://neck.example.evil", "neck.example"),
            ("https://neck.example:8443", "neck.example"),
            ("ftp://neck.example", "neck.example"),
        ] {
            assert!(!is_origin_of(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn only_the_exact_token_under_the_bearer_scheme_is_accepted() {
        let bearer = Bearer::new(vec![Secret::new("alpha"), Secret::default()]);
        for good in ["Bearer alpha", "bearer alpha", "BEARER  alpha"] {
            assert!(bearer.accepts(Some(good)), "{good}");
        }
        for bad in [
            None,
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer alph"),
            Some("Bearer Alpha"),
            Some("Bearer alphaa"),
            Some("Basic alpha"),
            Some("alpha"),
            Some("Bearer alpha "),
        ] {
            assert!(!bearer.accepts(bad), "{bad:?}");
        }
    }
}
