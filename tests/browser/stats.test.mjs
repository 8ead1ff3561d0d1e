// The digest to the worker and the line for the visitor.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { never, stage, until, visit } from './harness.mjs';

const FIELDS = ['connection_state', 'ice_candidate_type', 'disconnect_count', 'rtt_ms', 'bitrate_kbps', 'packets_lost', 'fps'];

let set;
before(async () => { set = await stage(); });
after(() => set.close());

test('the worker gets a digest every five seconds, of known fields only', async () => {
  const visitor = await visit(set);
  await visitor.live();
  const digests = await until(() => visitor.session.called('stats').length >= 3 && visitor.session.called('stats'), 'three digests', 30000);
  for (const { body } of digests) assert.deepEqual(Object.keys(body).filter((key) => !FIELDS.includes(key)), []);
  const last = digests[2].body;
  assert.equal(last.connection_state, 'connected');
  assert.equal(last.disconnect_count, 0);
  assert.match(last.ice_candidate_type, /^(host|prflx)$/);
  for (const field of ['rtt_ms', 'bitrate_kbps', 'packets_lost', 'fps']) assert.equal(typeof last[field], 'number', field);
  assert.ok(last.bitrate_kbps > 0 && last.fps > 0);
  const gap = digests[2].at - digests[1].at;
  assert.ok(gap >= 4000, `${gap} ms`);
  visitor.session.end('deleted');
  await visitor.card.waitFor();
  const count = visitor.session.called('stats').length;
  await never(() => visitor.session.called('stats').length > count, 'a digest after the end', 6000);
  await visitor.close();
});

test('a WebSocket stream has a digest too', async () => {
  const visitor = await visit(set, { query: '&transport=websocket', hasNoStreamer: true });
  const digest = await until(() => visitor.session.called('stats').find((call) => call.body.bitrate_kbps > 0), 'a digest with a rate', 20000);
  assert.equal(digest.body.connection_state, 'connected');
  assert.equal(digest.body.ice_candidate_type, undefined);
  await visitor.close();
});

test('the line is shown on demand, says what is, and stays as chosen', async () => {
  const visitor = await visit(set);
  await visitor.live();
  const line = visitor.page.locator('#hydraneck .line');
  const button = visitor.page.getByRole('button', { name: 'Connection details' });
  assert.equal(await line.isVisible(), false);
  await button.click();
  assert.equal(await button.getAttribute('aria-pressed'), 'true');
  await until(async () => /^Direct · \d+ ms · \d+\.\d Mbit\/s · [\d.]+ fps$/.test(await line.innerText()), 'the line is whole');
  await visitor.page.reload();
  await visitor.live();
  await until(() => line.isVisible(), 'the line is there again');
  await button.click();
  assert.equal(await line.isVisible(), false);
  await visitor.close();
});

test('a refused digest bothers nobody', async () => {
  const visitor = await visit(set, { expects: /429/ });
  visitor.session.answers.stats = 429;
  await visitor.live();
  await until(() => visitor.session.called('stats').length, 'a digest', 15000);
  assert.deepEqual(await visitor.page.evaluate(() => window.game.errors), []);
  await visitor.close();
});
