//! Speaking to a controller or worker: which one, with which token, and what an error says.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http_types::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::Remote;
use super::{EX_CONFIG, EX_UNAVAILABLE, fail};
use crate::config::{Config, ConfigError, Role};
use crate::exec;
use crate::http::client::{Answer, Client, ClientError, Outgoing};
use crate::http::server::listen_address;
use crate::protocol::ErrorBody;
use crate::secret::Secret;
use crate::tls::Trust;

/// Wait for an answer: a create waits for the stream, which a controller gives 75 s.
const WITHIN: Duration = Duration::from_secs(90);
/// Longest word of a user in a path.
const SEGMENT_MAX: usize = 128;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum CommandError {
    /// The configuration, which would have said whom to speak to, is wrong or not there.
    Config(ConfigError),
    /// The configuration does not say whom to speak to.
    Nobody(&'static str),
    /// What was asked for cannot be asked for.
    Usage(String),
    /// No answer.
    Unavailable(String, ClientError),
    /// The server knows nothing of it.
    NotFound(String),
    /// The answer is another refusal.
    Refused(String),
    /// stdout cannot be written.
    Output(std::io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => {
                write!(f, "{error}; or name the server with --url and --token")
            }
            Self::Nobody(what) => write!(f, "{what}; name the server with --url and --token"),
            Self::NotFound(what) | Self::Usage(what) | Self::Refused(what) => f.write_str(what),
            Self::Unavailable(url, error) => write!(f, "{url}: {error}"),
            Self::Output(error) => write!(f, "cannot write to stdout: {error}"),
        }
    }
}

impl CommandError {
    /// The exit code for it.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Nobody(_) => EX_CONFIG,
            Self::Usage(_) => 2,
            Self::Unavailable(..) => EX_UNAVAILABLE,
            Self::NotFound(_) | Self::Refused(_) | Self::Output(_) => 1,
        }
    }
}

/// A server to speak to.
#[derive(Clone, Debug)]
pub(super) struct RemoteServer {
    url: String,
    token: Secret,
    client: Client,
}

/// Runs a command against the server that arguments and configuration name.
pub(super) fn run<F>(
    config: Option<&Path>,
    remote: &Remote,
    command: impl FnOnce(RemoteServer) -> F,
) -> ExitCode
where
    F: Future<Output = Result<String, CommandError>>,
{
    let peer = match RemoteServer::find(config, remote) {
        Ok(peer) => peer,
        Err(error) => return fail(&error.to_string(), error.code()),
    };
    match exec::block_on(command(peer)) {
        Ok(text) => super::print(&text),
        Err(error) => fail(&error.to_string(), error.code()),
    }
}

impl RemoteServer {
    /// The arguments win; what they leave open is the configuration's.
    pub(super) fn find(config: Option<&Path>, remote: &Remote) -> Result<Self, CommandError> {
        let mut url = remote.url.clone();
        let mut token = remote.token.clone().map(Secret::new);
        let mut ca_file = remote.ca_file.clone();
        if url.is_none() || token.is_none() {
            let loaded = Config::load(config, None).map_err(CommandError::Config)?;
            let of_config = of_config(&loaded.config);
            ca_file = ca_file.or_else(|| loaded.config.controller.ca_file.clone());
            if url.is_none() {
                url = Some(of_config.0.map_err(CommandError::Nobody)?);
            }
            token = token.or(Some(of_config.1));
        }
        let token = token.unwrap_or_default();
        if token.is_empty() {
            return Err(CommandError::Nobody("the configuration has no token"));
        }
        let url = url.unwrap_or_default().trim_end_matches('/').to_owned();
        let trust = ca_file.map_or(Trust::WebPki, Trust::CaFile);
        let client =
            Client::new(&trust).map_err(|error| CommandError::Unavailable(url.clone(), error))?;
        Ok(Self { url, token, client })
    }

    /// Whom we speak to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn call(&self, method: Method, path: &str) -> Outgoing {
        Outgoing::new(method, format!("{}{path}", self.url))
            .bearer(&self.token)
            .within(WITHIN)
    }

    /// Sends a call; an answer that is no success is an error.
    pub(super) async fn send(&self, call: Outgoing) -> Result<Answer, CommandError> {
        let answer = self.client.send(call).await;
        let answer = answer.map_err(|e| self.unavailable(e))?;
        if answer.is_ok() {
            return Ok(answer);
        }
        Err(self.refused(&answer))
    }

    /// Opens a stream.
    pub(super) async fn open(
        &self,
        call: Outgoing,
    ) -> Result<crate::http::client::Incoming, CommandError> {
        let incoming = self.client.open(call).await;
        let incoming = incoming.map_err(|e| self.unavailable(e))?;
        if (200..300).contains(&incoming.status) {
            return Ok(incoming);
        }
        match incoming.whole(WITHIN).await {
            Ok(answer) => Err(self.refused(&answer)),
            Err(error) => Err(self.unavailable(error)),
        }
    }

    pub(super) async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        let answer = self.send(self.call(Method::Get, path)).await?;
        answer.json().map_err(|e| self.unavailable(e))
    }

    fn unavailable(&self, error: ClientError) -> CommandError {
        match error {
            // What was typed is wrong, not the server.
            ClientError::Url(_) => CommandError::Usage(error.to_string()),
            error => CommandError::Unavailable(self.url.clone(), error),
        }
    }

    /// One line of the server's own words.
    fn refused(&self, answer: &Answer) -> CommandError {
        let said = match answer.read::<ErrorBody>() {
            Ok(body) => {
                let detail = body.detail.map(|d| format!(": {d}")).unwrap_or_default();
                let detail = one_line(&detail);
                let ErrorBody {
                    error,
                    code,
                    reason,
                    request_id,
                    ..
                } = body;
                let remedy = if code == 401 {
                    "; the token must be this server's server.admin_token"
                } else {
                    ""
                };
                format!("{error}{detail}{remedy} ({code} {reason}, request {request_id})")
            }
            Err(_) => format!("status {}: {}", answer.status, answer.excerpt()),
        };
        let said = format!("{}: {}", self.url, one_line(&said));
        match answer.status {
            404 => CommandError::NotFound(said),
            _ => CommandError::Refused(said),
        }
    }
}

/// What a server said, without what would break our line or colour a terminal.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A user's word as a segment of a path.
pub(super) fn segment(word: &str) -> Result<&str, CommandError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let dots = matches!(word, "." | "..");
    if word.is_empty() || word.len() > SEGMENT_MAX || dots || !word.bytes().all(plain) {
        return Err(CommandError::Usage(format!(
            "{word:?} is no id: letters, digits, dots, dashes and underscores"
        )));
    }
    Ok(word)
}

/// JSON as it is printed with `--json`: one line.
pub(super) fn json_line(value: &impl Serialize) -> Result<String, CommandError> {
    serde_json::to_string(value)
        .map(|line| line + "\n")
        .map_err(|e| CommandError::Output(e.into()))
}

/// The controller that a worker belongs to; else the configured process itself.
fn of_config(config: &Config) -> (Result<String, &'static str>, Secret) {
    let is_controller = config.mode == Some(Role::Controller);
    if let (false, Some(url), Some(token)) = (
        is_controller,
        config.controller.urls.first(),
        &config.controller.token,
    ) {
        return (Ok(url.clone()), token.clone());
    }
    let server = &config.server;
    // A certificate names the public address, not the one that is listened on.
    let plain = server.listen.as_ref().filter(|_| server.tls.is_none());
    let own = plain.and_then(|listen| listen_address(&listen.to_string()).ok());
    let url = own
        .map(|address| format!("http://{}", reachable(address)))
        .or_else(|| server.public_url.clone())
        .ok_or("the configuration has neither controller.url nor a server address");
    (url, server.admin_token.clone())
}

/// An address to connect to for one that is listened on.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        return (IpAddr::from(Ipv4Addr::LOCALHOST), address.port()).into();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(yaml: &str) -> (Result<String, &'static str>, String) {
        let loaded = Config::parse(yaml, None).unwrap();
        let (url, token) = of_config(&loaded.config);
        (url, token.expose().to_owned())
    }

    #[test]
    fn a_controllers_configuration_names_itself_and_a_workers_its_controller() {
        let own = "server: {listen: ':8090', admin_token: own}\n";
        let peer = "controller: {url: 'https://neck.test', token: theirs}\n";
        assert_eq!(
            target(own),
            (Ok("http://127.0.0.1:8090".into()), "own".into())
        );
        assert_eq!(
            target(&format!("{own}{peer}")),
            (Ok("https://neck.test".into()), "theirs".into())
        );
        assert_eq!(
            target(&format!("mode: controller\n{own}{peer}")),
            (Ok("http://127.0.0.1:8090".into()), "own".into())
        );
        assert_eq!(
            target("server: {domain: neck.test, admin_token: own}\n"),
            (Ok("https://neck.test".into()), "own".into())
        );
    }

    #[test]
    fn a_word_that_would_change_the_path_is_refused() {
        for bad in ["", "..", "a/b", "a?b", "a%2fb", "é", "a b"] {
            assert!(segment(bad).is_err(), "{bad}");
        }
        assert_eq!(segment("neck-1.bxl").unwrap(), "neck-1.bxl");
    }

    #[test]
    fn nothing_needs_a_configuration_when_url_and_token_are_given() {
        let remote = Remote {
            url: Some("http://127.0.0.1:1/".into()),
            token: Some("t".into()),
            ca_file: None,
        };
        let peer = RemoteServer::find(Some(Path::new("/nonexistent")), &remote).unwrap();
        assert_eq!(peer.url, "http://127.0.0.1:1");
        let only_url = Remote {
            token: None,
            ..remote
        };
        let error = RemoteServer::find(Some(Path::new("/nonexistent")), &only_url).unwrap_err();
        assert_eq!(error.code(), EX_CONFIG);
        assert!(error.to_string().contains("--token"), "{error}");
    }

    #[test]
    fn a_server_that_is_not_there_is_exit_code_69_and_one_line() {
        let remote = Remote {
            url: Some("http://127.0.0.1:1".into()),
            token: Some("t".into()),
            ca_file: None,
        };
        let peer = RemoteServer::find(None, &remote).unwrap();
        let call = peer.call(Method::Get, "/api/v1/sessions");
        let error = exec::block_on(peer.send(call)).unwrap_err();
        assert_eq!(error.code(), EX_UNAVAILABLE);
        assert!(!error.to_string().contains('\n'));
        let remote = Remote {
            url: Some("neck.test".into()),
            ..remote
        };
        let peer = RemoteServer::find(None, &remote).unwrap();
        let error = exec::block_on(peer.send(peer.call(Method::Get, "/x"))).unwrap_err();
        assert_eq!(error.code(), 2, "{error}");
    }
}
