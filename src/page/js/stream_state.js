// Stream state: is the stream connecting, live, in a dip, to be reconnected, stuck or ended? Pure: it
// is told events and the time, and touches nothing. A lost signalling socket is not the end of
// the media, a dip may heal, and only the server or a clean stop of the streamer is an end.

// Milliseconds of waking time.
const LIMIT = Object.freeze({
  load: 30000, // page load until the page makes its peer connection: streamer start and Sunshine launch
  connect: 15000, // peer connection until connected; an unreachable relay alone stays silent for 41 s
  fallback: 3000, // failed WebRTC until the page's own WebSocket transport delivers frames
  dipShown: 1500, // shorter dips are not worth a word
  dipHeals: 8000, // ICE mostly recovers by itself within this
  stopSettles: 1500, // clean stop until the server has said why (ended or restarting)
  backHeals: 2000, // what a dip still gets once the network or the visitor is back
  framesPause: 5000, // WebSocket transport: silence worth a word
  framesLost: 15000, // WebSocket transport: silence that is a loss
});

const SEVERITY = { dip: 1, unreached: 2, failed: 2, stopped: 3 };

function createStreamState(start) {
  const streamState = { phase: 'connecting', reason: null, detail: '', transport: null, wasLive: false, isTaken: false };
  let patience = { since: start, within: LIMIT.load };
  let down = null;
  let peerState = 'none';
  let framesAt = null;
  let isLost = false; // the streamer lost its body: its goodbye is no end

  function live(transport) {
    Object.assign(streamState, { phase: 'live', reason: null, detail: '', transport, wasLive: true });
    down = null;
    isLost = false;
  }
  function become(phase, reason = null, detail = '') {
    Object.assign(streamState, { phase, reason, detail });
  }
  function fall(cause, now) {
    if (isLost) return;
    if (!down || SEVERITY[cause] > SEVERITY[down.cause]) down = { cause, at: now };
  }

  function peer(state, now) {
    peerState = state;
    if (state === 'connected') live('webrtc');
    else if (state === 'disconnected' && streamState.wasLive) fall('dip', now);
    else if (state === 'failed' || state === 'closed') {
      if (streamState.transport === 'websocket') return;
      fall(streamState.wasLive ? 'failed' : 'unreached', now);
    }
  }
  function socketClosed(now) {
    if (peerState === 'connected' && streamState.transport === 'webrtc') return;
    fall(streamState.wasLive ? 'failed' : 'unreached', now);
  }
  function server(event) {
    if (event.status === 'ended' || event.status === 'ending' || event.status === 'gone') {
      become('ended', event.reason || streamState.reason || 'unknown');
    } else if (streamState.isTaken) {
      // What becomes of the stream is the other tab's affair.
    } else if (event.status === 'restarting' || (event.status === 'starting' && down)) {
      down = null;
      become('reconnecting', 'restarting');
    }
  }

  function tick(now) {
    if (streamState.phase === 'connecting' && !down && now - patience.since >= patience.within) {
      become('stuck', 'connect_timeout');
    }
    if (streamState.transport === 'websocket' && !down && now - framesAt >= LIMIT.framesPause) {
      down = { cause: 'quiet', at: framesAt };
    }
    if (!down || streamState.phase === 'stuck') return;
    const length = now - down.at;
    if (down.cause === 'stopped' && length >= LIMIT.stopSettles) become('ended', 'stream_stopped');
    else if (down.cause === 'unreached' && length >= LIMIT.fallback) become('stuck', 'connect_timeout');
    else if (down.cause === 'failed') become('reconnecting', 'connection_lost');
    else if (down.cause === 'dip' && length >= LIMIT.dipHeals) become('reconnecting', 'connection_lost');
    else if (down.cause === 'quiet' && length >= LIMIT.framesLost) become('reconnecting', 'connection_lost');
    else if (down.cause === 'dip' && length >= LIMIT.dipShown) become('dipped');
    else if (down.cause === 'quiet') become('dipped');
  }

  streamState.step = (event, now) => {
    const wasTaken = streamState.isTaken;
    if (event.type === 'taken') streamState.isTaken = true; // also after an end: what runs now is the other tab's
    if (streamState.phase === 'ended' || (wasTaken && event.type !== 'server')) return streamState;
    switch (event.type) {
      case 'peer-made':
        peerState = 'new';
        if (!streamState.wasLive) patience = { since: now, within: LIMIT.connect };
        break;
      case 'peer':
        peer(event.state, now);
        break;
      case 'channel-closed': // with a live peer connection: the streamer said goodbye
        if (peerState === 'connected') fall('stopped', now);
        break;
      case 'terminated':
        if (!streamState.wasLive) become('stuck', 'start_failed');
        else if (event.isLoss) {
          isLost = true;
          down = { cause: 'failed', at: now };
        } else fall('stopped', now);
        break;
      case 'fatal':
        down = null;
        become('stuck', 'start_failed', event.detail);
        break;
      case 'frames':
        framesAt = now;
        if (peerState !== 'connected') live('websocket');
        break;
      case 'socket-closed':
        socketClosed(now);
        break;
      case 'taken': // by another tab: not to be fought for
        become('stuck', 'elsewhere');
        break;
      case 'server':
        server(event);
        break;
      case 'back':
        if (down && down.cause === 'dip') down.at = Math.min(down.at, now - LIMIT.dipHeals + LIMIT.backHeals);
        break;
      case 'given-up':
        become('ended', 'connection_lost');
        break;
      default:
        break;
    }
    if (streamState.phase !== 'ended') tick(now);
    return streamState;
  };
  return streamState;
}
