//! Bearer tokens (RFC 6750).

use super::call::Call;
use super::reply::Failure;
use crate::secret::Secret;

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
        self.check_value(call.header("authorization"))
    }

    /// As [`Self::check`], for an `Authorization` value.
    ///
    /// # Errors
    /// 401 with `WWW-Authenticate: Bearer`.
    pub fn check_value(&self, authorization: Option<&str>) -> Result<(), Failure> {
        if self.accepts(authorization) {
            return Ok(());
        }
        Err(
            Failure::new(401, "unauthorized", "send Authorization: Bearer <token>")
                .header("WWW-Authenticate", "Bearer"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
