//! ICE servers of a session, and fresh TURN credentials for each of its streams.
//!
//! The stream program runs a script for every stream (`webrtc.ice_server_script`) and adds the
//! servers that it prints. Ours runs this program again, which mints credentials from what the
//! worker wrote into the session's directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Worker;
use super::session_handle::SessionHandle;
use crate::secret::Secret;
use crate::session::stream_program;
use crate::{clock, turn};

/// Name of the recipe inside a session's directory.
const RECIPE: &str = "ice-servers.json";
/// Name of the script.
const SCRIPT: &str = "ice-servers.sh";

/// One ICE server: addresses, user, credential.
pub(super) type Server = (Vec<String>, String, Secret);

/// What minting needs; holds the TURN secret, so the file is the worker's alone.
#[derive(Serialize, Deserialize)]
struct Recipe {
    secret: String,
    name: String,
    ttl_secs: u64,
    urls: Vec<String>,
}

/// The configured ICE servers.
pub(super) fn configured(worker: &Worker) -> Vec<Server> {
    let all = worker.settings.ice_servers.iter().map(|server| {
        let user = server.username.clone().unwrap_or_default();
        (
            server.urls.clone(),
            user,
            server.credential.clone().unwrap_or_default(),
        )
    });
    all.collect()
}

/// The session's ICE servers: the configured ones, and our TURN server with credentials made for
/// this session.
pub(super) fn servers(worker: &Worker, live: &SessionHandle) -> Vec<Server> {
    let minted = worker.settings.turn.iter().map(|t| {
        worker.counters.minted();
        let made = turn::mint(&t.secret, live.id.short(), clock::wall(), t.ttl);
        (t.urls.clone(), made.username, made.password)
    });
    configured(worker).into_iter().chain(minted).collect()
}

/// A file for the session's directory: name, content, mode.
pub(super) type Part = (&'static str, String, u32);

/// The script that the stream program is told to run, and the files that make it one. `None` without a TURN secret.
pub(super) fn script(worker: &Worker, live: &SessionHandle) -> Option<(PathBuf, Vec<Part>)> {
    let turn = worker.settings.turn.as_ref()?;
    let executable = stream_program::own().ok()?;
    let workspace = live.workspace.path();
    let recipe = Recipe {
        secret: turn.secret.expose().to_owned(),
        name: live.id.short().to_owned(),
        ttl_secs: turn.ttl.as_secs(),
        urls: turn.urls.clone(),
    };
    let recipe = serde_json::to_string(&recipe).ok()?;
    let line = format!(
        "#!/bin/sh\nexec {} ice-servers {}\n",
        quoted(&executable)?,
        quoted(&workspace.join(RECIPE))?
    );
    let files = vec![(RECIPE, recipe, 0o600), (SCRIPT, line, 0o700)];
    Some((workspace.join(SCRIPT), files))
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> Option<String> {
    Some(format!("'{}'", path.to_str()?.replace('\'', "'\\''")))
}

/// Prints the servers of a recipe with credentials that are valid from now: a JSON array.
///
/// # Errors
/// A sentence that names the file.
pub(crate) fn fresh(file: &Path) -> Result<String, String> {
    let wrong = |why: String| format!("cannot use {}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
    let recipe: Recipe = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let ttl = Duration::from_secs(recipe.ttl_secs);
    let made = turn::mint(
        &Secret::new(recipe.secret),
        &recipe.name,
        clock::wall(),
        ttl,
    );
    let servers: Value = json!([{
        "urls": recipe.urls,
        "username": made.username,
        "credential": made.password.expose(),
    }]);
    Ok(format!("{servers}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_a_session_prints_credentials_that_are_fresh() {
        let file = std::env::temp_dir().join(format!("recipe-{}", crate::ids::label()));
        let recipe =
            r#"{"secret":"north","name":"abcd","ttl_secs":600,"urls":["turn:192.0.2.1:3478"]}"#;
        std::fs::write(&file, recipe).unwrap();
        let printed: Value = serde_json::from_str(&fresh(&file).unwrap()).unwrap();
        std::fs::remove_file(&file).unwrap();
        let user = printed[0]["username"].as_str().unwrap();
        let (expiry, name) = user.split_once(':').unwrap();
        let now = clock::wall()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        assert!(
            (now + 590..=now + 610).contains(&expiry.parse::<u64>().unwrap()),
            "{user}"
        );
        assert_eq!(name, "abcd");
        assert_eq!(printed[0]["urls"][0], "turn:192.0.2.1:3478");
        assert!(fresh(&file).unwrap_err().contains("recipe-"));
    }

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        assert_eq!(quoted(Path::new("/a'b c")).unwrap(), "'/a'\\''b c'");
    }
}
