// Through a real TURN server, as in production: picture and voice by the relay and by nothing else.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTurn } from './fixture/turn.mjs';
import { needs, shots, stage, until, visit } from './harness.mjs';

const path = process.env.TURNSERVER || '/usr/bin/turnserver';
const options = needs(`${path} (package coturn)`, existsSync(path));

let set;
let turn;
before(async () => {
  if (options.skip) return;
  turn = await startTurn(path);
  set = await stage();
});
after(async () => {
  if (set) await set.close();
  if (turn) await turn.close();
});

const relayed = () => ({ config: { relay_only: true }, iceServers: turn.iceServers, query: '&transport=webrtc', context: { permissions: ['microphone'] } });

test('the picture comes through the relay, and the page says so', options, async () => {
  const visitor = await visit(set, relayed());
  await visitor.live();
  await visitor.page.getByRole('button', { name: 'Connection details' }).click();
  await until(async () => /^Relay · \d+ ms/.test(await visitor.page.locator('#hydraneck .line').innerText()), 'the line says relay');
  const digest = await until(() => visitor.session.called('stats').find((call) => call.body.ice_candidate_type), 'a digest', 15000);
  assert.equal(digest.body.ice_candidate_type, 'relay');
  await visitor.page.screenshot({ path: join(shots(), 'live-relay.png') });
  visitor.session.end('deleted');
  await visitor.card.waitFor();
  const href = await visitor.card.getByRole('link', { name: 'Report a problem' }).getAttribute('href');
  assert.equal(new URL(href).searchParams.get('ice_candidate_type'), 'relay');
  await visitor.close();
});

test('the voice goes through the relay, and its offer names no other address', options, async () => {
  const visitor = await visit(set, relayed());
  await visitor.live();
  const mic = visitor.page.locator('#hydraneck .mic');
  await mic.click();
  await until(async () => (await mic.getAttribute('data-state')) === 'on', 'the microphone is on', 15000);
  const [{ body }] = visitor.session.called('mic/offer');
  const candidates = body.sdp.match(/^a=candidate:.*$/gm);
  assert.ok(candidates.length > 0 && candidates.every((line) => / typ relay /.test(line)), String(candidates));
  await until(() => visitor.streamer.evaluate(async () => [...(await window.streamer.mic.getStats()).values()].some((entry) => entry.type === 'inbound-rtp' && entry.packetsReceived > 20)), 'packets arrive');
  await visitor.close();
});
