//! ICE servers that a program prints for each stream (`webrtc.ice_server_script`).

use std::time::Duration;

use async_process::{Command, Stdio};

use super::say;
use super::settings::{CardIceServer, WebRtc};
use crate::clock;

/// How long the program may take. The original waits for ever.
const WAIT: Duration = Duration::from_secs(10);

/// What the program prints: a JSON array. As in the original, one that fails or prints something
/// else is only a line in the log.
pub(super) async fn servers(webrtc: &WebRtc) -> Vec<CardIceServer> {
    let Some(script) = &webrtc.ice_server_script else {
        return Vec::new();
    };
    let shown = script.display();
    let output = Command::new(script)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let printed = match clock::by(clock::now() + WAIT, output).await {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        Ok(Ok(output)) => {
            say::aside(format_args!("{shown} ends with {}", output.status));
            return Vec::new();
        }
        Ok(Err(error)) => {
            say::aside(format_args!("cannot run {shown}: {error}"));
            return Vec::new();
        }
        Err(_) => {
            say::aside(format_args!("{shown} does not end"));
            return Vec::new();
        }
    };
    serde_json::from_slice(&printed).unwrap_or_else(|error| {
        say::aside(format_args!("{shown} prints no ICE servers: {error}"));
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec;
    use crate::session::testing::Scratch;

    #[test]
    fn what_the_program_prints_is_taken_and_a_failure_is_no_end() {
        let scratch = Scratch::new();
        let one = r#"echo '[{"urls":["turn:192.0.2.1:3478"],"username":"u","credential":"p"}]'"#;
        for (name, script, found) in [
            ("good", one, 1),
            ("failing", &format!("{one}; exit 3"), 0),
            ("garbage", "echo '{'", 0),
        ] {
            let webrtc = WebRtc {
                ice_server_script: Some(scratch.script(name, script)),
                ..WebRtc::default()
            };
            assert_eq!(exec::block_on(servers(&webrtc)).len(), found, "{name}");
        }
        let missing = WebRtc {
            ice_server_script: Some(scratch.path().join("missing")),
            ..WebRtc::default()
        };
        assert_eq!(exec::block_on(servers(&missing)), []);
        assert_eq!(exec::block_on(servers(&WebRtc::default())), []);
    }
}
