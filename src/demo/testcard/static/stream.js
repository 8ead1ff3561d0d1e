// The stream page of the test card. It behaves towards scripts that share the page as
// moonlight-web-stream's does: the same elements, the same order of messages, one bare
// RTCPeerConnection, input events swallowed, and an Exit button that closes the window.
import CONFIG from "./config.js";

const LOG_LINES = 200; // kept for "Show Logs"
const POPUPS = 5; // shown at once
const EXIT_PAUSE = 100; // ms between the farewell and the end of the window

// Labels of the channels that a browser opens; `general` is the server's.
const CHANNELS = [
  "stats", "mouse_reliable", "mouse_absolute", "mouse_relative", "keyboard", "touch", "controllers",
  ...Array.from({ length: 16 }, (_, n) => `controller${n}`), "rtt",
];

const by = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function popup(text) {
  const list = by("error-list");
  while (list.children.length >= POPUPS) list.firstChild.remove();
  const line = make("div", "", text);
  list.append(line);
  setTimeout(() => line.remove(), 8000);
}

window.addEventListener("error", (event) => popup(event.message));
window.addEventListener("unhandledrejection", (event) => popup(String(event.reason)));

// What the page tells while it connects.
class ConnectionInfoModal {
  constructor() {
    this.box = make("div", "modal-video-connect");
    this.text = make("p", "", "Connecting");
    this.log = make("div", "log");
    this.log.hidden = true;
    const buttons = make("div", "buttons");
    const show = make("button", "", "Show Logs");
    show.addEventListener("click", () => { this.log.hidden = !this.log.hidden; });
    const close = make("button", "", "Close");
    close.addEventListener("click", () => this.hide());
    buttons.append(show, close);
    this.box.append(this.text, buttons, this.log);
    by("modal-parent").append(this.box);
    by("modal-overlay").classList.remove("modal-disabled");
  }

  line(text) {
    this.text.textContent = text;
    while (this.log.children.length >= LOG_LINES) this.log.firstChild.remove();
    this.log.append(make("div", "", text));
  }

  fail(text) {
    this.box.classList.add("failed");
    this.line(text);
    by("modal-overlay").classList.remove("modal-disabled");
  }

  hide() {
    by("modal-overlay").classList.add("modal-disabled");
  }
}

class Stream {
  constructor(hostId, appId, modal) {
    this.modal = modal;
    this.events = new EventTarget();
    this.channels = new Map();
    this.general = null;
    this.peer = null;
    this.remote = false; // whether candidates can be added
    this.early = [];
    this.connected = false;
    const scheme = window.location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${window.location.host}${CONFIG.path_prefix}/api/host/stream`);
    this.socket.addEventListener("open", () => this.send({
      Init: { host_id: hostId, app_id: appId, video_frame_queue_size: 3, audio_sample_queue_size: 20 },
    }));
    this.socket.addEventListener("message", (event) => {
      if (typeof event.data === "string") this.receive(JSON.parse(event.data));
    });
    this.socket.addEventListener("close", () => {
      this.modal.line("Signalling closed");
      if (!this.connected) this.modal.fail("The stream did not start");
    });
  }

  addInfoListener(listener) {
    this.events.addEventListener("stream-info", listener);
  }

  info(detail) {
    this.events.dispatchEvent(new CustomEvent("stream-info", { detail }));
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  receive(message) {
    if (message.DebugLog) {
      const { message: text, ty } = message.DebugLog;
      if (ty === "fatal" || ty === "fatalDescription") this.modal.fail(text);
      else this.modal.line(text);
    } else if (message.UpdateApp) {
      this.info({ type: "app", app: message.UpdateApp.app });
    } else if (message.Setup) {
      this.connect(message.Setup.ice_servers);
    } else if (message.WebRtc) {
      this.negotiate(message.WebRtc);
    } else if (message.ConnectionComplete) {
      this.modal.line("Completed Stage: Connection");
      this.info({ type: "connectionComplete" });
    } else if (message.ConnectionTerminated) {
      this.modal.fail(`Connection terminated with code ${message.ConnectionTerminated.error_code}`);
    }
  }

  async connect(iceServers) {
    this.send({ SetTransport: "WebRTC" });
    const peer = new RTCPeerConnection({ iceServers });
    this.peer = peer;
    peer.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate) {
        const { sdpMid, sdpMLineIndex, usernameFragment } = candidate;
        this.send({ WebRtc: { AddIceCandidate: {
          candidate: candidate.candidate, sdp_mid: sdpMid, sdp_mline_index: sdpMLineIndex,
          username_fragment: usernameFragment,
        } } });
      }
    });
    peer.addEventListener("connectionstatechange", () => this.stateChanged(peer.connectionState));
    peer.addEventListener("track", ({ track, streams }) => {
      this.info({ type: "track", stream: streams[0] ?? new MediaStream([track]) });
    });
    peer.addEventListener("datachannel", ({ channel }) => {
      if (channel.label === "general") this.general = channel;
    });
    for (const label of CHANNELS) this.channels.set(label, peer.createDataChannel(label));
    await peer.setLocalDescription();
    this.describe(peer.localDescription);
  }

  describe({ type, sdp }) {
    this.send({ WebRtc: { Description: { ty: type, sdp } } });
  }

  async negotiate({ Description: description, AddIceCandidate: added }) {
    if (description) {
      await this.peer.setRemoteDescription({ type: description.ty, sdp: description.sdp });
      this.remote = true;
      for (const early of this.early.splice(0)) await this.addCandidate(early);
      if (description.ty === "offer") {
        await this.peer.setLocalDescription();
        this.describe(this.peer.localDescription);
      }
    } else if (added) {
      if (this.remote) await this.addCandidate(added);
      else this.early.push(added);
    }
  }

  async addCandidate({ candidate, sdp_mid, sdp_mline_index, username_fragment }) {
    try {
      await this.peer.addIceCandidate({
        candidate, sdpMid: sdp_mid, sdpMLineIndex: sdp_mline_index, usernameFragment: username_fragment,
      });
    } catch (error) {
      this.modal.line(`Candidate not used: ${error.message}`);
    }
  }

  stateChanged(state) {
    this.modal.line(`Peer connection is ${state}`);
    if (state === "connected" && !this.connected) {
      this.connected = true;
      this.send({ StartStream: {
        bitrate: 10000, packet_size: 2048, fps: 60, width: 1920, height: 1080, play_audio_local: false,
        video_supported_formats: 1, video_colorspace: "Rec709", video_color_range_full: false, hdr: false,
        ...CONFIG.default_settings?.videoSizeCustom,
      } });
    } else if ((state === "failed" || state === "closed") && !this.connected) {
      this.modal.fail("Failed to connect to the stream");
    }
    // Once connected, a loss is only a line in the log: the last frame stays.
  }

  input(label, event) {
    const channel = this.channels.get(label);
    if (channel?.readyState === "open") channel.send(JSON.stringify(event));
  }

  // Two bytes of big-endian length, then JSON. Throws when the channel was never opened.
  stop() {
    const body = new TextEncoder().encode(JSON.stringify("Stop"));
    const frame = new Uint8Array(2 + body.length);
    new DataView(frame.buffer).setUint16(0, body.length);
    frame.set(body, 2);
    this.general.send(frame);
  }
}

// Sidebar, in the original's order: Exit is the last button.
class Sidebar {
  constructor(app) {
    const buttons = make("div", "sidebar-stream-buttons");
    const entries = [
      ["Send Keycode", () => app.stream.input("keyboard", { key: "Meta" })],
      ["Lock Mouse", () => by("input").requestPointerLock()],
      ["Keyboard", () => by("input").focus()],
      ["Fullscreen", () => (document.fullscreenElement
        ? document.exitFullscreen()
        : document.body.requestFullscreen())],
      ["Stats", () => { app.stats.hidden = !app.stats.hidden; }],
      ["Exit", () => app.exit()],
    ];
    for (const [label, act] of entries) {
      const button = make("button", "", label);
      button.type = "button";
      button.addEventListener("click", act);
      buttons.append(button);
    }
    const inner = make("div", "sidebar-stream");
    inner.append(buttons);
    by("sidebar-parent").append(inner);
    by("sidebar-button").addEventListener("click", () => by("sidebar-root").classList.toggle("sidebar-show"));
  }
}

class ViewerApp {
  constructor(hostId, appId) {
    this.stream = null;
    this.modal = new ConnectionInfoModal();
    this.stats = make("pre", "video-stats");
    this.stats.hidden = true;
    this.video = make("video", "video-stream");
    Object.assign(this.video, { autoplay: true, muted: true, playsInline: true });
    by("root").append(this.video, this.stats);
    this.caption();
    this.sidebar = new Sidebar(this);
    this.swallow();
    this.start(hostId, appId);
  }

  getStream() {
    return this.stream;
  }

  async start(hostId, appId) {
    const answer = await fetch(`${CONFIG.path_prefix}/api/authenticate`);
    if (answer.status === 401) {
      window.location.reload();
      return;
    }
    this.stream = new Stream(hostId, appId, this.modal);
    this.stream.addInfoListener(({ detail }) => this.informed(detail));
    setInterval(() => this.measure(), 1000);
  }

  informed(detail) {
    if (detail.type === "app") {
      this.title.textContent = detail.app.title;
      document.title = detail.app.title;
    } else if (detail.type === "track") {
      this.video.srcObject = detail.stream;
      this.video.play().catch((error) => this.modal.line(`Video waits: ${error.message}`));
      this.video.requestVideoFrameCallback?.(() => this.modal.hide());
    }
  }

  caption() {
    const box = make("div", "caption");
    const left = make("div");
    this.title = make("div", "caption-app", "\u2026");
    left.append(make("div", "caption-name", "hydraneckwebrtc test card"), this.title);
    const clock = make("div", "caption-clock");
    const tick = () => { clock.textContent = new Date().toLocaleTimeString("en-GB"); };
    tick();
    setInterval(tick, 250);
    box.append(left, clock);
    by("root").append(box);
  }

  async measure() {
    if (this.stats.hidden || !this.stream?.peer) return;
    const report = await this.stream.peer.getStats();
    const lines = [`connection  ${this.stream.peer.connectionState}`];
    for (const entry of report.values()) {
      if (entry.type === "inbound-rtp" && entry.kind === "video") {
        lines.push(`size        ${entry.frameWidth}x${entry.frameHeight}`, `fps         ${entry.framesPerSecond ?? 0}`,
          `decoded     ${entry.framesDecoded}`, `lost        ${entry.packetsLost}`);
      } else if (entry.type === "candidate-pair" && entry.nominated) {
        lines.push(`round trip  ${Math.round((entry.currentRoundTripTime ?? 0) * 1000)} ms`,
          `path        ${report.get(entry.localCandidateId)?.candidateType}`);
      }
    }
    this.stats.textContent = lines.join("\n");
  }

  // Everything typed and pointed belongs to the game, wherever on the page it happens; only
  // sidebar and modal keep their own events.
  swallow() {
    const channel = {
      keydown: "keyboard", keyup: "keyboard", mousedown: "mouse_reliable", mouseup: "mouse_reliable",
      mousemove: "mouse_relative", wheel: "mouse_reliable", contextmenu: null,
      touchstart: "touch", touchmove: "touch", touchend: "touch", touchcancel: "touch",
    };
    for (const target of [document, by("input")]) {
      for (const [type, label] of Object.entries(channel)) {
        target.addEventListener(type, (event) => {
          event.preventDefault();
          event.stopPropagation();
          if (label) this.stream?.input(label, { type, key: event.key, button: event.button });
        }, { passive: false });
      }
    }
    for (const root of [by("sidebar-root"), by("modal-overlay")]) {
      for (const type of ["click", ...Object.keys(channel)]) {
        root.addEventListener(type, (event) => event.stopPropagation());
      }
    }
  }

  exit() {
    this.stream.stop();
    setTimeout(() => {
      if (window.matchMedia("(display-mode: standalone)").matches) history.back();
      else window.close();
    }, EXIT_PAUSE);
  }
}

const query = new URLSearchParams(window.location.search);
const hostId = Number.parseInt(query.get("hostId"), 10);
const appId = Number.parseInt(query.get("appId"), 10);
if (Number.isNaN(hostId) || Number.isNaN(appId)) {
  new ConnectionInfoModal().fail("No Host or no App Id found");
  window.close();
} else {
  window.app = new ViewerApp(hostId, appId);
}
