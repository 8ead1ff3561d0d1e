// One stream for all tabs of a session: the last one that was opened has it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { never, stage, until, visit } from './harness.mjs';

const ENGLISH = JSON.parse(readFileSync(new URL('../../src/page/lang/en.json', import.meta.url), 'utf8'));

let set;
before(async () => { set = await stage(); });
after(() => set.close());

const mark = (page) => page.evaluate(() => { window.isFirstLoad = true; });
const phase = (page) => page.evaluate(() => window.hydraneck.phase);
const card = (page) => page.locator('#hydraneck .card');

test('a second tab takes the stream over, and the first does not fight for it', async () => {
  const first = await visit(set);
  await first.live();
  await mark(first.page);
  const second = await first.context.newPage();
  await second.goto(first.session.url);
  await until(async () => (await phase(second)) === 'live', 'the stream is live in the second tab', 15000);
  await card(first.page).waitFor();
  assert.equal(await card(first.page).locator('h1').innerText(), ENGLISH.elsewhere_title);
  assert.equal(await card(first.page).locator('#why').innerText(), ENGLISH.why_elsewhere);
  await mark(second);
  // Longer than a dip takes to become a reload.
  await never(async () => (await phase(second)) !== 'live' || !(await first.page.evaluate(() => window.isFirstLoad)), 'a fight', 12000);

  await first.page.bringToFront();
  await card(first.page).getByRole('button', { name: ENGLISH.watch_here }).click();
  await first.live();
  await card(second).waitFor();
  assert.equal(await second.evaluate(() => window.isFirstLoad), true);

  await second.bringToFront();
  await card(second).getByRole('link', { name: ENGLISH.start_new }).click();
  await second.waitForURL(/\/return/);
  assert.equal(first.session.called('quit').length, 0, 'the stream is not that tab\'s to end');
  assert.equal(await first.phase(), 'live');
  await first.close();
});

test('a tab that has lost the stream keeps no session alive', async () => {
  const first = await visit(set);
  await first.live();
  const second = await first.context.newPage();
  await second.goto(first.session.url);
  await card(first.page).waitFor();
  await until(() => first.session.listeners.size === 1, 'only the tab that watches is a viewer');
  await second.close();
  await until(() => first.session.listeners.size === 0, 'nobody is');
  await first.close();
});

test('the card of a stream that stopped ends no stream that another tab has since', async () => {
  const first = await visit(set);
  await first.live();
  first.session.toViewers({ ConnectionTerminated: { error_code: 0 } });
  await card(first.page).waitFor();
  assert.equal(await card(first.page).locator('#why').innerText(), ENGLISH.why_stream_stopped);
  const second = await first.context.newPage();
  await second.goto(first.session.url);
  await until(async () => (await phase(second)) === 'live', 'the stream is live in the second tab', 15000);
  await first.page.bringToFront();
  await card(first.page).getByRole('link', { name: ENGLISH.start_new }).click();
  await first.page.waitForURL(/\/return/);
  assert.equal(first.session.called('quit').length, 0);
  assert.equal(await phase(second), 'live');
  await first.close();
});

test('a tab that waits to try again leaves a stream that another tab has since alone', async () => {
  // In a row of tries: the next one comes after eight seconds.
  const first = await visit(set, { before: (page) => page.addInitScript(() => {
    const key = `hydraneck:${location.pathname.split('/')[2]}`;
    if (!sessionStorage.getItem(key)) sessionStorage.setItem(key, JSON.stringify({ tries: 4 }));
  }) });
  await first.live();
  await mark(first.page);
  first.session.toViewers({ DebugLog: { message: 'no such thing', ty: 'fatal' } });
  await first.pill.waitFor();
  const second = await first.context.newPage();
  await second.goto(first.session.url);
  await until(async () => (await phase(second)) === 'live', 'the stream is live in the second tab', 15000);
  await until(async () => (await card(first.page).locator('#why').innerText()) === ENGLISH.why_elsewhere, 'the first tab says so');
  await never(async () => !(await first.page.evaluate(() => window.isFirstLoad)), 'a reload', 10000);
  assert.equal(await phase(second), 'live');
  await first.close();
});

test('the end of the session is said in every tab', async () => {
  const first = await visit(set);
  await first.live();
  const second = await first.context.newPage();
  await second.goto(first.session.url);
  await card(first.page).waitFor();
  first.session.end('deleted');
  for (const page of [first.page, second]) {
    await until(async () => (await card(page).locator('#why').innerText()) === ENGLISH.why_deleted, 'the end is said');
  }
  await first.close();
});
