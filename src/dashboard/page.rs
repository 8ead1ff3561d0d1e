//! The page itself: who gets it, and what guards it in the browser.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::{Dashboard, assets};
use crate::clock;
use crate::http::auth::Asking;
use crate::http::{Call, Failure, Reply};

/// Random bytes of the nonce that lets our script and style in.
const NONCE: usize = 16;

/// The page for who is signed in, else the one that asks for the token.
///
/// # Errors
/// 403 when the browser wants the page for anything but a window of its own.
pub(super) fn show(dashboard: &Dashboard, call: &Call) -> Result<Reply, Failure> {
    let asking = Asking::Whole(call);
    let window = Window::of(call);
    let nonce = nonce(call)?;
    let pass = dashboard.pass(&asking);
    let (Some(pass), true) = (pass, window.is_own) else {
        if pass.is_some() || window.is_inner {
            // A script of this origin that fetches or frames the page must not find a proof in it.
            let what = "the dashboard opens in a window of its own, in a current browser";
            return Err(Failure::new(403, "forbidden", what));
        }
        let html = assets::SIGN_IN
            .replace("{nonce}", &nonce)
            // Whoever followed a link from elsewhere may be signed in: a strict cookie does not
            // come along. The page asks once more, by itself.
            .replace(
                "{again}",
                if window.is_from_elsewhere {
                    "yes"
                } else {
                    "no"
                },
            );
        return Ok(document(html, &nonce));
    };
    let html = assets::BOARD
        .replace("{nonce}", &nonce)
        .replace("{proof}", &dashboard.passes.proof(&pass))
        .replace("{until}", &clock::rfc3339(pass.ends()));
    Ok(document(html, &nonce))
}

/// What the browser says it wants the page for (Fetch Metadata). Scripts cannot forge it. Over
/// plain HTTP browsers say nothing.
struct Window {
    /// A window or tab is to show it.
    is_own: bool,
    /// A script or a frame asks for it.
    is_inner: bool,
    /// Another site led here.
    is_from_elsewhere: bool,
}

impl Window {
    fn of(call: &Call) -> Self {
        let field = |name| call.header(name);
        let (mode, dest) = (field("sec-fetch-mode"), field("sec-fetch-dest"));
        let site = field("sec-fetch-site");
        Self {
            is_own: match (mode, dest) {
                (Some(mode), Some(dest)) => mode == "navigate" && dest == "document",
                (None, None) => !call.secure,
                _ => false,
            },
            is_inner: dest.is_some_and(|dest| dest != "document"),
            is_from_elsewhere: matches!(site, Some("cross-site" | "same-site")),
        }
    }
}

fn nonce(call: &Call) -> Result<String, Failure> {
    let mut bytes = [0; NONCE];
    getrandom::fill(&mut bytes).map_err(|error| {
        log::error!(target: "http", "cannot make a nonce: {error} request_id={}", call.request_id);
        Failure::new(500, "internal", "the kernel has no random bytes to give")
    })?;
    Ok(BASE64.encode(bytes))
}

fn document(html: String, nonce: &str) -> Reply {
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    guarded(
        Reply::text(200, "text/html; charset=utf-8", html)
            .header("Content-Security-Policy", policy),
    )
}

/// What goes with each of the page's files: no frame, no opener, no cache, no referrer, no search
/// engine.
pub(super) fn guarded(reply: Reply) -> Reply {
    [
        ("X-Frame-Options", "DENY"),
        // Cuts the tie to whoever opened the window, also to a page of this origin.
        ("Cross-Origin-Opener-Policy", "same-origin"),
        (
            "Permissions-Policy",
            "camera=(), geolocation=(), microphone=()",
        ),
        ("X-Robots-Tag", "noindex"),
    ]
    .into_iter()
    .fold(reply, |reply, (name, value)| reply.header(name, value))
}
