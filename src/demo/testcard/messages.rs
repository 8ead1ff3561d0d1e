//! The JSON that browser, web-server and streamer say to each other.
//!
//! Shapes are moonlight-web-stream's, as far as a test card needs them; fields it does not use
//! are ignored when read.

use serde::{Deserialize, Serialize};

use super::settings::{CardIceServer, WebRtc};

/// From the page, over the signalling WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum ClientMessage {
    /// The first message: what to stream.
    Init {
        /// A host of the caller's.
        host_id: u32,
        /// One of its apps.
        app_id: u32,
    },
    /// How media shall travel.
    SetTransport(Transport),
    /// One step of the negotiation.
    WebRtc(Signal),
    /// The page is connected and wants pictures.
    StartStream(StreamSettings),
}

/// How media travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Transport {
    /// As SRTP.
    WebRTC,
    /// As binary frames on the signalling socket; the test card has none.
    WebSocket,
}

/// One step of the WebRTC negotiation, in either direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Signal {
    /// A session description.
    Description {
        /// `offer` or `answer`.
        ty: String,
        /// The description.
        sdp: String,
    },
    /// A trickled candidate.
    AddIceCandidate {
        /// The `candidate:` line.
        candidate: String,
        /// The media section it belongs to.
        #[serde(default)]
        sdp_mid: Option<String>,
        /// That section's index.
        #[serde(default)]
        sdp_mline_index: Option<u16>,
        /// The ICE generation it belongs to.
        #[serde(default)]
        username_fragment: Option<String>,
    },
}

/// What the page asks of the stream. The clip is what it is; the wish is only logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StreamSettings {
    /// Kilobits a second.
    pub(super) bitrate: u32,
    /// Frames a second.
    pub(super) fps: u32,
    /// Pixels.
    pub(super) width: u32,
    /// Pixels.
    pub(super) height: u32,
}

/// To the page, over the signalling WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum ServerMessage {
    /// A line for the page's log, or the reason why nothing will come.
    DebugLog {
        /// The line.
        message: String,
        /// How bad it is.
        ty: Option<Severity>,
    },
    /// What is streamed.
    UpdateApp {
        /// The app.
        app: App,
    },
    /// How the page shall reach the streamer.
    Setup {
        /// As configured.
        ice_servers: Vec<CardIceServer>,
    },
    /// One step of the negotiation.
    WebRtc(Signal),
    /// The picture is on its way.
    ConnectionComplete {
        /// What the stream takes as input.
        capabilities: Capabilities,
        /// The codec.
        format: String,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Frames a second.
        fps: u32,
    },
    /// The stream is over.
    ConnectionTerminated {
        /// 0 when nothing went wrong.
        error_code: i32,
    },
}

impl ServerMessage {
    /// A log line.
    pub(super) fn log(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::DebugLog { message, ty: None }
    }

    /// A sentence that says why there will be no stream.
    pub(super) fn refusal(message: impl Into<String>) -> Self {
        Self::DebugLog {
            message: message.into(),
            ty: Some(Severity::FatalDescription),
        }
    }
}

/// How bad a [`ServerMessage::DebugLog`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Severity {
    /// The stream is over.
    Fatal,
    /// The stream is over, and this is the sentence for people.
    FatalDescription,
}

/// An app of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct App {
    /// GameStream id.
    pub(super) app_id: u32,
    /// Title.
    pub(super) title: String,
    /// Whether the body can send it in HDR.
    pub(super) is_hdr_supported: bool,
}

/// What the stream takes as input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Capabilities {
    /// Touch events.
    pub(super) touch: bool,
}

/// From the web-server to its streamer, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum ToStreamer {
    /// The first line.
    Init(Box<Assignment>),
    /// What the page said.
    WebSocket(ClientMessage),
    /// The page is gone or the server stops.
    Stop,
}

/// What a streamer is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Assignment {
    /// Configuration of the stream.
    pub(super) config: AssignmentConfig,
    /// The body.
    pub(super) host_address: String,
    /// Its GameStream port.
    pub(super) host_http_port: u16,
    /// Name under which the pairing was made.
    pub(super) client_unique_id: String,
    /// The app to stream.
    pub(super) app_id: u32,
}

/// The part of the configuration that a streamer needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AssignmentConfig {
    /// Ports, servers, policies.
    pub(super) webrtc: WebRtc,
}

/// From a streamer to its web-server, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum FromStreamer {
    /// For the page.
    WebSocket(ServerMessage),
    /// The stream is over; the streamer ends.
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_of_the_real_page_is_understood() {
        let text = r#"{"Init":{"host_id":7,"app_id":881448767,"video_frame_queue_size":3,"audio_sample_queue_size":20}}"#;
        let init = serde_json::from_str::<ClientMessage>(text).unwrap();
        let (host_id, app_id) = (7, 881_448_767);
        assert_eq!(init, ClientMessage::Init { host_id, app_id });
    }

    #[test]
    fn messages_have_the_shapes_of_the_contract() {
        for (message, json) in [
            (
                ServerMessage::log("Launching streamer"),
                r#"{"DebugLog":{"message":"Launching streamer","ty":null}}"#,
            ),
            (
                ServerMessage::refusal("host not found"),
                r#"{"DebugLog":{"message":"host not found","ty":"fatalDescription"}}"#,
            ),
            (
                ServerMessage::ConnectionTerminated { error_code: 0 },
                r#"{"ConnectionTerminated":{"error_code":0}}"#,
            ),
            (
                ServerMessage::WebRtc(Signal::Description {
                    ty: "answer".to_owned(),
                    sdp: "v=0".to_owned(),
                }),
                r#"{"WebRtc":{"Description":{"ty":"answer","sdp":"v=0"}}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&message).unwrap(), json);
        }
        assert_eq!(
            serde_json::to_string(&ToStreamer::Stop).unwrap(),
            r#""Stop""#
        );
        let transport = serde_json::from_str::<ClientMessage>(r#"{"SetTransport":"WebRTC"}"#);
        assert_eq!(
            transport.unwrap(),
            ClientMessage::SetTransport(Transport::WebRTC)
        );
    }

    #[test]
    fn a_start_with_fields_of_newer_pages_is_understood() {
        let text = r#"{"StartStream":{"bitrate":10000,"fps":60,"width":1920,"height":1080,"hdr":false,"video_colorspace":"Rec709"}}"#;
        let message = serde_json::from_str::<ClientMessage>(text).unwrap();
        let ClientMessage::StartStream(wish) = message else {
            panic!("no start: {message:?}");
        };
        assert_eq!((wish.width, wish.fps), (1920, 60));
    }
}
