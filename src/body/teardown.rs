//! What a session leaves on a body, and taking it away: the pending pairing, the experience, the
//! app; and bodies that are stuck after an app was closed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::experience::{ExperienceError, Launch};
use super::session_steps::SessionBody;
use crate::clock;

/// Looks at a body whose app was closed, until nothing runs.
const LOOKS: u32 = 5;
/// Pause between them: a close is answered when the app has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How often a pending pairing is dropped at most while Sunshine does not answer.
const DROPS: u32 = 3;
/// Pause between those tries.
const DROP_PAUSE: Duration = Duration::from_millis(500);

/// What a session leaves on a body until [`SessionBody::leave`]; for the ledger. Each mark is written down
/// before what it stands for can happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CleanupRecord {
    /// Name under which its stream program pairs, unless an identity is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Whether a pairing under the session's names may have reached the body. Ledgers of 0.1.0 do
    /// not say.
    #[serde(default = "unknown")]
    pub asked: bool,
    /// Under which unique id it is pending, when that is not the session's user name: a program
    /// that was started with a kept identity pairs under the one of that identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_id: Option<String>,
    /// Whether that pairing came to its good end: nothing of it is pending.
    #[serde(default)]
    pub paired: bool,
    /// The body's id in the stream program, once that is paired: its page asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<u32>,
    /// The kept client that its stream program uses, when it did not pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowed: Option<String>,
    /// The launch that was sent to hydrabody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Launch>,
    /// Whether hydrabody may have received it. Ledgers of 0.1.0 do not contain this.
    #[serde(default = "unknown")]
    pub launched: bool,
    /// Whether a page began to signal, so that an app may run because of it. Ledgers of 0.1.0
    /// mean that the stream's address was found.
    #[serde(default)]
    pub streamed: bool,
}

/// What is not known may have happened.
fn unknown() -> bool {
    true
}

impl CleanupRecord {
    /// Whether a pairing under the session's names may be pending on the body.
    #[must_use]
    pub(crate) fn may_be_pending(&self) -> bool {
        self.asked && !self.paired
    }

    /// The unique id under which the program of that user pairs.
    #[must_use]
    pub(crate) fn unique_id<'a>(&'a self, user: &'a str) -> &'a str {
        self.unique_id.as_deref().unwrap_or(user)
    }
}

/// Other sessions of this worker that stay on the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SiblingSessions {
    /// Somebody watches one of them: closing the app would end that stream, too.
    pub is_watched: bool,
    /// What they had launched, by its name.
    pub experiences: Vec<String>,
}

impl SessionBody {
    /// Drops what is pending of the pairing of that unique id. After the program has
    /// ended: what it still sends would be pending anew. Answers false when Sunshine gave no
    /// answer.
    pub(crate) async fn drop_pairing(&self, unique_id: &str) -> bool {
        for attempt in 1..=DROPS {
            match self.gamestream.drop_pairing(unique_id).await {
                Ok(true) => {
                    log::info!(target: "cleanup", body:% = self.ip; "dropped the pending pairing of {unique_id}");
                    return true;
                }
                Ok(false) => return true,
                Err(error) if attempt == DROPS => {
                    log::warn!(target: "cleanup", body:% = self.ip;
                        "a pairing of {unique_id} may be pending until Sunshine restarts: {error}");
                }
                Err(_) => clock::sleep(DROP_PAUSE).await,
            }
        }
        false
    }

    /// Makes a body usable whose `currentgame` is negative: stream programs answer 500 to every
    /// call for it. One more close is what Sunshine needs.
    ///
    /// # Errors
    /// Why it stays so.
    pub(crate) async fn unstick(&self) -> Result<(), String> {
        let seen = self.gamestream.occupation().await;
        if !seen.is_ok_and(|seen| seen.app < 0) {
            return Ok(());
        }
        log::info!(target: "pairing", body:% = self.ip; "currentgame is negative, closing the app once more");
        self.sunshine.close_app().await.map_err(|e| e.to_string())?;
        self.becomes_free().await
    }

    /// Closes the running app, and once more when the body is not free afterwards and
    /// `may_close_again`.
    pub(super) async fn close(&self, may_close_again: impl Fn() -> bool) -> Result<(), String> {
        self.sunshine.close_app().await.map_err(|e| e.to_string())?;
        match self.becomes_free().await {
            Err(_) if may_close_again() => {
                self.sunshine.close_app().await.map_err(|e| e.to_string())?;
                self.becomes_free().await
            }
            // Somebody has started an app meanwhile.
            Err(why) => {
                log::info!(target: "cleanup", body:% = self.ip; "{why}, and others watch");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Waits until no app runs. A negative `currentgame` does not change by itself. A Sunshine that
    /// does not say is restarting, and runs nothing then.
    pub(super) async fn becomes_free(&self) -> Result<(), String> {
        let mut looks = 1;
        loop {
            let Ok(seen) = self.gamestream.occupation().await else {
                return Ok(());
            };
            if seen.is_over() {
                return Ok(());
            }
            if seen.app < 0 || looks >= LOOKS {
                return Err(format!("currentgame is still {}", seen.app));
            }
            looks += 1;
            clock::sleep(LOOK_PAUSE).await;
        }
    }

    /// Has hydrabody end the experience.
    ///
    /// # Errors
    /// See [`ExperienceError`].
    pub(crate) async fn stop_experience(&self, launch: &Launch) -> Result<(), ExperienceError> {
        self.agent.stop(launch).await
    }

    /// Undoes what a session left: stops the experience, closes the app if anybody watched it. What
    /// the neighbours need stays, for the last of them to undo; the client is for [`SessionBody::tidy`].
    /// Answers what could not be undone, one sentence each. May be repeated; never takes longer than
    /// `within`.
    pub(crate) async fn leave(
        &self,
        traces: &CleanupRecord,
        neighbours: impl Fn() -> SiblingSessions + Sync,
        within: Duration,
    ) -> Vec<String> {
        let deadline = clock::now() + within;
        let late = || format!("no time left within {}", humantime::format_duration(within));
        let stop = async {
            let launch = traces.launch.as_ref().filter(|_| traces.launched)?;
            if neighbours().experiences.contains(&launch.experience) {
                return None;
            }
            match clock::by(deadline, self.stop_experience(launch)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("experience may run on: {error}")),
                Err(_) => Some(format!("experience may run on: {}", late())),
            }
        };
        let close = async {
            if !traces.streamed || neighbours().is_watched {
                return None;
            }
            let close = self.close(|| !neighbours().is_watched);
            match clock::by(deadline, close).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("app may run on: {error}")),
                Err(_) => Some(format!("app may run on: {}", late())),
            }
        };
        let (stopped, closed) = smol::future::zip(stop, close).await;
        let left: Vec<String> = stopped.into_iter().chain(closed).collect();
        for left in &left {
            log::warn!(target: "cleanup", body:% = self.ip; "{left}");
        }
        left
    }
}
