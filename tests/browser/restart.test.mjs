// A worker that dies under a running stream: the picture does not stop, and the session is the
// next process's.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, until } from './harness.mjs';

const binary = process.env.NECK_BINARY;
const token = 'restart-test';
const bodyAddress = '127.0.0.2';

async function freePort() {
  return new Promise((done, fail) => {
    const server = createServer();
    server.on('error', fail);
    server.listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => done(port)); });
  });
}

const children = [];
function start(...args) {
  const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  child.log = '';
  child.stderr.on('data', (data) => { child.log += data; });
  child.ended = new Promise((done) => child.on('exit', done));
  children.push(child);
  return child;
}

let browser, dir, ports, worker;
const config = (name) => join(dir, `${name}.yaml`);
const call = async (method, path, body) => fetch(`http://127.0.0.1:${ports.controller}${path}`, {
  method,
  headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
  body: body && JSON.stringify(body),
});

before(async () => {
  assert.ok(binary && existsSync(binary), 'set NECK_BINARY to the built program');
  dir = mkdtempSync(join(tmpdir(), 'neck-restart-'));
  ports = { controller: await freePort(), worker: await freePort(), first: 31000 + (process.pid % 500) * 4 };
  writeFileSync(config('controller'), `
mode: controller
server: {listen: "127.0.0.1:${ports.controller}", admin_token: ${token}}
controller: {heartbeat_interval: 1s}
`, { mode: 0o600 });
  writeFileSync(config('worker'), `
mode: worker
server: {listen: "127.0.0.1:${ports.worker}", admin_token: ${token}}
controller: {url: "http://127.0.0.1:${ports.controller}", token: ${token}, heartbeat_interval: 1s}
worker: {id: restarted, state_dir: "${dir}/state"}
sessions:
  max: 2
  port_range_start: ${ports.first}
  web_server: testcard
  dir: "${dir}/sessions"
  webrtc_port_start: 33000
  relay_only: false
sunshine: {username: sunshine, password: sunshine}
bodies: {allowed_networks: ["${bodyAddress}/32"]}
`, { mode: 0o600 });
  start('demo-body', '--address', bodyAddress);
  start('--config', config('controller'), 'controller');
  worker = start('--config', config('worker'), 'worker');
  browser = await launch();
  await until(async () => (await (await call('GET', '/api/v1/workers')).json()).some((w) => w.status === 'healthy'), 'the worker registers', 20000);
});

after(async () => {
  await browser?.close();
  for (const child of children.reverse()) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await child.ended;
    }
  }
  rmSync(dir, { recursive: true, force: true });
});

test('the picture goes on while the worker is killed and started again', async () => {
  const answer = await call('POST', '/api/v1/sessions', { body_ip: bodyAddress });
  assert.equal(answer.status, 201, await answer.clone().text());
  const session = await answer.json();
  const page = await (await browser.newContext()).newPage();
  await page.addInitScript(() => {
    const Real = window.RTCPeerConnection;
    window.neckTestPeers = [];
    window.RTCPeerConnection = class extends Real {
      constructor(...args) { super(...args); window.neckTestPeers.push(this); }
    };
  });
  const frames = () => page.evaluate(async () => {
    let sum = 0;
    for (const peer of window.neckTestPeers) (await peer.getStats()).forEach((s) => { if (s.type === 'inbound-rtp' && s.kind === 'video') sum += s.framesDecoded; });
    return [window.neckTestPeers.length, sum];
  });
  await page.goto(session.stream_url);
  await until(async () => (await frames())[1] > 30, 'frames are decoded', 30000);

  worker.kill('SIGKILL');
  await worker.ended;
  const [peers, atDeath] = await frames();
  await until(async () => (await frames())[1] > atDeath + 30, 'frames are decoded while no worker runs', 5000);
  worker = start('--config', config('worker'), 'worker');
  await until(() => new RegExp(`\\[cleanup\\] session ${session.session_id} adopted`).test(worker.log), 'the session is adopted', 5000);
  await until(async () => {
    const state = await fetch(`http://127.0.0.1:${ports.worker}/api/v1/sessions/${session.session_id}`, { headers: { authorization: `Bearer ${token}` } });
    return state.status === 200 && ['connected', 'lingering'].includes((await state.json()).status);
  }, 'the session is back in the API', 5000);
  const [, atReturn] = await frames();
  await until(async () => (await frames())[1] > atReturn + 60, 'frames are decoded under the new worker', 5000);
  assert.equal((await frames())[0], peers, 'the stream was never set up anew');
  await until(async () => (await (await call('GET', `/api/v1/sessions/${session.session_id}`)).json()).connected, 'the page is back as a viewer', 15000);
  assert.equal(await page.getByText('Stream ended').count(), 0);

  assert.equal((await call('DELETE', `/api/v1/sessions/${session.session_id}`)).status, 204);
  await page.getByText('Stream ended').waitFor({ timeout: 5000 });
});
