// Stats: what WebRTC measures, as a digest to the worker and a line for a curious visitor.

const DIGEST_EVERY_MS = 5000; // as often as the worker needs it
const LINE_EVERY_MS = 1000; // while the line is shown

/** Behind address translation a relayed candidate comes to be known as peer-reflexive. */
function pathType({ candidateType }) {
  const isRelayed = current.getConfiguration().iceTransportPolicy === 'relay';
  return candidateType === 'prflx' && isRelayed ? 'relay' : candidateType;
}

function createMeter() {
  let before = null;

  function rates(now) {
    const seconds = before && before.source === now.source ? (now.at - before.at) / 1000 : 0;
    const fresh = { kbps: null, fps: null };
    if (seconds > 0) {
      fresh.kbps = Math.max(0, Math.round(((now.bytes - before.bytes) * 8) / 1000 / seconds));
      fresh.fps = now.frames === null ? null : Math.max(0, Math.round((10 * (now.frames - before.frames)) / seconds) / 10);
    }
    before = now;
    return fresh;
  }

  /** One reading; rates are since the reading before. */
  return async () => {
    const digest = { connection_state: current ? current.connectionState : 'new', disconnect_count: visit.facts.disconnects };
    if (monitor.streamState.transport === 'websocket') {
      const { kbps } = rates({ source: 'socket', at: performance.now(), bytes: socketBytes, frames: null });
      return { ...digest, connection_state: 'connected', bitrate_kbps: kbps };
    }
    if (!current || current.connectionState === 'closed') return digest;
    const report = await current.getStats();
    const now = { source: current, at: performance.now(), bytes: 0, frames: 0 };
    let lost = 0;
    let pair = null;
    report.forEach((entry) => {
      if (entry.type === 'inbound-rtp') {
        now.bytes += entry.bytesReceived || 0;
        now.frames += entry.framesDecoded || 0;
        lost += entry.packetsLost || 0;
      } else if (entry.type === 'transport' && entry.selectedCandidatePairId) {
        pair = report.get(entry.selectedCandidatePairId);
      } else if (entry.type === 'candidate-pair' && entry.selected) {
        pair = entry; // Firefox
      }
    });
    const local = pair && report.get(pair.localCandidateId);
    if (local && local.candidateType) visit.keep({ candidate: pathType(local) });
    const { kbps, fps } = rates(now);
    return {
      ...digest,
      ice_candidate_type: visit.facts.candidate || null,
      rtt_ms: pair && pair.currentRoundTripTime !== undefined ? Math.round(pair.currentRoundTripTime * 1000) : null,
      bitrate_kbps: kbps,
      packets_lost: lost,
      fps,
    };
  };
}

function describe(digest) {
  if (monitor.streamState.transport === 'websocket') return [say('path_websocket'), say('mbits', { rate: number((digest.bitrate_kbps || 0) / 1000, 1) })];
  if (!digest.ice_candidate_type) return [say('no_stream')];
  const parts = [say(digest.ice_candidate_type === 'relay' ? 'path_relay' : 'path_direct')];
  if (digest.rtt_ms !== null) parts.push(say('rtt', { ms: number(digest.rtt_ms) }));
  if (digest.bitrate_kbps !== null) parts.push(say('mbits', { rate: number(digest.bitrate_kbps / 1000, 1) }));
  if (digest.fps !== null) parts.push(say('fps', { fps: number(digest.fps) }));
  return parts;
}

/** Starts the digests; gives back the elements for the dock. */
function createStats() {
  const sendDigest = createMeter();
  const readLine = createMeter();
  let timer = null;
  const line = make('output.line', { hidden: true });
  const button = make('button.tool', {
    type: 'button', 'aria-label': say('stats'), title: say('stats'), onclick: () => toggle(!wishes.facts.stats),
  }, icon('M4 19V12M10 19V5M16 19V9M21 19H3'));

  async function draw() {
    line.textContent = describe(await readLine()).join(' · ');
  }
  function toggle(isShown) {
    wishes.keep({ stats: isShown });
    line.hidden = !isShown;
    button.setAttribute('aria-pressed', String(isShown));
    clearInterval(timer);
    if (!isShown) return;
    guard(draw)();
    timer = setInterval(guard(draw), LINE_EVERY_MS);
  }
  toggle(wishes.facts.stats);

  setInterval(guard(async () => {
    if (monitor.streamState.phase === 'ended' || monitor.streamState.reason === 'elsewhere') return;
    const digest = await sendDigest();
    // Absent is unknown; the worker reads null no better.
    const known = Object.fromEntries(Object.entries(digest).filter(([, value]) => value !== null));
    await post('stats', known).catch(() => {});
  }), DIGEST_EVERY_MS);
  return [line, button];
}
