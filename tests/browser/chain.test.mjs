// The whole chain: controller, worker, supervised stream process, proxy, injected page, WebRTC.
// Needs the built program in NECK_BINARY (tests/run sets it).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, shots, until } from './harness.mjs';

const binary = process.env.NECK_BINARY;

/** Starts the demo; `info` is its JSON line. */
async function startDemo() {
  const child = spawn(binary, ['demo', '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '', err = '';
  child.stderr.on('data', (data) => { err += data; });
  child.stdout.on('data', (data) => { out += data; });
  const exited = new Promise((done) => child.on('exit', (code) => done(code)));
  await until(() => out.includes('\n') || child.exitCode !== null, 'the demo says where it is', 60000);
  assert.equal(child.exitCode, null, `the demo ended: ${err}`);
  const info = JSON.parse(out);
  const call = (method, path, body) => fetch(info.controller_url + path, {
    method,
    headers: { authorization: `Bearer ${info.token}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  return {
    info, call, log: () => err,
    create: async () => {
      const answer = await call('POST', '/api/v1/sessions', { body_ip: info.free_body_ip, takeover: true, experience: 'Chain' });
      assert.equal(answer.status, 201, await answer.clone().text());
      return answer.json();
    },
    stop: async () => { child.kill('SIGINT'); return exited; },
  };
}

/** Pids whose command line names the session's workspace or that work in it. */
function processesOf(session) {
  return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).filter((pid) => {
    try { return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(session); } catch { return false; }
  });
}

const decoded = (page) => page.evaluate(async () => {
  const peers = window.neckTestPeers ?? [];
  let frames = 0;
  for (const peer of peers) (await peer.getStats()).forEach((s) => { if (s.type === 'inbound-rtp' && s.kind === 'video') frames += s.framesDecoded; });
  return frames;
});

/** Opens a stream page that keeps its peer connections where the test can ask them. */
async function watch(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 }, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on('console', (m) => { if (m.type() === 'error') errors.push(m.text()); });
  page.on('response', (r) => { if (r.status() >= 400) errors.push(`${r.status()} ${r.request().method()} ${r.url()}`); });
  page.on('pageerror', (e) => errors.push(String(e)));
  await page.addInitScript(() => {
    const Real = window.RTCPeerConnection;
    window.neckTestPeers = [];
    window.RTCPeerConnection = class extends Real {
      constructor(...args) { super(...args); window.neckTestPeers.push(this); }
    };
  });
  await page.goto(url);
  await until(async () => await page.evaluate(() => (document.querySelector('video')?.currentTime ?? 0) > 1), 'the video plays', 30000);
  return { page, context, errors };
}

let demo, browser;
before(async () => {
  assert.ok(binary && existsSync(binary), 'set NECK_BINARY to the built program');
  [demo, browser] = await Promise.all([startDemo(), launch()]);
});
after(async () => { await browser?.close(); await demo?.stop(); });

test('the picture moves, and the end is told within five seconds of a delete', async () => {
  const { page, context, errors } = await watch(browser, demo.info.stream_url);
  const first = await decoded(page);
  await until(async () => (await decoded(page)) > first + 30, 'frames are decoded');
  await page.screenshot({ path: join(shots(), 'chain-playing.png') });
  const gone = demo.call('DELETE', `/api/v1/sessions/${demo.info.session_id}`);
  await page.getByText('Stream ended').waitFor({ timeout: 5000 });
  assert.equal((await gone).status, 204);
  assert.deepEqual(processesOf(demo.info.session_id), [], 'no process of the session is left');
  await page.screenshot({ path: join(shots(), 'chain-ended.png') });
  assert.equal((await demo.call('DELETE', `/api/v1/sessions/${demo.info.session_id}`)).status, 404);
  assert.deepEqual(errors, []);
  await context.close();
});

test('a rating given on the overlay reaches the record of the session', async () => {
  const session = await demo.create();
  const { page, context } = await watch(browser, session.stream_url);
  await demo.call('DELETE', `/api/v1/sessions/${session.session_id}`);
  await page.getByText('Stream ended').waitFor({ timeout: 5000 });
  const rated = page.waitForResponse((r) => r.url().endsWith('/rating'));
  const stars = page.getByRole('slider');
  await stars.focus();
  await page.keyboard.press('End');
  assert.equal((await rated).status(), 204);
  await until(() => new RegExp(`\\[nps\\] sent .*"score":[0-9]+,"session_id":"${session.session_id}"`).test(demo.log()), 'the record carries the score', 15000);
  await context.close();
});

test('Exit ends the session and leads to the return address', async () => {
  const session = await demo.create();
  const { page, context } = await watch(browser, session.stream_url);
  await page.evaluate(() => { document.querySelector('#sidebar-button')?.click(); });
  await page.locator('.sidebar-stream-buttons button').last().click({ force: true });
  await until(() => !page.url().includes('/session/'), 'the page left');
  await until(async () => (await demo.call('GET', `/api/v1/sessions/${session.session_id}`)).status === 404, 'the session is gone');
  await until(() => new RegExp(`session ${session.session_id}.*ended reason=quit`).test(demo.log()), 'it says that the visitor quit');
  await context.close();
});

test('a reload comes back to the same session, with one streamer', async () => {
  const session = await demo.create();
  const { page, context } = await watch(browser, session.stream_url);
  await page.reload();
  await until(async () => await page.evaluate(() => (document.querySelector('video')?.currentTime ?? 0) > 1), 'the video plays again', 30000);
  const state = await (await demo.call('GET', `/api/v1/sessions/${session.session_id}`)).json();
  assert.equal(state.status, 'connected');
  // The stream process and one streamer: the one of the page before was ended.
  const alive = processesOf(session.session_id).filter((pid) => {
    try { return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')); } catch { return false; }
  });
  assert.equal(alive.length, 2, `processes: ${alive}`);
  await demo.call('DELETE', `/api/v1/sessions/${session.session_id}`);
  await context.close();
});

test('the microphone is heard on the body', async () => {
  const session = await demo.create();
  const { page, context } = await watch(browser, session.stream_url, { permissions: ['microphone'] });
  await page.getByRole('button', { name: /microphone/i }).first().click();
  await until(async () => (await (await demo.call('GET', `/api/v1/sessions/${session.session_id}`)).json()).mic, 'the microphone is on', 15000);
  await demo.call('DELETE', `/api/v1/sessions/${session.session_id}`);
  await context.close();
});
