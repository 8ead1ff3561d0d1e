//! One page's signalling WebSocket, and the streamer behind it.
//!
//! The order of messages and the reactions to an end are the original's. In particular a closed
//! socket is not told to the streamer: it lives on for as long as its peer does, and is only
//! stopped when it next has something to say. Until then the server's half of the socket stays open.

use std::sync::Arc;
use std::time::Duration;

use async_process::{ChildStdin, ChildStdout};
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use smol::channel::{Receiver, Sender, bounded};
use smol::io::BufReader;
use smol::lock::Mutex;
use smol::stream::StreamExt as _;

use super::api::CardState;
use super::child::Streamer;
use super::messages::{
    App, Assignment, AssignmentConfig, ClientMessage, FromStreamer, ServerMessage, ToStreamer,
};
use super::store::{Host, User};
use super::{lines, say};
use crate::http::reply::Upgraded;
use crate::{clock, exec};

/// Largest message of a page: an offer with all its candidates is about 20 kB.
const MESSAGE_MAX: usize = 64 * 1024;
/// How much may wait to be sent to a page that does not read.
const UNSENT_MAX: usize = 1024 * 1024;
/// How long a page may take to say what it wants.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// How long one message may take, to a page or to a streamer.
const SEND_WAIT: Duration = Duration::from_secs(10);
/// Messages of a streamer that wait for the page.
const MESSAGES_MAX: usize = 64;
/// What the original waits between the end of a streamer and the end of the socket.
const FAREWELL: Duration = Duration::from_secs(10);

type Page = WebSocketSender<Upgraded>;
type Frames = WebSocketReceiver<Upgraded>;

/// Serves a page until the streamer behind it is gone.
pub(super) async fn serve(state: Arc<CardState>, user: u32, upgraded: Upgraded) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(UNSENT_MAX);
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
    let (mut page, mut frames) = socket.split();
    let first = clock::by(clock::now() + FIRST_WAIT, frames.next()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else {
        return;
    };
    // The original drops the socket of a page that it does not understand without a word.
    let Ok(first) = serde_json::from_str(&text) else {
        return;
    };
    let ClientMessage::Init { host_id, app_id } = first else {
        let _ = page.close(farewell()).await;
        return;
    };
    match prepare(&state, user, host_id, app_id).await {
        Ok(wanted) => view(&state, wanted, page, frames).await,
        Err(why) => {
            say::line("WARN", "web_server", format_args!("no stream: {why}"));
            tell(&mut page, &ServerMessage::refusal(why)).await;
            let _ = page.close(farewell()).await;
        }
    }
}

/// What is to be streamed, and for whom.
struct Wanted {
    user: User,
    host: Host,
    app: App,
}

async fn prepare(
    state: &CardState,
    user_id: u32,
    host_id: u32,
    app_id: u32,
) -> Result<Wanted, String> {
    let user = state.store.user(user_id).ok_or("the user is gone")?;
    let host = state.store.host(host_id);
    let host = host
        .filter(|host| host.is_for(user_id))
        .ok_or("host not found")?;
    if host.pair_info.is_none() {
        return Err("host not paired".to_owned());
    }
    let apps = state.body(&host, &user).apps().await;
    let apps = apps.map_err(|error| error.to_string())?;
    let app = apps.into_iter().find(|app| app.app_id == app_id);
    let app = app.ok_or("app not found")?;
    Ok(Wanted { user, host, app })
}

/// Starts the streamer and carries messages both ways until it ends.
async fn view(state: &CardState, wanted: Wanted, mut page: Page, frames: Frames) {
    let app_id = wanted.app.app_id;
    tell(&mut page, &ServerMessage::UpdateApp { app: wanted.app }).await;
    tell(&mut page, &ServerMessage::log("Launching streamer")).await;
    let Streamer {
        mut stdin,
        stdout,
        leash,
    } = match state.streamers.start() {
        Ok(streamer) => streamer,
        Err(error) => {
            say::line("ERROR", "web_server", format_args!("{error}"));
            tell(&mut page, &ServerMessage::refusal(error.to_string())).await;
            let _ = page.close(farewell()).await;
            return;
        }
    };
    let init = ToStreamer::Init(Box::new(Assignment {
        config: AssignmentConfig {
            webrtc: state.settings.webrtc.clone(),
        },
        host_address: wanted.host.address,
        host_http_port: wanted.host.http_port,
        client_unique_id: wanted.user.client_unique_id,
        app_id,
    }));
    order(&mut stdin, &init).await;
    for stage in [
        "Completed Stage: Launch Streamer",
        "Waiting for Transport to negotiate",
    ] {
        tell(&mut page, &ServerMessage::log(stage)).await;
    }
    carry(page, frames, stdin, stdout).await;
    drop(leash);
}

enum Event {
    Said(FromStreamer),
    StreamerGone,
    PageGone,
}

async fn carry(mut page: Page, frames: Frames, stdin: ChildStdin, stdout: ChildStdout) {
    let stdin = Arc::new(Mutex::new(stdin));
    let (sender, said) = bounded(MESSAGES_MAX);
    let _listening = exec::spawn(listen(stdout, sender));
    let mut forwarding = Some(exec::spawn(forward(frames, stdin.clone())));
    let mut is_deaf = false;
    loop {
        match next(&said, &mut forwarding).await {
            Event::Said(FromStreamer::WebSocket(message)) => {
                if !is_deaf && !tell(&mut page, &message).await {
                    is_deaf = true;
                    order(&mut *stdin.lock().await, &ToStreamer::Stop).await;
                }
            }
            Event::Said(FromStreamer::Stop) | Event::StreamerGone => break,
            // Our sending half stays, and so the socket stays half open for as long as the
            // streamer lives, as the original's does.
            Event::PageGone => forwarding = None,
        }
    }
    if let Some(forwarding) = forwarding {
        let _ = clock::by(clock::now() + FAREWELL, forwarding).await;
    }
    let _ = page.close(farewell()).await;
}

async fn next(said: &Receiver<FromStreamer>, forwarding: &mut Option<smol::Task<()>>) -> Event {
    let streamer = async { said.recv().await.map_or(Event::StreamerGone, Event::Said) };
    let page = async {
        match forwarding {
            Some(forwarding) => forwarding.await,
            None => std::future::pending().await,
        }
        Event::PageGone
    };
    smol::future::or(streamer, page).await
}

/// Reads what the streamer says until it closes its stdout.
async fn listen(stdout: ChildStdout, said: Sender<FromStreamer>) {
    let mut stdout = BufReader::new(stdout);
    while let Ok(Some(message)) = lines::message(&mut stdout).await {
        if said.send(message).await.is_err() {
            return;
        }
    }
}

/// Passes the page's messages on until its socket ends.
async fn forward(mut frames: Frames, stdin: Arc<Mutex<ChildStdin>>) {
    while let Some(Ok(frame)) = frames.next().await {
        let Message::Text(text) = frame else {
            continue; // binary frames are media of the other transport
        };
        match serde_json::from_str(&text) {
            Ok(message) => {
                let message = ToStreamer::WebSocket(message);
                order(&mut *stdin.lock().await, &message).await;
            }
            Err(error) => say::line(
                "WARN",
                "web_server",
                format_args!("message of the page ignored: {error}"),
            ),
        }
    }
}

/// A clean end (RFC 6455 status 1000).
fn farewell() -> Option<CloseFrame> {
    Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    })
}

/// Sends a message to the page; false when it is gone or does not read.
async fn tell(page: &mut Page, message: &ServerMessage) -> bool {
    let Ok(text) = serde_json::to_string(message) else {
        return false;
    };
    let sending = page.send(Message::text(text));
    matches!(
        clock::by(clock::now() + SEND_WAIT, sending).await,
        Ok(Ok(()))
    )
}

/// Sends an order to the streamer. One that is gone is noticed by its stdout.
async fn order(stdin: &mut ChildStdin, order: &ToStreamer) {
    let writing = lines::write(stdin, order);
    let _ = clock::by(clock::now() + SEND_WAIT, writing).await;
}
