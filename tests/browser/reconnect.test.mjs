// After a dip, a restart or a night's sleep the stream comes back, or the visitor is told.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { never, stage, until, visit } from './harness.mjs';

const ENGLISH = JSON.parse(readFileSync(new URL('../../src/page/lang/en.json', import.meta.url), 'utf8'));

let set;
before(async () => { set = await stage(); });
after(() => set.close());

const memory = (visitor) => visitor.page.evaluate((id) => JSON.parse(sessionStorage.getItem(`hydraneck:${id}`) || '{}'), visitor.session.id);
const mark = (visitor) => visitor.page.evaluate(() => { window.isFirstLoad = true; });
const isReloaded = (visitor) => visitor.page.evaluate(() => !window.isFirstLoad);

/** A page that remembers what happened before it was loaded. */
const remembering = (facts) => ({ before: (page) => page.addInitScript((known) => {
  const key = `hydraneck:${location.pathname.split('/')[2]}`;
  if (!sessionStorage.getItem(key)) sessionStorage.setItem(key, JSON.stringify(known));
}, facts) });

test('a network dip is shown, heals by itself, and is counted', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await mark(visitor);
  visitor.session.detour.isCut = true;
  await visitor.pill.waitFor({ timeout: 15000 });
  assert.match(await visitor.pill.innerText(), /Reconnecting/);
  assert.equal(await visitor.card.count(), 0, 'a dip is no end');
  visitor.session.detour.isCut = false;
  await until(async () => (await visitor.phase()) === 'live', 'the stream is live again', 15000);
  await until(async () => !(await visitor.pill.count()), 'the line is gone');
  assert.equal(await isReloaded(visitor), false, 'no reload was needed');
  assert.equal((await memory(visitor)).disconnects, 1);
  await visitor.close();
});

test('a connection that stays lost is brought back by a reload of the same session', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await mark(visitor);
  visitor.session.detour.isCut = true;
  await until(() => isReloaded(visitor), 'the page reloads itself', 30000);
  visitor.session.detour.isCut = false;
  await visitor.live();
  const kept = await memory(visitor);
  assert.equal(kept.disconnects, 1, 'the counter survives');
  assert.equal(kept.tries, 1);
  assert.equal(visitor.session.called('quit').length, 0);
  assert.equal(await visitor.card.count(), 0);
  await visitor.close();
});

test('a stream whose body fell silent comes back, one that the body ended does not', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await mark(visitor);
  visitor.session.toViewers({ ConnectionTerminated: { error_code: -1 } });
  visitor.session.stopStreamer();
  await until(() => isReloaded(visitor), 'the page reloads itself', 15000);
  await visitor.live();
  assert.equal(await visitor.card.count(), 0);
  await mark(visitor);
  visitor.session.toViewers({ ConnectionTerminated: { error_code: 0 } });
  visitor.session.stopStreamer();
  await visitor.card.waitFor();
  assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH.why_stream_stopped);
  assert.equal(await isReloaded(visitor), false);
  await visitor.close();
});

test('a restarted stream process is waited for', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await mark(visitor);
  visitor.session.status = 'starting';
  visitor.session.tell('restarting');
  visitor.session.stopStreamer();
  visitor.session.dropSockets();
  await until(async () => /being restarted/.test(await visitor.pill.innerText()), 'the restart is said');
  await never(() => isReloaded(visitor), 'a reload into nothing', 1500);
  assert.equal(await visitor.card.count(), 0);
  visitor.session.status = 'ready';
  await until(() => isReloaded(visitor), 'the page reloads itself');
  await visitor.live();
  await visitor.close();
});

test('without a network nothing is reloaded, and it goes on when the network is back', async () => {
  const visitor = await visit(set, { expects: /ERR_INTERNET_DISCONNECTED|Failed to load/ });
  await visitor.live();
  await mark(visitor);
  visitor.session.status = 'starting'; // holds the page in its reconnecting
  visitor.session.tell('restarting');
  await visitor.pill.waitFor();
  await visitor.context.setOffline(true);
  await until(async () => /No network/.test(await visitor.pill.innerText()), 'the lack of network is said', 15000);
  await never(() => isReloaded(visitor), 'a reload without a network', 2000);
  visitor.session.status = 'ready';
  await visitor.context.setOffline(false);
  await until(() => isReloaded(visitor), 'the page reloads itself');
  await visitor.live();
  await visitor.close();
});

test('a silent server is waited for', async () => {
  const visitor = await visit(set, { expects: /Failed to load|ERR_/ });
  await visitor.live();
  await mark(visitor);
  visitor.session.tell('restarting');
  set.fixture.isSilent = true;
  try {
    await until(async () => /does not answer/.test(await visitor.pill.innerText()), 'the silence is said', 15000);
    await never(() => isReloaded(visitor), 'a reload into the browser\'s error page', 1500);
  } finally {
    set.fixture.isSilent = false;
  }
  await until(() => isReloaded(visitor), 'the page reloads itself', 15000);
  await visitor.live();
  await visitor.close();
});

test('a session that ended while the visitor was away is over', async () => {
  const visitor = await visit(set, { expects: /ERR_INTERNET_DISCONNECTED|Failed to load/ });
  await visitor.live();
  await visitor.context.setOffline(true);
  visitor.session.dropEvents();
  visitor.session.end('disconnected');
  visitor.session.detour.isCut = true;
  await visitor.context.setOffline(false);
  await visitor.card.waitFor({ timeout: 15000 });
  assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH.why_disconnected);
  await visitor.close();
});

test('after ten tries the visitor decides, and leaving frees the place', async () => {
  const visitor = await visit(set, remembering({ tries: 10, disconnects: 3 }));
  await visitor.live();
  visitor.session.status = 'ready';
  visitor.session.tell('restarting');
  await visitor.card.waitFor();
  assert.equal(await visitor.card.locator('#why').innerText(), ENGLISH.why_connection_lost);
  const report = new URL(await visitor.card.getByRole('link', { name: 'Report a problem' }).getAttribute('href'));
  assert.equal(report.searchParams.get('disconnect_count'), '4');
  assert.equal(report.searchParams.get('end_reason'), 'connection_lost');
  await visitor.card.getByRole('link', { name: 'Start new stream' }).click();
  await visitor.page.waitForURL(/\/return/);
  await until(() => visitor.session.called('quit').length === 1, 'the place is freed');
  await visitor.close();
});

test('in a row of tries a start that fails is tried again without a button', async () => {
  const visitor = await visit(set, { hasNoStreamer: true, query: '&transport=webrtc', ...remembering({ tries: 2 }) });
  await until(() => visitor.session.viewers.size, 'signalling is open');
  await mark(visitor);
  visitor.session.toViewers({ DebugLog: { message: 'Failed', ty: 'fatalDescription' } });
  await until(() => isReloaded(visitor), 'the page reloads itself', 15000);
  assert.equal((await memory(visitor)).tries, 3);
  assert.equal(await visitor.card.count(), 0);
  await visitor.close();
});
