//! An experience on a body: its entry in Sunshine, and its processes, which hydrabody runs.
//!
//! Nothing here is fatal to a session: what fails is a warning. hydrabody starts the executable;
//! Sunshine's entry only gives the stream its title and tells hydrabody when the stream starts, by
//! a command whose failure Sunshine only logs. The entry contains the executable only when
//! hydrabody refused it, so that it is never started twice; then hydrabody gets no notification.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use http_types::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sunshine::SunshineError;
use crate::http::client::{self, Client, ClientError, Outgoing};
use crate::tls::Trust;

/// Time for a call to hydrabody, which may kill processes before it answers. More than a connection
/// gets: Windows drops what nobody listens for, and a hydrabody that is not there must be told from
/// one that is slow.
const CALL: Duration = Duration::from_secs(8);
const _: () = assert!(CALL.as_secs() > client::CONNECT.as_secs());
/// Longest title: escaped six-fold it still fits a Windows command line (32,767 characters).
const TITLE_MAX: usize = 1_024;
/// Longest executable in a Windows command line, with the rest of it.
const EXE_MAX: usize = 30_000;
/// What Sunshine does not take literally in titles and commands.
const VARIABLES: [&str; 2] = ["$(", "$$"];
/// Title when nothing better is known: Sunshine has it from the start.
pub(crate) const DESKTOP: &str = "Desktop";

/// What is launched, and the body of hydrabody's calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The experience's name, also its title in Sunshine.
    pub experience: String,
    /// Windows path of its executable.
    pub exe_path: String,
    /// The session it is for.
    pub session_id: String,
}

/// Why a part of it did not work. All are warnings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExperienceError {
    /// hydrabody did not answer.
    #[error("hydrabody at {1}, {0}: {2}; is it running, is bodies.agent_port right?")]
    Agent(&'static str, SocketAddr, #[source] ClientError),
    /// hydrabody refused.
    #[error("hydrabody at {1} answers {0} with {2}: {3}")]
    AgentStatus(&'static str, SocketAddr, u16, String),
    /// The app that runs there could not be closed.
    #[error("cannot close the app that runs on the body: {0}")]
    Close(String),
    /// The list of apps is left alone: a change would end a stream.
    #[error(
        "the experience is not registered in Sunshine, that would end a stream of the body: {0}"
    )]
    Occupied(&'static str),
    /// Sunshine did not take the entry.
    #[error("cannot register the experience: {0}")]
    Sunshine(#[source] SunshineError),
    /// The name cannot be a title.
    #[error("experience {0}, not registered in Sunshine")]
    Title(String),
}

impl ExperienceError {
    /// Whether hydrabody surely did not start anything: it was not reached, or it said no.
    #[must_use]
    pub(crate) fn is_certain(&self) -> bool {
        matches!(
            self,
            Self::Agent(_, _, ClientError::Connect(..)) | Self::AgentStatus(..)
        )
    }

    /// Whether hydrabody gave no answer at all.
    #[must_use]
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Agent(..))
    }
}

impl Launch {
    /// The name of an experience, or what its executable is called when it has none.
    #[must_use]
    pub(crate) fn new(experience: Option<&str>, exe_path: &str, session_id: &str) -> Self {
        let file = exe_path.rsplit(['\\', '/']).next().unwrap_or(exe_path);
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let named = experience.filter(|e| !e.is_empty()).unwrap_or(stem);
        Self {
            experience: named.to_owned(),
            exe_path: exe_path.to_owned(),
            session_id: session_id.to_owned(),
        }
    }
}

/// hydrabody, the agent on a body.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    address: SocketAddr,
}

impl Agent {
    /// The agent at `address`.
    #[must_use]
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Starts the experience.
    ///
    /// # Errors
    /// See [`ExperienceError`].
    pub(crate) async fn launch(&self, launch: &Launch) -> Result<(), ExperienceError> {
        self.post("POST /api/v1/launch", "/api/v1/launch", launch)
            .await
    }

    /// Kills the experience's processes.
    ///
    /// # Errors
    /// See [`ExperienceError`].
    pub(crate) async fn stop(&self, launch: &Launch) -> Result<(), ExperienceError> {
        self.post("POST /api/v1/stop", "/api/v1/stop", launch).await
    }

    async fn post(
        &self,
        call: &'static str,
        path: &str,
        launch: &Launch,
    ) -> Result<(), ExperienceError> {
        let at = self.address;
        let failed = |e| ExperienceError::Agent(call, at, e);
        let client = Client::new(&Trust::WebPki).map_err(failed)?;
        let outgoing = Outgoing::new(Method::Post, format!("http://{at}{path}"))
            .json(launch)
            .within(CALL);
        let answer = client.send(outgoing).await.map_err(failed)?;
        if answer.is_ok() {
            return Ok(());
        }
        let (status, says) = (answer.status, answer.excerpt());
        Err(ExperienceError::AgentStatus(call, at, status, says))
    }
}

/// The experience as Sunshine is to list it. `agent_port` is where Sunshine finds hydrabody, if it
/// answers there; `start` says whether Sunshine is to start the executable itself.
///
/// # Errors
/// [`ExperienceError::Title`].
pub(super) fn entry(
    launch: &Launch,
    agent_port: Option<u16>,
    start: bool,
) -> Result<Map<String, Value>, ExperienceError> {
    let title = launch.experience.as_str();
    let wrong = |why: &str| Err(ExperienceError::Title(why.to_owned()));
    if title.len() > TITLE_MAX {
        let why = format!("has {} bytes, a title has at most {TITLE_MAX}", title.len());
        return wrong(&why);
    }
    if title.is_empty() || title.chars().any(char::is_control) {
        return wrong("is empty or has a control character");
    }
    // One without its bracket would cost Sunshine its whole list of apps.
    if VARIABLES.iter().any(|v| title.contains(v)) {
        return wrong("has $( or $$, where Sunshine puts a variable in");
    }
    let cmd = match start {
        true => command(&launch.exe_path).unwrap_or_default(),
        false => String::new(),
    };
    // Sunshine refuses a launch when a command of `prep-cmd` fails, and goes on when one of
    // `detached` does, unless it has to start `cmd` afterwards: then it takes the failure for that
    // of `cmd`.
    let told: Vec<String> = agent_port
        .filter(|_| cmd.is_empty())
        .map(|port| started(title, port))
        .into_iter()
        .collect();
    Ok(Map::from_iter([
        ("name".to_owned(), json!(title)),
        ("cmd".to_owned(), json!(cmd)),
        // Said also when there is none: it takes away what an earlier entry had.
        ("prep-cmd".to_owned(), json!([])),
        ("detached".to_owned(), json!(told)),
    ]))
}

/// The executable as a Windows command line, when it is a path at all. `$$` is Sunshine's way to
/// write a dollar.
fn command(exe_path: &str) -> Option<String> {
    let bad = |c: char| c.is_control() || c == '"';
    let fine = !exe_path.is_empty() && exe_path.len() <= EXE_MAX && !exe_path.contains(bad);
    fine.then(|| format!("\"{}\"", exe_path.replace('$', "$$")))
}

/// The command by which Sunshine tells hydrabody that the stream of this app starts. No shell reads
/// it; Windows programs and Sunshine on Linux both read `\"` as a quote, and disagree about
/// quotes around spaces, so that there are neither. What is not a plain letter of the title is
/// `\u....`.
fn started(title: &str, agent_port: u16) -> String {
    let mut escaped = String::new();
    for c in title.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String does not fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    format!(
        "curl -s -m 5 -H Content-Type:application/json -d {{\\\"app\\\":\\\"{escaped}\\\"}} http://127.0.0.1:{agent_port}/api/v1/stream/started"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(experience: &str, exe_path: &str) -> Launch {
        Launch::new(Some(experience), exe_path, "s")
    }

    #[test]
    fn without_a_name_the_executable_gives_it() {
        for (exe, name) in [
            (r"C:\games\Mars Walk.exe", "Mars Walk"),
            ("a/b", "b"),
            ("x.y.exe", "x.y"),
        ] {
            assert_eq!(Launch::new(None, exe, "s").experience, name);
        }
        assert_eq!(launch("Mars", "C:\\x.exe").experience, "Mars");
    }

    /// What Sunshine makes of a command on Linux: quotes outside are stripped, `\"` is a quote, and
    /// a space between an even number of quotes separates.
    fn on_linux(command: &str) -> Vec<String> {
        let mut is_quoted = false;
        let words = command.split(|c| {
            is_quoted ^= c == '"';
            c == ' ' && !is_quoted
        });
        let word = |w: &str| w.trim_matches('"').replace("\\\"", "\"");
        words.filter(|w| !w.is_empty()).map(word).collect()
    }

    #[test]
    fn a_title_cannot_leave_its_place_in_the_command() {
        for title in ["a\" -o C:\\x & calc %PATH% \\ é 🦑 $(x)", "Mars Walk", "\\"] {
            let command = started(title, 47_991);
            let words = on_linux(&command);
            // Windows: no quote but after a backslash, so that a space separates and `\"` is a quote.
            assert!(!command.replace("\\\"", "").contains('"'), "{command}");
            let on_windows: Vec<String> = command
                .split(' ')
                .map(|w| w.replace("\\\"", "\""))
                .collect();
            assert_eq!(words, on_windows);
            assert_eq!(words.len(), 9, "{words:?}");
            let value: Value = serde_json::from_str(&words[7]).unwrap();
            assert_eq!(value["app"], title);
            assert!(!command.contains(['&', '%', '$']), "{command}");
        }
    }

    #[test]
    fn a_name_that_is_no_title_is_refused_by_name() {
        for bad in ["a\nb", &"x".repeat(10_000), "a $(b", "$(PATH)", "a$$b"] {
            let error = entry(&launch(bad, "C:\\x.exe"), Some(1), false).unwrap_err();
            assert!(error.to_string().starts_with("experience "), "{error}");
        }
        let fine = "Zoë's \"q\" for 5$";
        assert_eq!(
            entry(&launch(fine, "x"), None, false).unwrap()["name"],
            fine
        );
    }

    #[test]
    fn no_command_can_make_sunshine_refuse_a_launch() {
        let entry = |port, start| entry(&launch("a", "C:\\x.exe"), port, start).unwrap();
        for (port, start) in [
            (None, true),
            (None, false),
            (Some(1), true),
            (Some(1), false),
        ] {
            let entry = entry(port, start);
            assert_eq!(entry["prep-cmd"], json!([]));
            // A failed `detached` forbids only the `cmd` after it.
            let alone = entry["cmd"] == "" || entry["detached"] == json!([]);
            assert!(alone, "{entry:?}");
        }
        let told = &entry(Some(47_991), false)["detached"][0];
        assert!(told.as_str().unwrap().contains(":47991/"), "{told}");
    }

    #[test]
    fn sunshine_starts_the_executable_only_when_told_and_only_a_path() {
        let exe = r"C:\Program Files\ü\a $(b).exe";
        assert_eq!(entry(&launch("a", exe), None, false).unwrap()["cmd"], "");
        let cmd = entry(&launch("a", exe), None, true).unwrap()["cmd"].clone();
        assert_eq!(cmd, r#""C:\Program Files\ü\a $$(b).exe""#);
        for bad in ["C:\\a\" && calc \".exe", "C:\\a\nb.exe"] {
            assert_eq!(entry(&launch("a", bad), None, true).unwrap()["cmd"], "");
        }
    }
}
