//! What the test card asks a body over GameStream's plain HTTP port.
//!
//! Simplified where the real protocol is cryptographic: pairing is the first phase alone, and
//! the app list is read over plain HTTP. A body double serves that; a real Sunshine does not
//! (it wants the later phases and a client certificate), so the test card cannot drive one.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use http_types::Method;
use serde::Serialize;

use super::messages::App;
use crate::http::client::{Client, ClientError, Outgoing};

/// How long a body may take to answer, as the original's connect timeout.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long a body may hold a pairing until somebody enters the PIN. The original waits for
/// ever; this is far beyond what a worker waits.
const PIN_WAIT: Duration = Duration::from_secs(180);
/// Most apps taken from a list.
const APPS_MAX: usize = 256;

/// A body, as one user sees it.
pub(super) struct RequestBody<'a> {
    /// What calls are made with.
    pub(super) client: &'a Client,
    /// Address or name.
    pub(super) address: &'a str,
    /// GameStream's HTTP port.
    pub(super) http_port: u16,
    /// The user's name, under which the body knows its pairing.
    pub(super) unique_id: &'a str,
}

/// A body did not do what it was asked.
#[derive(Debug)]
pub(super) enum RequestBodyError {
    /// Nobody answers there.
    Unreachable(ClientError),
    /// It answered with something else than GameStream's XML.
    NotGameStream(&'static str),
    /// It refused.
    Refused(u16, String),
}

impl fmt::Display for RequestBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "body does not answer: {error}"),
            Self::NotGameStream(what) => write!(f, "body's answer has no valid {what}"),
            Self::Refused(code, message) => write!(f, "body refuses with {code}: {message}"),
        }
    }
}

/// `serverinfo`, as far as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ServerInfo {
    #[serde(skip)]
    pub(super) name: String,
    pub(super) https_port: u16,
    pub(super) external_port: u16,
    pub(super) version: String,
    pub(super) gfe_version: String,
    pub(super) unique_id: String,
    pub(super) mac: Option<String>,
    pub(super) local_ip: Ipv4Addr,
    pub(super) current_game: u32,
    pub(super) max_luma_pixels_hevc: u32,
    pub(super) server_codec_mode_support: u32,
    #[serde(skip)]
    pub(super) is_busy: bool,
}

impl RequestBody<'_> {
    /// Who the body is and what it does.
    pub(super) async fn server_info(&self) -> Result<ServerInfo, RequestBodyError> {
        server_info(&self.ask("serverinfo", "", ANSWER_WAIT).await?)
    }

    /// Asks to be paired; the body answers when the PIN was entered there. The PIN itself never
    /// travels: it is the salt that a real body would mix it with.
    pub(super) async fn pair(&self) -> Result<bool, RequestBodyError> {
        let salt = format!("{}{}", crate::ids::label(), crate::ids::label());
        // "test card" in hexadecimal, where the PEM of a certificate would be.
        let query = format!(
            "&devicename=roth&updateState=1&phrase=getservercert&salt={salt}&clientcert=746573742063617264"
        );
        let xml = self.ask("pair", &query, PIN_WAIT).await?;
        Ok(tag(&xml, "paired").as_deref() == Some("1"))
    }

    /// The apps that can be streamed.
    pub(super) async fn apps(&self) -> Result<Vec<App>, RequestBodyError> {
        apps(&self.ask("applist", "", ANSWER_WAIT).await?)
    }

    /// Starts the app, or joins whatever runs: the original does not look which app that is.
    pub(super) async fn start(&self, app_id: u32, mode: &str) -> Result<bool, RequestBodyError> {
        let (call, verdict) = match self.server_info().await?.current_game {
            0 => ("launch", "gamesession"),
            _ => ("resume", "resume"),
        };
        let key = format!("{}{}", crate::ids::label(), crate::ids::label());
        let query =
            format!("&appid={app_id}&mode={mode}&rikey={key}&rikeyid=0&localAudioPlayMode=0");
        let xml = self.ask(call, &query, ANSWER_WAIT).await?;
        Ok(tag(&xml, verdict).as_deref() == Some("1"))
    }

    /// Quits whatever runs.
    pub(super) async fn cancel(&self) -> Result<bool, RequestBodyError> {
        let xml = self.ask("cancel", "", ANSWER_WAIT).await?;
        Ok(tag(&xml, "cancel").as_deref() == Some("1"))
    }

    async fn ask(
        &self,
        path: &str,
        query: &str,
        within: Duration,
    ) -> Result<String, RequestBodyError> {
        let url = self.url(path, query);
        let answer = self
            .client
            .send(Outgoing::new(Method::Get, url).within(within))
            .await
            .map_err(RequestBodyError::Unreachable)?;
        let xml =
            String::from_utf8(answer.body).map_err(|_| RequestBodyError::NotGameStream("text"))?;
        verdict(&xml)?;
        Ok(xml)
    }

    fn url(&self, path: &str, query: &str) -> String {
        let (unique_id, port) = (encoded(self.unique_id), self.http_port);
        let host = match self.address {
            v6 if v6.contains(':') => format!("[{v6}]"),
            other => other.to_owned(),
        };
        let uuid = crate::ids::label();
        format!("http://{host}:{port}/{path}?uniqueid={unique_id}&uuid={uuid}{query}")
    }
}

/// Whether `address` can stand in a URL as a host: an IP address or a DNS name.
pub(super) fn is_host(address: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    (1..=253).contains(&address.len()) && address.bytes().all(plain)
}

/// RFC 3986 percent-encoding of everything that is not unreserved.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The verdict is an attribute of the root; the HTTP status is always 200.
fn verdict(xml: &str) -> Result<(), RequestBodyError> {
    let start = xml
        .find("<root")
        .ok_or(RequestBodyError::NotGameStream("root"))?;
    let root = xml[start..].split('>').next().unwrap_or_default();
    let code: u16 = attribute(root, "status_code")
        .and_then(|code| code.parse().ok())
        .ok_or(RequestBodyError::NotGameStream("status_code"))?;
    if code / 100 == 2 {
        return Ok(());
    }
    let message = attribute(root, "status_message").unwrap_or_default();
    Err(RequestBodyError::Refused(code, message.to_owned()))
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!("{name}=\""))?;
    rest.split('"').next()
}

/// The text of the first `<name>text</name>`.
fn tag(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let text = text.replace("&quot;", "\"").replace("&apos;", "'");
    Some(text.replace("&amp;", "&"))
}

fn number<T: std::str::FromStr>(xml: &str, name: &'static str) -> Result<T, RequestBodyError> {
    tag(xml, name)
        .and_then(|text| text.parse().ok())
        .ok_or(RequestBodyError::NotGameStream(name))
}

fn checked(
    xml: &str,
    name: &'static str,
    is_valid: impl Fn(&str) -> bool,
) -> Result<String, RequestBodyError> {
    tag(xml, name)
        .filter(|text| is_valid(text))
        .ok_or(RequestBodyError::NotGameStream(name))
}

fn server_info(xml: &str) -> Result<ServerInfo, RequestBodyError> {
    let _: u32 = number(xml, "PairStatus")?;
    let state = checked(xml, "state", |s| s.ends_with("FREE") || s.ends_with("BUSY"))?;
    Ok(ServerInfo {
        name: checked(xml, "hostname", |_| true)?,
        https_port: number(xml, "HttpsPort")?,
        external_port: number(xml, "ExternalPort")?,
        version: checked(xml, "appversion", is_version)?,
        gfe_version: checked(xml, "GfeVersion", |s| !s.is_empty())?,
        unique_id: checked(xml, "uniqueid", is_uuid)?,
        mac: tag(xml, "mac"),
        local_ip: number(xml, "LocalIP")?,
        current_game: number(xml, "currentgame")?,
        max_luma_pixels_hevc: number(xml, "MaxLumaPixelsHEVC")?,
        server_codec_mode_support: number(xml, "ServerCodecModeSupport")?,
        is_busy: state.ends_with("BUSY"),
    })
}

/// Four integers with dots between them, as `7.1.431.-1`.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 4 && parts.iter().all(|part| part.parse::<i32>().is_ok())
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let hex = |b: u8| b.is_ascii_hexdigit() || b == b'-';
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(hex)
}

fn apps(xml: &str) -> Result<Vec<App>, RequestBodyError> {
    xml.split("<App>")
        .skip(1)
        .take(APPS_MAX)
        .map(|app| {
            Ok(App {
                app_id: number(app, "ID")?,
                title: checked(app, "AppTitle", |_| true)?,
                is_hdr_supported: tag(app, "IsHdrSupported").as_deref() == Some("1"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = r#"<?xml version="1.0" encoding="utf-8"?><root status_code="200">
        <hostname>body &amp; soul</hostname><appversion>7.1.431.-1</appversion>
        <GfeVersion>3.23.0.74</GfeVersion><uniqueid>0BF5B71D-6E2C-4D0A-9E2F-0123456789AB</uniqueid>
        <HttpsPort>47984</HttpsPort><ExternalPort>47989</ExternalPort>
        <MaxLumaPixelsHEVC>1869449984</MaxLumaPixelsHEVC><mac>00:00:00:00:00:00</mac>
        <LocalIP>10.0.1.50</LocalIP><ServerCodecModeSupport>257</ServerCodecModeSupport>
        <PairStatus>0</PairStatus><currentgame>0</currentgame>
        <state>SUNSHINE_SERVER_FREE</state></root>"#;

    #[test]
    fn a_serverinfo_is_read_and_every_field_is_needed() {
        let info = server_info(INFO).unwrap();
        assert_eq!(info.name, "body & soul");
        assert_eq!((info.https_port, info.is_busy), (47984, false));
        for (good, bad, field) in [
            ("7.1.431.-1", "7.1.431", "appversion"),
            ("0BF5B71D-", "", "uniqueid"),
            ("10.0.1.50", "fe80::1", "LocalIP"),
            ("_FREE", "_ASLEEP", "state"),
            ("<HttpsPort>47984</HttpsPort>", "", "HttpsPort"),
            ("<GfeVersion>3.23.0.74", "<GfeVersion>", "GfeVersion"),
        ] {
            let error = server_info(&INFO.replace(good, bad)).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn the_verdict_is_the_roots_attribute() {
        assert!(verdict(INFO).is_ok());
        let refused = verdict(r#"<root status_code="401" status_message="not authorized">"#);
        assert!(
            matches!(refused, Err(RequestBodyError::Refused(401, why)) if why == "not authorized")
        );
        for other in ["<html>", "<root>", r#"<root status_code="ok">"#, ""] {
            assert!(matches!(
                verdict(other),
                Err(RequestBodyError::NotGameStream(_))
            ));
        }
    }

    #[test]
    fn apps_are_read_in_order_and_a_torn_list_is_refused() {
        let xml = "<root status_code=\"200\"><App><IsHdrSupported>0</IsHdrSupported>\
            <AppTitle>Desktop</AppTitle><ID>881448767</ID></App><App><IsHdrSupported>1\
            </IsHdrSupported><AppTitle>A &lt;b&gt;</AppTitle><ID>7</ID></App></root>";
        let read = apps(xml).unwrap();
        assert_eq!(
            (read[0].app_id, read[0].title.as_str()),
            (881_448_767, "Desktop")
        );
        assert_eq!(
            (read[1].is_hdr_supported, read[1].title.as_str()),
            (true, "A <b>")
        );
        assert!(apps(&xml.replace("<ID>7</ID>", "")).is_err());
    }

    #[test]
    fn urls_are_built_so_that_nothing_escapes_its_place() {
        let client = Client::new(&crate::tls::Trust::Pinned(None)).unwrap();
        let body = RequestBody {
            client: &client,
            address: "fd00::1",
            http_port: 47989,
            unique_id: "a b&c=d",
        };
        let url = body.url("applist", "");
        assert!(url.starts_with("http://[fd00::1]:47989/applist?uniqueid=a%20b%26c%3Dd&uuid="));
        assert!(is_host("10.0.1.50") && is_host("body-1.local") && is_host("fd00::1"));
        for bad in ["", "a/b", "a?b", "a@b", "a b", "é"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
