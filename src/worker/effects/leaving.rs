//! The step that leaves the body as it was, but for what the sessions need that stay there.

use std::sync::Arc;
use std::time::Duration;

use super::{KILL, StepContext};
use crate::body::SiblingSessions;
use crate::clock;
use crate::protocol::Status;
use crate::session::lifecycle::Input;
use crate::worker::session_handle::SessionHandle;
use crate::worker::{Worker, pairing_gc};

/// Time for undoing everything on the body: Sunshine may need 15 s to close an app.
const LEAVE: Duration = Duration::from_secs(20);
/// Wait for the body's lock before a pending pairing is dropped; it is dropped without, then.
const DROP_HOLD: Duration = Duration::from_secs(3);

pub(in crate::worker) async fn leave(
    worker: Arc<Worker>,
    live: Arc<SessionHandle>,
    stage: StepContext,
) {
    if let Some(body) = &stage.body {
        stage.pairing_ended().await;
        let mut hold = stage.with(|s| s.hold.take());
        let traces = live.traces();
        if traces.may_be_pending() {
            // What the program still sends would be pending anew.
            let _ = clock::by(clock::now() + KILL, live.stopped()).await;
            if hold.is_none() {
                hold = body.hold(DROP_HOLD).await.ok();
            }
            body.drop_pairing(traces.unique_id(&live.program_user))
                .await;
        }
        drop(hold);
        let stay = || neighbours(&worker, &live);
        body.leave(&live.traces(), stay, LEAVE).await;
        // Until it has ended, the program may call the body.
        let _ = clock::by(clock::now() + 2 * KILL, live.stopped()).await;
        pairing_gc::left(&worker, body, &live.traces()).await;
    }
    live.report(Input::BodyLeft).await;
}

/// The sessions that stay on the body: a visitor may have come back in a new one while the old one
/// still waited for him.
fn neighbours(worker: &Worker, live: &SessionHandle) -> SiblingSessions {
    let mut neighbours = SiblingSessions::default();
    for other in others_there(worker, live) {
        // One that waits for its first viewer starts the app anew.
        let status = other.shown().status;
        neighbours.is_watched |= matches!(status, Status::Connected | Status::Lingering);
        neighbours
            .experiences
            .extend(other.traces().launch.map(|l| l.experience));
    }
    neighbours
}

/// Whether another session streams from the body, or its visitor may come back.
pub(super) fn is_streaming(worker: &Worker, live: &SessionHandle) -> bool {
    others_there(worker, live).any(|other| other.traces().streamed)
}

fn others_there<'a>(
    worker: &Worker,
    live: &'a SessionHandle,
) -> impl Iterator<Item = Arc<SessionHandle>> + 'a {
    let all = worker.roster.all().into_iter();
    all.filter(|other| {
        let is_there = other.wish.request.body_ip == live.wish.request.body_ip;
        other.id != live.id && is_there && other.shown().end_reason.is_none()
    })
}
