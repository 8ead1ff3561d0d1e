// What every browser test needs: a browser, a fixture, a stream that is up, and patience with a
// deadline instead of sleep.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { startFixture } from './fixture/server.mjs';

const POLL_MS = 50;

/** Polls until `look` gives something true, and gives that back. */
export async function until(look, what, ms = 10000) {
  const deadline = Date.now() + ms;
  let last;
  while (Date.now() < deadline) {
    try {
      last = await look();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  throw new Error(`not within ${ms} ms: ${what} (last: ${last})`);
}

/** For what must not happen: looks again and again for `ms`, and fails the moment it does. */
export async function never(look, what, ms) {
  const deadline = Date.now() + ms;
  while (Date.now() < deadline) {
    assert.ok(!(await look()), `happened: ${what}`);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

/** Options of a test that needs something of the machine: skipped by hand where that is missing, an error in CI. */
export function needs(what, isThere) {
  if (!isThere) assert.notEqual(process.env.CI, 'true', `this test needs ${what}, and in CI no test is skipped`);
  return { skip: isThere ? false : `needs ${what}` };
}

export function shots() {
  const folder = process.env.NECK_SHOTS || join(tmpdir(), 'neck-shots');
  mkdirSync(folder, { recursive: true });
  return folder;
}

export async function launch(flags = []) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--use-fake-device-for-media-stream', '--autoplay-policy=no-user-gesture-required',
      '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns', ...flags,
    ],
  });
}

/** A fixture and a browser for one test file. */
export async function stage(flags) {
  const fixture = await startFixture();
  const browser = await launch(flags);
  return { fixture, browser, close: async () => { await browser.close(); await fixture.close(); } };
}

/**
 * Opens a session's stream page in a context of its own. `errors` collects console errors and
 * uncaught ones; `expects` names those that a test provokes (a silent server makes the browser
 * itself complain).
 */
export async function visit({ fixture, browser }, options = {}) {
  const session = fixture.admit(options);
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, ...options.context });
  const far = await browser.newContext();
  const streamer = await far.newPage();
  if (!options.hasNoStreamer) {
    await streamer.goto(`${fixture.origin}/streamer.html?session=${session.id}`);
    await until(() => session.streamer, 'the streamer joins');
  }
  const page = await context.newPage();
  const errors = [];
  page.on('console', (message) => { if (message.type() === 'error' || /\[neck\]/.test(message.text())) errors.push(message.text()); });
  page.on('pageerror', (error) => errors.push(String(error)));
  if (options.before) await options.before(page, context);
  await page.goto(session.url);
  const visitor = {
    session, page, context, streamer, errors,
    phase: () => page.evaluate(() => window.hydraneck.phase),
    card: page.locator('#hydraneck .card'),
    pill: page.locator('#hydraneck .pill'),
    async live() {
      await until(async () => (await visitor.phase()) === 'live', 'the stream is live', 15000);
      await until(() => page.evaluate(() => document.querySelector('video')?.currentTime > 0), 'the picture moves');
      return visitor;
    },
    async close() {
      await context.close();
      await far.close();
      const expected = options.expects || /^$/;
      assert.deepEqual(errors.filter((error) => !expected.test(error)), [], 'console errors');
    },
  };
  return visitor;
}
