// Mic: off, asking, on, blocked or error. Holds the track, keeps a way open for it, and lets go
// of both when the visitor, the stream or the page says so.

const CONSTRAINTS = { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 } };
const CONNECT_MS = 10000; // answer to connected
const DIP_MS = 4000; // a shorter dip heals by itself
const REOFFERS_MAX = 5; // in a row
const REOFFER_MS = [500, 1000, 2000, 4000, 8000]; // before each
const LATELY_MS = 60000;
const LATELY_MAX = 8; // re-offers in that time: another device takes the session's microphone each time

const mic = (() => {
  let state = 'off';
  let note = '';
  let isWanted = false; // by the visitor: an outage does not change that
  let wasOn = false; // it can work here, so what hinders it now may pass
  let take = 0; // every start and stop makes what came before it stale
  let stream = null;
  let pc = null;
  let timer = null;
  let reoffers = 0;
  let lately = []; // when there were re-offers
  const observers = [];
  // A session has one microphone. The tab that is asked last has it; the others let go.
  const tabs = window.BroadcastChannel ? new BroadcastChannel(`hydraneck-mic ${CONFIG.base}`) : null;

  function become(next, words = '') {
    state = next;
    note = words;
    for (const observer of observers) observer(state, note, stream);
  }
  function release() {
    take += 1;
    clearTimeout(timer);
    if (pc) pc.close();
    if (stream) for (const track of stream.getTracks()) track.stop();
    pc = null;
    stream = null;
    reoffers = 0;
  }
  /** Lets go of it, but not of what the worker has: that is somebody else's by now. */
  function leave(next = 'off', words = '', isStillWanted = false) {
    isWanted = isStillWanted;
    release();
    become(next, words);
  }
  function stop(next, words, isStillWanted) {
    const wasOpen = Boolean(pc) || state === 'on';
    leave(next, words, isStillWanted);
    if (wasOpen) NATIVE.fetch(`${CONFIG.base}mic`, { method: 'DELETE', keepalive: true }).catch(() => {});
  }

  function reoffer(words) {
    clearTimeout(timer);
    if (!stream) return;
    if (reoffers >= REOFFERS_MAX) {
      stop('error', words, true);
      return;
    }
    const now = Date.now();
    lately = lately.filter((at) => at > now - LATELY_MS);
    if (lately.length >= LATELY_MAX) {
      leave('error', words);
      return;
    }
    lately.push(now);
    become('asking', 'mic_connecting');
    timer = later(offer, pick(REOFFER_MS, reoffers));
    reoffers += 1;
  }
  function onState(next) {
    clearTimeout(timer);
    if (next === 'connected') {
      reoffers = 0;
      wasOn = true;
      become('on');
    } else if (next === 'disconnected') timer = later(() => reoffer('mic_lost'), DIP_MS);
    else if (next === 'failed') reoffer('mic_lost');
    else if (next === 'connecting') timer = later(() => reoffer('mic_no_relay'), CONNECT_MS);
  }
  async function offer() {
    const mine = ++take;
    clearTimeout(timer);
    if (pc) pc.close();
    pc = null;
    become('asking', 'mic_connecting');
    try {
      const opened = await openMicConnection(stream.getAudioTracks()[0], stream, (next) => { if (mine === take) onState(next); });
      if (mine === take) pc = opened;
      else opened.close();
    } catch (error) {
      if (mine !== take) return;
      if (!wasOn && (error.message === 'mic_refused' || error.message === 'mic_no_relay')) stop('error', error.message);
      else reoffer(error.message);
    }
  }

  function refusal(error) {
    if (error.name === 'NotAllowedError' || error.name === 'SecurityError') return ['blocked', 'mic_denied'];
    if (error.name === 'NotFoundError' || error.name === 'OverconstrainedError') return ['error', 'mic_none'];
    return ['error', 'mic_unusable'];
  }
  async function start(isResumed = false) {
    isWanted = true;
    wasOn = isResumed;
    if (!window.isSecureContext || !navigator.mediaDevices) {
      leave('blocked', 'mic_insecure');
      return;
    }
    release();
    lately = [];
    const mine = take;
    become('asking', 'mic_asking');
    let opened;
    try {
      opened = await navigator.mediaDevices.getUserMedia(CONSTRAINTS);
    } catch (error) {
      if (mine === take) leave(...refusal(error));
      return;
    }
    if (mine !== take) {
      for (const track of opened.getTracks()) track.stop();
      return;
    }
    stream = opened;
    if (tabs) tabs.postMessage('taken');
    listen(stream.getAudioTracks()[0], 'ended', () => { if (opened === stream) stop('error', 'mic_unplugged'); });
    await offer();
  }

  if (tabs) listen(tabs, 'message', () => {
    if (stream || state === 'asking') leave('off', 'mic_elsewhere');
    isWanted = false;
  });

  return {
    start: guard(start),
    stop: guard(stop),
    leave: guard(leave),
    isWanted: () => isWanted,
    toggle: guard(() => (state === 'on' || state === 'asking' ? stop() : start())),
    onChange: (observer) => observers.push(guard(observer)),
    /** Another network: the old way may be dead without anyone noticing. */
    moved: guard(() => { if (stream) { reoffers = 0; offer(); } }),
  };
})();

function followMic() {
  monitor.onChange((streamState) => { if (streamState.phase === 'ended') mic.stop(); });
  listen(window, 'pagehide', () => mic.stop());
  listen(window, 'online', () => mic.moved());
  if (navigator.connection) {
    let type = navigator.connection.type;
    listen(navigator.connection, 'change', () => {
      if (navigator.connection.type === type) return; // only its estimates changed
      type = navigator.connection.type;
      mic.moved();
    });
  }
}
