// Microphone connection: one audio track to the worker, over the session's relay, as one offer and one answer.

const GATHER_MS = 8000; // a relay that has not answered by then is not reachable
const SETTLE_MS = 300; // after the first relay candidate: others come at once or not at all
const OFFER_MS = 10000; // the worker's answer, through the controller

/** Opus for a voice: mono, with error correction, silent when nobody speaks. */
function voiceSdp(sdp) {
  const wanted = { minptime: '10', useinbandfec: '1', usedtx: '1', stereo: '0', 'sprop-stereo': '0', maxaveragebitrate: '32000' };
  const opus = /^a=rtpmap:(\d+) opus\/48000/im.exec(sdp);
  if (!opus) return sdp;
  const line = new RegExp(`^a=fmtp:${opus[1]} ([^\\r\\n]*)`, 'm');
  const join = (settings) => Object.entries(settings).map(([key, value]) => `${key}=${value}`).join(';');
  const found = line.exec(sdp);
  if (!found) return sdp.replace(/^a=rtpmap:\d+ opus\/48000[^\r\n]*/im, `$&\r\na=fmtp:${opus[1]} ${join(wanted)}`);
  const given = Object.fromEntries(found[1].split(';').filter(Boolean).map((pair) => pair.trim().split('=')));
  return sdp.replace(line, `a=fmtp:${opus[1]} ${join({ ...given, ...wanted })}`);
}

/** Waits until the candidates worth having are there. */
async function gathered(pc) {
  await new Promise((done) => {
    const timer = setTimeout(done, GATHER_MS);
    const finish = () => { clearTimeout(timer); done(); };
    listen(pc, 'icegatheringstatechange', () => { if (pc.iceGatheringState === 'complete') finish(); });
    listen(pc, 'icecandidate', ({ candidate }) => {
      if (candidate && candidate.type === 'relay') setTimeout(finish, SETTLE_MS);
    });
  });
}

/** A refusal the visitor should understand: `message` is the key of the words. */
class MicConnectionError extends Error {}

async function negotiate(pc, track, stream) {
  const transceiver = pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
  const codecs = RTCRtpReceiver.getCapabilities && RTCRtpReceiver.getCapabilities('audio');
  const opus = codecs ? codecs.codecs.filter(({ mimeType }) => /^audio\/opus$/i.test(mimeType)) : [];
  if (opus.length && transceiver.setCodecPreferences) transceiver.setCodecPreferences(opus);

  const done = gathered(pc);
  const offer = await pc.createOffer();
  await pc.setLocalDescription({ type: 'offer', sdp: voiceSdp(offer.sdp) }).catch(() => pc.setLocalDescription(offer));
  await done;
  const { sdp } = pc.localDescription;
  if (!/^a=candidate:/m.test(sdp)) throw new MicConnectionError('mic_no_relay');

  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), OFFER_MS);
  try {
    const answer = await post('mic/offer', { type: 'offer', sdp: voiceSdp(sdp) }, { signal: limit.signal });
    if (!answer.ok) throw new MicConnectionError(answer.status === 429 || answer.status === 503 ? 'mic_busy' : 'mic_refused');
    const { type, sdp: reply } = await answer.json();
    // The answer's settings are what our encoder goes by.
    await pc.setRemoteDescription({ type, sdp: voiceSdp(reply) });
  } finally {
    clearTimeout(timer);
  }
}

/** Opens a way for `track`; `onState` hears the connection's states from then on. */
async function openMicConnection(track, stream, onState) {
  const session = await fetchSession();
  if (session.status === 'silent') throw new MicConnectionError('mic_unreachable');
  const pc = new NATIVE.PeerConnection(relayed({ iceServers: session.ice_servers || [] }));
  listen(pc, 'connectionstatechange', () => onState(pc.connectionState));
  try {
    await negotiate(pc, track, stream);
    // The worker's goodbye: the connection itself only goes when its checks fail, seconds later.
    const { transport } = pc.getSenders()[0];
    if (transport) listen(transport, 'statechange', () => { if (transport.state === 'closed' && pc.connectionState !== 'closed') onState('failed'); });
  } catch (error) {
    pc.close();
    throw error instanceof MicConnectionError ? error : new MicConnectionError('mic_unreachable');
  }
  return pc;
}
