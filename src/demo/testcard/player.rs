//! Plays the clip into a track, frame by frame, for as long as it is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rtc::media::Sample;
use smol::Task;
use webrtc::media_stream::track_local::static_sample::TrackLocalStaticSample;
use webrtc::media_stream::track_local::{TrackLocal as _, TrackLocalEvent};

use super::clip::{Clip, FRAME, RATE};
use crate::{clock, exec};

/// Least time between two jumps to a keyframe: a decoder repeats its request until a keyframe
/// has crossed the network.
const JUMP_PAUSE: Duration = Duration::from_millis(300);

/// A running player; dropping it stops the picture.
pub(super) struct Player {
    _frames: Task<()>,
    _requests: Task<()>,
}

impl Player {
    /// Starts to send on `track` as `ssrc` with the negotiated payload type.
    pub(super) fn start(
        clip: Clip,
        track: Arc<TrackLocalStaticSample>,
        ssrc: u32,
        payload_type: u8,
    ) -> Self {
        let wanted = Arc::new(AtomicBool::new(false));
        Self {
            _requests: exec::spawn(listen(track.clone(), wanted.clone())),
            _frames: exec::spawn(play(clip, track, ssrc, payload_type, wanted)),
        }
    }
}

/// Notes that a viewer wants a keyframe.
async fn listen(track: Arc<TrackLocalStaticSample>, wanted: Arc<AtomicBool>) {
    while let Some(event) = track.poll().await {
        if let TrackLocalEvent::OnRtcpPacket(_) = event {
            wanted.store(true, Ordering::Relaxed);
        }
    }
}

async fn play(
    clip: Clip,
    track: Arc<TrackLocalStaticSample>,
    ssrc: u32,
    payload_type: u8,
    wanted: Arc<AtomicBool>,
) {
    let start = clock::now();
    let mut jumped = start;
    let (mut at, mut sent) = (0_usize, 0_u32);
    loop {
        let now = clock::now();
        if wanted.swap(false, Ordering::Relaxed) && now > jumped + JUMP_PAUSE {
            at = clip.keyframe_from(at);
            jumped = now;
        }
        let sample = Sample {
            data: clip.frame(at),
            duration: FRAME,
            ..Sample::new(now)
        };
        if track
            .sample_writer(ssrc, payload_type)
            .write_sample(&sample)
            .await
            .is_err()
        {
            return; // the connection is closed
        }
        at += 1;
        // Counted from the start, so that late wake-ups do not add up. The count wraps after
        // four and a half years.
        sent = sent.wrapping_add(1);
        clock::until(start + Duration::from_secs(1) * (sent / RATE) + FRAME * (sent % RATE)).await;
    }
}
