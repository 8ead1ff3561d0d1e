//! The keys of whom this process speaks to: controller, relays, services. See `keys`.

use super::keys::{DAY, INSTANT, URL, secs, unset};
use super::kinds;
use super::model::{Controller, IceServer, Peer, Turn};
use super::section::Section;

const ICE: (&str, &str) = (
    "stun: or turn: addresses",
    "write it as stun:host:port, turn:host:port or turns:host:port?transport=tcp",
);

pub(super) fn controller(s: &Section<'_>) -> Controller {
    let urls = s.list(
        "url",
        URL,
        unset("https://hydraneckwebrtc.example.com"),
        "The controller this worker reports to; a list of them when several share one `store`: \
         the worker uses one that answers. Without it the worker serves alone.",
        kinds::base_url,
    );
    let token = s.secret(
        "token",
        "token_file",
        "The controller's `server.admin_token`.",
    );
    let is_written = s.has("token") || s.has("token_file");
    if urls.is_some() && !is_written {
        s.complain(
            "token",
            "is missing",
            "write the controller's admin_token here, or its path as token_file",
        );
    }
    Controller {
        urls: urls.unwrap_or_default(),
        token,
        ca_file: s.file(
            "ca_file",
            unset("/etc/hydraneckwebrtc/controller-ca.pem"),
            "Trust this authority for the controller, beside the public ones.",
        ),
        heartbeat_interval: s.duration(
            "heartbeat_interval",
            secs(5),
            INSTANT..=secs(300),
            "How often the worker reports. The controller places no session on a worker that \
             was silent for three of these.",
        ),
    }
}

pub(super) fn ice_server(s: &Section<'_>) -> IceServer {
    let urls = s.list(
        "urls",
        ICE,
        unset("[\"stun:stun.example.com:3478\"]"),
        "Addresses of one server.",
        kinds::ice_url,
    );
    let is_turn = urls.iter().flatten().any(|u| u.starts_with("turn"));
    if !s.has("urls") && !s.is_template() {
        s.complain("urls", "is missing", "list the server's addresses");
    }
    let username = s.form_if_any(
        "username",
        ("text", ""),
        unset("hydraturn"),
        "The user of a TURN server.",
        |text| Ok(text.to_owned()),
    );
    let credential = s.secret("credential", "credential_file", "The user's password.");
    let is_complete = s.has("username") && (s.has("credential") || s.has("credential_file"));
    if is_turn && !is_complete {
        s.complain(
            "urls",
            "names a TURN server without username and credential",
            "add both, or let the `turn` section mint them",
        );
    }
    IceServer {
        urls: urls.unwrap_or_default(),
        username,
        credential,
    }
}

pub(super) fn turn(s: &Section<'_>) -> Option<Turn> {
    let secret = s.secret(
        "secret",
        "secret_file",
        "The secret shared with coturn (`use-auth-secret`).",
    );
    let urls = s.list(
        "urls",
        ICE,
        unset("[\"turn:relay.example.com:3478\"]"),
        "Addresses of the TURN server.",
        kinds::ice_url,
    );
    let has_secret = s.has("secret") || s.has("secret_file");
    if has_secret && !s.has("urls") {
        s.complain(
            "urls",
            "is missing",
            "list the addresses of the TURN server",
        );
    }
    if s.has("urls") && !has_secret {
        s.complain(
            "secret_file",
            "is missing",
            "name the file with coturn's static-auth-secret, or use ice_servers",
        );
    }
    let ttl = s.duration(
        "ttl",
        secs(600),
        secs(30)..=DAY,
        "How long a minted credential opens new relays; running ones go on.",
    );
    secret
        .zip(urls)
        .map(|(secret, urls)| Turn { secret, urls, ttl })
}

pub(super) fn peer(s: &Section<'_>, name: &'static str) -> Option<Peer> {
    let example = match name {
        "nps" => "https://hydranps.example.com",
        _ => "https://library.example.com",
    };
    let url = s.form_if_any(
        "url",
        URL,
        unset(example),
        "Its address. Without it nothing is sent.",
        kinds::base_url,
    );
    let token = s.secret("token", "token_file", "The bearer token it asks for.");
    if url.is_some() && !(s.has("token") || s.has("token_file")) {
        s.warn(
            "url",
            "has no token beside it",
            "add the token the service asks for",
        );
    }
    if !s.has("url") && token.is_some() {
        s.complain("url", "is missing", "add it, or remove the token");
    }
    url.map(|url| Peer { url, token })
}
