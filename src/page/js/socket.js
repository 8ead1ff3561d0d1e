// Socket: the page's signalling WebSocket, listened to. It tells of fatal stages, of termination,
// and carries the video itself when the page fell back to the WebSocket transport.

const STREAM_SOCKET = /\/api\/host\/stream(\/web_socket)?$/;
const FRAMES_TOLD_EVERY_MS = 1000; // sixty frames a second need not be sixty events
let socketBytes = 0;
// A session has one streamer: the tab that signals last has it. Another that took it back by itself
// would lose it the same way. The number decides between tabs that open in the same moment.
let claim = null;
const streamTabs = window.BroadcastChannel ? new BroadcastChannel(`hydraneck-stream ${CONFIG.base}`) : null;

function readSignal(text) {
  let signal;
  try {
    signal = JSON.parse(text);
  } catch {
    return;
  }
  if (signal && signal.ConnectionTerminated) {
    // The body fell silent (-1, or an errno); 0 is its goodbye, -100 and below its refusals.
    const code = Number(signal.ConnectionTerminated.error_code);
    monitor.tell({ type: 'terminated', isLoss: code === -1 || code > 0 });
    askServer();
  } else if (signal && signal.DebugLog && /^fatal/.test(signal.DebugLog.ty || '')) {
    monitor.tell({ type: 'fatal', detail: String(signal.DebugLog.message || '').slice(0, 200) });
    askServer();
  }
}

function watchSocket(socket) {
  let toldAt = -Infinity;
  listen(socket, 'open', () => {
    claim = { at: Date.now(), number: Math.random() };
    if (streamTabs) streamTabs.postMessage(claim);
  });
  listen(socket, 'message', ({ data }) => {
    if (typeof data === 'string') {
      readSignal(data);
      return;
    }
    socketBytes += data.byteLength || data.size || 0;
    if (performance.now() - toldAt < FRAMES_TOLD_EVERY_MS) return;
    toldAt = performance.now();
    monitor.tell({ type: 'frames' });
  });
  listen(socket, 'close', () => {
    monitor.tell({ type: 'socket-closed' });
    askServer();
  });
}

function yieldTo({ data }) {
  if (!claim || !data) return;
  const isLater = data.at > claim.at || (data.at === claim.at && data.number > claim.number);
  if (isLater) monitor.tell({ type: 'taken' });
}

function wrapWebSocket() {
  if (streamTabs) listen(streamTabs, 'message', yieldTo);
  const Native = NATIVE.WebSocket;
  const Wrapped = new Proxy(Native, {
    construct(target, args, newTarget) {
      const socket = Reflect.construct(target, args, newTarget === Wrapped ? target : newTarget);
      guard(() => {
        if (STREAM_SOCKET.test(new URL(socket.url).pathname)) watchSocket(socket);
      })();
      return socket;
    },
  });
  Object.defineProperty(Native.prototype, 'constructor', { value: Wrapped, writable: true, configurable: true });
  window.WebSocket = Wrapped;
}
