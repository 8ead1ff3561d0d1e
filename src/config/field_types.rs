//! The types of values that a key can have: name, parser, remedy and printed form of each.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::environment::Environment;
use super::parsers;
use super::render::quoted;
use super::values::{Auto, Listen, VideoSize, WebServer};
use crate::secret::Secret;

/// How the value of a key is written.
pub(super) struct FieldType<T> {
    /// As the reference calls it.
    pub(super) name: String,
    /// What to write instead of a wrong value.
    pub(super) remedy: String,
    pub(super) parse: Parse<T>,
    /// The value as YAML.
    pub(super) show: Box<dyn Fn(&T) -> String>,
}

type Parse<T> = Box<dyn Fn(&str, &Environment) -> Result<T, String>>;

impl<T> FieldType<T> {
    fn new(
        name: impl Into<String>,
        remedy: impl Into<String>,
        parse: impl Fn(&str, &Environment) -> Result<T, String> + 'static,
        show: impl Fn(&T) -> String + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            remedy: remedy.into(),
            parse: Box::new(parse),
            show: Box::new(show),
        }
    }
}

/// A text of some form.
fn text<T: Display + 'static>(
    name: &str,
    remedy: &str,
    parse: fn(&str) -> Result<T, String>,
) -> FieldType<T> {
    let show = |value: &T| quoted(&value.to_string());
    FieldType::new(name, remedy, move |text, _| parse(text), show)
}

/// A path, however the environment completes it.
fn file(
    name: &str,
    remedy: &str,
    parse: fn(&Environment, &str) -> Result<PathBuf, String>,
) -> FieldType<PathBuf> {
    let show = |path: &PathBuf| quoted(&path.display().to_string());
    FieldType::new(
        name,
        remedy,
        move |text, environment| parse(environment, text),
        show,
    )
}

/// A quantity within bounds: `name` is what the reference writes in front of the bounds.
fn bounded<T: PartialOrd + 'static>(
    (name, noun, written): (&str, &str, &str),
    range: RangeInclusive<T>,
    parse: fn(&str) -> Result<T, String>,
    show: fn(&T) -> String,
) -> FieldType<T> {
    let span = format!("{} to {}", show(range.start()), show(range.end()));
    let remedy = format!("use {noun} from {span}{written}");
    let parse = move |text: &str, _: &Environment| match parse(text)? {
        value if range.contains(&value) => Ok(value),
        _ => Err(parsers::out_of_bounds(text)),
    };
    FieldType::new(format!("{name}{span}"), remedy, parse, show)
}

/// A whole number within bounds.
pub(super) fn count<N>(range: RangeInclusive<N>) -> FieldType<N>
where
    N: Display + FromStr + PartialOrd + 'static,
{
    let words = ("", "a whole number", "");
    bounded(words, range, parsers::number, N::to_string)
}

/// A duration within bounds.
pub(super) fn duration(range: RangeInclusive<Duration>) -> FieldType<Duration> {
    let written = ", written as `90s`, `5m`, `1h30m`";
    let show = |d: &Duration| humantime::format_duration(*d).to_string().replace(' ', "");
    let words = ("duration, ", "a duration", written);
    bounded(words, range, parsers::duration, show)
}

/// A size in bytes within bounds.
pub(super) fn size(range: RangeInclusive<u64>) -> FieldType<u64> {
    let words = ("size, ", "a size", "");
    bounded(words, range, parsers::size, |n| parsers::size_text(*n))
}

/// One word of a few.
pub(super) fn choice<T>(words: &'static [(&'static str, T)]) -> FieldType<T>
where
    T: Copy + PartialEq + Sync,
{
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let name = match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => names.concat(),
    };
    let parse = |text: &str, _: &Environment| {
        let found = words.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("{text:?} is not a valid value"))
    };
    let show = |value: &T| {
        let found = words.iter().find(|(_, v)| v == value);
        found.map_or("null", |(word, _)| word).to_owned()
    };
    FieldType::new(name.clone(), format!("write {name}"), parse, show)
}

/// `true` or `false`.
pub(super) fn flag() -> FieldType<bool> {
    choice(&[("true", true), ("false", false)])
}

/// Any text.
pub(super) fn any_text() -> FieldType<String> {
    text("text", "", |text| Ok(text.to_owned()))
}

/// A name of this fleet: a district, worker or channel.
pub(super) fn label() -> FieldType<String> {
    let remedy = "use up to 64 letters, digits, dots, dashes and underscores";
    text("name", remedy, parsers::label)
}

/// A host name.
pub(super) fn host_name() -> FieldType<String> {
    let remedy = "write the bare host name, without scheme, port and path";
    text("host name", remedy, parsers::domain)
}

/// A mail address.
pub(super) fn mail_address() -> FieldType<String> {
    let remedy = "write a mail address, as neck@example.com";
    text("mail address", remedy, parsers::mail_address)
}

const URL_NAME: &str = "http(s) URL";
const URL_REMEDY: &str = "write it as https://host or http://host:port";

/// A URL that is used as it is.
pub(super) fn url() -> FieldType<String> {
    text(URL_NAME, URL_REMEDY, parsers::url)
}

/// A URL that paths are appended to. The value has no trailing slash.
pub(super) fn base_url() -> FieldType<String> {
    text(URL_NAME, URL_REMEDY, parsers::base_url)
}

/// The address of a STUN or TURN server.
pub(super) fn ice_url() -> FieldType<String> {
    let remedy = "write it as stun:host:port, turn:host:port or turns:host:port?transport=tcp";
    text("stun: or turn: addresses", remedy, parsers::ice_url)
}

/// Where a server listens.
pub(super) fn listen() -> FieldType<Listen> {
    let remedy = "write it as \":8080\", \"127.0.0.1:8080\" or \"[::1]:8080\"";
    text("address", remedy, str::parse)
}

/// An IP address, or `auto`.
pub(super) fn auto_address() -> FieldType<Auto> {
    text(
        "auto or IP address",
        "write auto or an IP address",
        str::parse,
    )
}

/// A network of bodies, or a single address.
pub(super) fn network() -> FieldType<ipnet::IpNet> {
    let remedy = "write networks as 10.10.0.0/16 or fd00::/8";
    text("networks", remedy, parsers::network)
}

/// The size of the picture.
pub(super) fn video_size() -> FieldType<VideoSize> {
    let name = "720p, 1080p, 1440p, 4k, native or WIDTHxHEIGHT";
    let remedy = "use 720p, 1080p, 1440p, 4k, native, or a size as 1920x1080";
    text(name, remedy, str::parse)
}

/// The prefix of all keys in etcd.
pub(super) fn key_prefix() -> FieldType<String> {
    let remedy = "write it as /name, of letters, digits, dots, dashes and underscores";
    text("path", remedy, parsers::key_prefix)
}

/// An Ed25519 public key.
pub(super) fn public_key() -> FieldType<String> {
    let remedy = "write the 32 bytes of the Ed25519 public key as base64";
    text("base64", remedy, parsers::ed25519_key)
}

/// A directory, or a file that is written.
pub(super) fn path() -> FieldType<PathBuf> {
    let remedy = "write an absolute path, or one under `~/`";
    file("path", remedy, Environment::path)
}

/// A file that is read: a certificate or key. A bare name is a systemd credential.
pub(super) fn credential_file(name: &str) -> FieldType<PathBuf> {
    let remedy = "write an absolute path, one under `~/`, or the name of a systemd credential";
    file(name, remedy, Environment::credential)
}

/// The stream program: a path, or the built-in one.
pub(super) fn web_server() -> FieldType<WebServer> {
    let remedy = "write an absolute path, one under `~/`, or testcard";
    let parse = |text: &str, environment: &Environment| match text {
        WebServer::TEST_CARD => Ok(WebServer::TestCard),
        path => environment.path(path).map(WebServer::Program),
    };
    let show = |value: &WebServer| quoted(&value.to_string());
    FieldType::new("path or testcard", remedy, parse, show)
}

/// A secret: never printed.
pub(super) fn secret() -> FieldType<Secret> {
    let show = |_: &Secret| "\"***\"".to_owned();
    FieldType::new("secret", "", |text, _| Ok(Secret::new(text)), show)
}
