// When a stream is over and when it is not.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { never, stage, until, visit } from './harness.mjs';

const ENGLISH = JSON.parse(readFileSync(new URL('../../src/page/lang/en.json', import.meta.url), 'utf8'));
const END_MS = 5000; // what the issue allows between a delete and the overlay

let set;
before(async () => { set = await stage(); });
after(() => set.close());

test('every reason the server gives is said in its own words', async () => {
  const reasons = ['quit', 'deleted', 'disconnected', 'never_connected', 'max_duration', 'process_exited', 'start_failed', 'worker_shutdown', 'drained'];
  for (const reason of reasons) {
    const visitor = await visit(set, { hasNoStreamer: true });
    await until(() => visitor.session.listeners.size, 'the page follows the events');
    visitor.session.end(reason);
    await visitor.card.waitFor({ timeout: END_MS });
    assert.equal(await visitor.card.locator('h1').innerText(), 'Stream ended');
    assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH[`why_${reason}`]);
    await visitor.close();
  }
});

test('a delete shows the overlay within 5 s even when the event stream is down', async () => {
  const visitor = await visit(set, { expects: /503/ });
  await visitor.live();
  visitor.session.hasEvents = false;
  visitor.session.dropEvents();
  visitor.session.end('deleted');
  await visitor.card.waitFor({ timeout: END_MS });
  assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH.why_deleted);
  await visitor.close();
});

test('a session nobody knows any more is over', async () => {
  const visitor = await visit(set, { expects: /404/ });
  await visitor.live();
  visitor.session.isForgotten = true;
  visitor.session.status = 'ended';
  visitor.session.dropEvents();
  await visitor.card.waitFor({ timeout: END_MS });
  assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH.why_unknown);
  await visitor.close();
});

test('a streamer that stops for good ends the stream without a word of the server', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await visitor.streamer.evaluate(() => window.streamer.general.close());
  await visitor.card.waitFor({ timeout: END_MS });
  assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH.why_stream_stopped);
  assert.equal(await visitor.card.getByRole('button', { name: 'Try again' }).count(), 1, 'the session may still run');
  await visitor.close();
});

test('the loss of the signalling socket does not end a playing stream', async () => {
  const visitor = await visit(set);
  await visitor.live();
  visitor.session.dropSockets();
  await never(async () => (await visitor.phase()) !== 'live' || (await visitor.card.count()), 'an end without an end', 4000);
  await visitor.close();
});

test('a lost event stream is opened again and still brings the end', async () => {
  const visitor = await visit(set, { expects: /503/ });
  await visitor.live();
  visitor.session.hasEvents = false;
  visitor.session.dropEvents();
  await until(() => visitor.errors.length, 'the browser gave the event stream up');
  visitor.session.hasEvents = true;
  await until(() => visitor.session.listeners.size, 'the page follows the events again');
  visitor.session.tell('ended', { end_reason: 'drained' });
  await visitor.card.waitFor({ timeout: END_MS });
  await visitor.close();
});

test('a tab in the background is not an end', async () => {
  const visitor = await visit(set);
  await visitor.live();
  const cdp = await visitor.context.newCDPSession(visitor.page);
  const other = await visitor.context.newPage();
  await other.bringToFront();
  await cdp.send('Emulation.setCPUThrottlingRate', { rate: 4 });
  await visitor.page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await never(async () => (await visitor.phase()) !== 'live', 'a verdict about a hidden tab', 4000);
  await cdp.send('Page.setWebLifecycleState', { state: 'frozen' });
  await never(() => visitor.session.called('quit').length, 'a quit of a frozen tab', 3000);
  await cdp.send('Page.setWebLifecycleState', { state: 'active' });
  await until(async () => (await visitor.phase()) === 'live', 'the stream goes on after the freeze');
  assert.equal(await visitor.card.count(), 0);
  await visitor.close();
});

test('an unreachable relay is said after 15 s, with a way to try again', async () => {
  const visitor = await visit(set, { config: { relay_only: true }, query: '&transport=webrtc', iceServers: [{ urls: ['turn:127.0.0.1:9'], username: 'u', credential: 'p' }] });
  const start = Date.now();
  await visitor.card.waitFor({ timeout: 25000 });
  assert.ok(Date.now() - start > 10000, 'not before a slow relay had its chance');
  assert.equal(await visitor.card.locator('h1').innerText(), ENGLISH.stuck_title);
  assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH.why_connect_timeout);
  assert.equal(await visitor.card.getByRole('slider').count(), 0, 'nothing to rate yet');
  await Promise.all([visitor.page.waitForEvent('load'), visitor.card.getByRole('button', { name: 'Try again' }).click()]);
  await visitor.close();
});

test('a fatal stage of the streamer is said with what it said', async () => {
  const visitor = await visit(set);
  await visitor.live();
  visitor.session.toViewers({ DebugLog: { message: 'Failed Stage: RTSP handshake with error code 111', ty: 'fatal' } });
  await visitor.card.waitFor();
  assert.match(await visitor.card.innerText(), /RTSP handshake with error code 111/);
  assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH.why_start_failed);
  await visitor.close();
});

test('a stream over the WebSocket lives while its frames flow', async () => {
  const visitor = await visit(set, { query: '&transport=websocket', hasNoStreamer: true });
  await until(async () => (await visitor.phase()) === 'live', 'frames are life');
  visitor.session.isQuiet = true;
  await visitor.pill.waitFor({ timeout: 10000 });
  visitor.session.isQuiet = false;
  await until(async () => (await visitor.phase()) === 'live' && !(await visitor.pill.count()), 'frames are life again');
  assert.equal(await visitor.card.count(), 0);
  await visitor.close();
});

test('a page that falls back to the WebSocket is live', async () => {
  // No relay at all: gathering completes empty, the page falls back.
  const visitor = await visit(set, { config: { relay_only: true }, hasNoStreamer: true });
  await until(async () => (await visitor.phase()) === 'live', 'frames are life');
  assert.equal(await visitor.card.count(), 0);
  await visitor.close();
});

test('a draining worker is announced and can be put away', async () => {
  const visitor = await visit(set);
  await visitor.live();
  visitor.session.tell('draining', { deadline: new Date(Date.now() + 600000).toISOString() });
  await visitor.pill.waitFor();
  assert.match(await visitor.pill.innerText(), /can last until \d/);
  await visitor.pill.getByRole('button', { name: 'Close' }).click();
  await until(async () => !(await visitor.pill.count()), 'the line is put away');
  assert.equal(await visitor.phase(), 'live');
  await visitor.close();
});
