//! Who is calling: the forwarded header before everything else, as the original has it.
//!
//! There are no logins here, so bearer tokens and cookies are never valid; they are judged all
//! the same, because a proxy that forwards its own `Authorization` must see the original's 400.

use super::settings::CardWebServer;

/// What a request says of its sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A name the proxy vouches for.
    Name(String),
    /// Nothing; the configured default user.
    Default(u32),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// 400: a header is malformed.
    Malformed(&'static str),
    /// 401: no valid credentials.
    Unauthorized,
}

/// Judges the headers; `header` gives the first of that name.
///
/// # Errors
/// When the headers name nobody.
pub(super) fn claim<'a>(
    server: &CardWebServer,
    header: impl Fn(&str) -> Option<&'a str>,
) -> Result<Claim, Denied> {
    let forwarded = server.forwarded_header.as_ref();
    if let Some(name) = forwarded.and_then(|f| header(&f.username_header)) {
        let visible = |b: u8| (0x20..0x7f).contains(&b);
        return if !name.is_empty() && name.bytes().all(visible) {
            Ok(Claim::Name(name.to_owned()))
        } else {
            Err(Denied::Malformed("user header is not visible ASCII"))
        };
    }
    if let Some(credentials) = header("authorization") {
        return Err(match credentials.strip_prefix("Bearer ") {
            Some(token) if is_token(token) => Denied::Unauthorized,
            _ => Denied::Malformed("authorization is no bearer token"),
        });
    }
    if header("cookie").is_some_and(|cookies| cookies.contains("mlSession=")) {
        return Err(Denied::Unauthorized);
    }
    server
        .default_user_id
        .map(Claim::Default)
        .ok_or(Denied::Unauthorized)
}

/// 64 hexadecimal digits.
fn is_token(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::super::settings::ForwardedHeader;
    use super::*;

    fn judge(server: &CardWebServer, headers: &[(&str, &'static str)]) -> Result<Claim, Denied> {
        claim(server, |name| {
            let found = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map(|(_, value)| *value)
        })
    }

    #[test]
    fn the_first_matching_way_decides() {
        let mut closed = CardWebServer::default();
        closed.forwarded_header = Some(ForwardedHeader {
            username_header: "X-Forwarded-User".to_owned(),
            auto_create_missing_user: true,
        });
        let named = |name: &str| Ok(Claim::Name(name.to_owned()));
        let token = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let bearer: &'static str = Box::leak(format!("Bearer {token}").into_boxed_str());
        let malformed = |r: &Result<Claim, Denied>| matches!(r, Err(Denied::Malformed(_)));
        assert_eq!(judge(&closed, &[("x-forwarded-user", "a")]), named("a"));
        let first = judge(
            &closed,
            &[
                ("X-Forwarded-User", "a"),
                ("X-Forwarded-User", "b"),
                ("Authorization", "Basic x"),
            ],
        );
        assert_eq!(first, named("a"));
        assert!(malformed(&judge(&closed, &[("X-Forwarded-User", "é")])));
        assert!(malformed(&judge(&closed, &[("X-Forwarded-User", "")])));
        assert!(malformed(&judge(&closed, &[("Authorization", "Basic x")])));
        for nobody in [
            &[][..],
            &[("Authorization", bearer)],
            &[("Cookie", "mlSession=00")],
            &[("X_Forwarded_User", "a")],
        ] {
            assert_eq!(judge(&closed, nobody), Err(Denied::Unauthorized));
        }
        let mut open = CardWebServer::default();
        open.default_user_id = Some(7);
        assert_eq!(judge(&open, &[]), Ok(Claim::Default(7)));
    }
}
