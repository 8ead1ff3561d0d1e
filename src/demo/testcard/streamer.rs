//! The streamer: the child process that serves one page.
//!
//! It speaks with the web-server over stdin and stdout and with the browser over WebRTC. As the
//! original it lives on when its parent is gone, for as long as its peer is there: a worker
//! must find and end such orphans. Unlike the original it never spins on a closed stdin and
//! never waits without bound.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use smol::Unblock;
use smol::channel::{Receiver, Sender, bounded};
use smol::io::BufReader;

use super::clip::{HEIGHT, RATE, WIDTH};
use super::gamestream::RequestBody;
use super::life::{End, Life, PeerChange};
use super::lines;
use super::messages::{
    Assignment, Capabilities, ClientMessage, FromStreamer, ServerMessage, Severity, Signal,
    StreamSettings, ToStreamer, Transport,
};
use super::peer::{CardPeer, CardPeerError, PeerEvent};
use super::{ice, say, script};
use crate::http::client::Client;
use crate::tls::Trust;
use crate::{clock, exec};

/// Orders that wait to be carried out: a browser trickles some tens of candidates.
const ORDERS_MAX: usize = 256;
/// How long the parent may take to send its first line.
const INIT_WAIT: Duration = Duration::from_secs(60);
/// How long the parent may take to read a line; its pipe holds 64 kB.
const WRITE_WAIT: Duration = Duration::from_secs(5);

/// Runs one streamer until its stream is over.
pub(super) fn run() -> ExitCode {
    exec::block_on(async {
        let (sender, orders) = bounded(ORDERS_MAX);
        exec::spawn(listen(sender)).detach();
        let first = clock::by(clock::now() + INIT_WAIT, orders.recv()).await;
        let assignment = match first {
            Ok(Ok(ToStreamer::Init(assignment))) => *assignment,
            _ => return ExitCode::SUCCESS, // nothing to do, and nobody to tell
        };
        let streamer = Streamer {
            life: Life::new(clock::now()),
            assignment,
            orders: Some(orders),
            peer: None,
        };
        let end = streamer.serve().await;
        say::aside(format_args!("streamer ends: {end}"));
        ExitCode::SUCCESS
    })
}

/// Reads orders until stdin ends; then the channel closes.
async fn listen(orders: Sender<ToStreamer>) {
    let mut stdin = BufReader::new(Unblock::new(std::io::stdin()));
    loop {
        match lines::message(&mut stdin).await {
            Ok(Some(order)) => {
                if orders.send(order).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error @ lines::LineError::NotAMessage(_)) => {
                say::aside(format_args!("order ignored: {error}"));
            }
            Err(error) => {
                say::aside(format_args!("{error}"));
                return;
            }
        }
    }
}

struct Streamer {
    life: Life,
    assignment: Assignment,
    /// `None` once the parent is gone.
    orders: Option<Receiver<ToStreamer>>,
    peer: Option<(CardPeer, Receiver<PeerEvent>)>,
}

enum Event {
    Order(ToStreamer),
    ParentGone,
    Peer(PeerEvent),
}

impl Streamer {
    async fn serve(mut self) -> End {
        let webrtc = &mut self.assignment.config.webrtc;
        webrtc.ice_servers.extend(script::servers(webrtc).await);
        let ice_servers = webrtc.ice_servers.clone();
        self.tell(ServerMessage::Setup { ice_servers }).await;
        let end = loop {
            if let Some(end) = self.life.end(clock::now()) {
                break end;
            }
            if let Some(event) = self.next().await {
                self.take(event).await;
            }
        };
        if let Some((peer, _)) = self.peer.take() {
            peer.close().await;
        }
        write(&FromStreamer::Stop).await;
        end
    }

    /// The next event, `None` when the life's deadline came first.
    async fn next(&self) -> Option<Event> {
        let order = async {
            match &self.orders {
                Some(orders) => orders.recv().await.map_or(Event::ParentGone, Event::Order),
                None => std::future::pending().await,
            }
        };
        let peer = async {
            match &self.peer {
                Some((_, events)) => match events.recv().await {
                    Ok(event) => Event::Peer(event),
                    Err(_) => Event::Peer(PeerEvent::Change(PeerChange::Gone)),
                },
                None => std::future::pending().await,
            }
        };
        let either = smol::future::or(order, peer);
        match self.life.deadline() {
            Some(deadline) => clock::by(deadline, either).await.ok(),
            None => Some(either.await),
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Order(ToStreamer::Stop) => self.life.stop(),
            Event::Order(ToStreamer::WebSocket(message)) => {
                if let Err(error) = self.obey(message).await {
                    say::aside(format_args!("{error}"));
                }
            }
            Event::Order(ToStreamer::Init(_)) => {}
            Event::ParentGone => self.orders = None,
            Event::Peer(PeerEvent::Candidate(candidate)) => self.announce(&candidate).await,
            Event::Peer(PeerEvent::Change(change)) => self.life.peer(clock::now(), change),
            Event::Peer(PeerEvent::General(body)) => {
                if serde_json::from_slice::<GeneralMessage>(&body).is_ok() {
                    self.life.stop();
                }
            }
        }
    }

    async fn obey(&mut self, message: ClientMessage) -> Result<(), CardPeerError> {
        match message {
            ClientMessage::Init { .. } => {}
            ClientMessage::SetTransport(Transport::WebRTC) => {
                if self.peer.is_none() {
                    self.peer = Some(CardPeer::open(&self.assignment.config.webrtc).await?);
                }
            }
            ClientMessage::SetTransport(Transport::WebSocket) => {
                let message = "the test card streams over WebRTC only".to_owned();
                let ty = Some(Severity::Fatal);
                self.tell(ServerMessage::DebugLog { message, ty }).await;
                self.life.stop();
            }
            ClientMessage::WebRtc(signal) => self.negotiate(signal).await?,
            ClientMessage::StartStream(wish) => self.start(&wish).await?,
        }
        Ok(())
    }

    async fn negotiate(&mut self, signal: Signal) -> Result<(), CardPeerError> {
        let Some((peer, _)) = &mut self.peer else {
            return Ok(());
        };
        match signal {
            Signal::Description { ty, sdp } if ty == "offer" => {
                let answer = peer.answer(sdp).await?;
                self.tell(ServerMessage::WebRtc(answer)).await;
            }
            Signal::Description { sdp, .. } => {
                peer.play(sdp).await?;
                let complete = ServerMessage::ConnectionComplete {
                    capabilities: Capabilities::default(),
                    format: "VP8".to_owned(),
                    width: WIDTH,
                    height: HEIGHT,
                    fps: RATE,
                };
                self.tell(complete).await;
            }
            candidate @ Signal::AddIceCandidate { .. } => peer.add_candidate(candidate).await?,
        }
        Ok(())
    }

    async fn start(&mut self, wish: &StreamSettings) -> Result<(), CardPeerError> {
        if self.peer.as_ref().is_none_or(|(peer, _)| peer.has_video()) {
            return Ok(()); // asked too early, or twice
        }
        let (width, height, fps) = (wish.width, wish.height, wish.fps);
        if let Err(why) = self.launch(&format!("{width}x{height}x{fps}")).await {
            // As with the original the page hears nothing of it but the goodbye.
            say::aside(format_args!("cannot start the app: {why}"));
            self.life.stop();
            return Ok(());
        }
        let Some((peer, _)) = &mut self.peer else {
            return Ok(());
        };
        let offer = peer.offer_video().await?;
        let wished = format!("The page asks for {width}x{height} at {fps} fps");
        self.tell(ServerMessage::log(wished)).await;
        self.tell(ServerMessage::WebRtc(offer)).await;
        Ok(())
    }

    /// Lets the body start the app. The picture is our own all the same.
    async fn launch(&self, mode: &str) -> Result<(), String> {
        let client = Client::new(&Trust::Pinned(None)).map_err(|e| e.to_string())?;
        let body = RequestBody {
            client: &client,
            address: &self.assignment.host_address,
            http_port: self.assignment.host_http_port,
            unique_id: &self.assignment.client_unique_id,
        };
        match body.start(self.assignment.app_id, mode).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the body started nothing".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn announce(&mut self, candidate: &str) {
        for candidate in ice::announced(&self.assignment.config.webrtc, candidate) {
            let signal = Signal::AddIceCandidate {
                candidate,
                sdp_mid: None,
                // Everything is bundled on the first section.
                sdp_mline_index: Some(0),
                username_fragment: None,
            };
            self.tell(ServerMessage::WebRtc(signal)).await;
        }
    }

    async fn tell(&mut self, message: ServerMessage) {
        if self.orders.is_some() {
            write(&FromStreamer::WebSocket(message)).await;
        }
    }
}

/// What a page may say on the channel `general`.
#[derive(serde::Deserialize)]
enum GeneralMessage {
    Stop,
}

/// Writes one line to the parent. A parent that is gone or stuck misses it.
async fn write(message: &FromStreamer) {
    let mut stdout = Unblock::new(std::io::stdout());
    let write = lines::write(&mut stdout, message);
    if let Ok(Err(error)) = clock::by(clock::now() + WRITE_WAIT, write).await {
        say::aside(format_args!("cannot tell the web-server: {error}"));
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverConnected => "no page connected in time",
            Self::PeerGone => "the page is gone",
            Self::Stopped => "it was stopped",
        })
    }
}
