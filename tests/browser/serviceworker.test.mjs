// A stream program's page that tries to register worker scripts on our origin, over HTTPS, through
// controller and worker. Needs the built program in NECK_BINARY (tests/run sets it).
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, needs, until } from './harness.mjs';

const binary = process.env.NECK_BINARY;
const options = needs('NECK_BINARY, the built program', binary);
const TOKEN = 'hostile-token';
const BODY = '127.0.0.77';

let dir, browser, controller, worker, session;
const children = [];

const freePort = () => new Promise((done) => {
  const probe = createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address();
    probe.close(() => done(port));
  });
});

function start(role, config, env = {}) {
  const home = join(dir, role);
  mkdirSync(home);
  writeFileSync(join(home, 'config.yaml'), JSON.stringify(config));
  const child = spawn(binary, ['--config', join(home, 'config.yaml'), role], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } });
  child.log = '';
  child.stderr.on('data', (data) => { child.log += data; });
  children.push(child);
  return child;
}

/** Calls a role over TLS as a client that trusts its certificate. */
const call = (port, method, path, { headers = {}, body } = {}) => new Promise((done, failed) => {
  const ask = request({ host: '127.0.0.1', port, method, path, headers: { ...(body ? { 'content-type': 'application/json' } : {}), ...headers }, ca: readFileSync(join(dir, 'cert.pem')), servername: 'localhost' }, (answer) => {
    let text = '';
    answer.on('data', (data) => { text += data; });
    answer.on('end', () => done({ status: answer.statusCode, headers: answer.headers, text }));
  });
  ask.on('error', failed);
  ask.end(body && JSON.stringify(body));
});
const bearer = { authorization: `Bearer ${TOKEN}` };

before(async () => {
  if (options.skip) return;
  dir = mkdtempSync(join(tmpdir(), 'neck-hostile-'));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'basicConstraints=critical,CA:FALSE', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
    '-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')], { stdio: 'ignore' });
  const tls = { certificate: join(dir, 'cert.pem'), private_key: join(dir, 'key.pem') };
  const body = spawn(binary, ['demo-body', '--address', BODY], { stdio: 'ignore' });
  children.push(body);
  // The worker starts its stream program with a clean environment, so a file names the test card.
  const program = join(dir, 'program');
  mkdirSync(join(program, 'static'), { recursive: true });
  const hostile = new URL('fixture/hostile.mjs', import.meta.url).pathname;
  writeFileSync(join(program, 'web-server'), `#!/bin/sh\nHOSTILE_CARD='${binary}' exec '${process.execPath}' '${hostile}' "$@"\n`, { mode: 0o755 });
  writeFileSync(join(program, 'streamer'), '#!/bin/sh\n', { mode: 0o755 });
  controller = { port: await freePort() };
  worker = { port: await freePort() };
  const first = 21000 + Math.floor(Math.random() * 2000);
  start('controller', { server: { listen: `127.0.0.1:${controller.port}`, admin_token: TOKEN, tls }, controller: { ca_file: tls.certificate } });
  const process_ = start('worker', {
    server: { listen: `127.0.0.1:${worker.port}`, admin_token: TOKEN, tls },
    controller: { url: `https://localhost:${controller.port}`, token: TOKEN, ca_file: tls.certificate, heartbeat_interval: '500ms' },
    worker: { url: `https://localhost:${worker.port}`, state_dir: join(dir, 'state') },
    sessions: { web_server: join(program, 'web-server'), dir: join(dir, 'sessions'), max: 2, port_range_start: first },
    bodies: { allowed_networks: [`${BODY}/32`] },
    sunshine: { username: 'sunshine', password: 'sunshine' },
    mic: { enabled: false },
  });
  await until(async () => (await call(controller.port, 'GET', '/readyz')).status === 200, 'a worker has registered', 40000)
    .catch((error) => { throw new Error(`${error.message}\n${children.map((c) => c.log).join('\n')}`); });
  const made = await call(controller.port, 'POST', '/api/v1/sessions', { headers: bearer, body: { body_ip: BODY } });
  assert.equal(made.status, 201, made.text + process_.log);
  session = JSON.parse(made.text).session_id;
  browser = await launch(['--ignore-certificate-errors']);
});

after(async () => {
  if (options.skip) return;
  if (session) await call(controller.port, 'DELETE', `/api/v1/sessions/${session}`, { headers: bearer }).catch(() => {});
  if (browser) await browser.close();
  for (const child of children.reverse()) child.kill('SIGTERM');
  rmSync(dir, { recursive: true, force: true });
});

/** What the hostile page achieves at this origin. */
async function attempt(origin) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  await page.goto(`${origin}/session/${session}/hostile.html`);
  const result = await page.evaluate(() => window.attempts());
  await context.close();
  return result;
}

test('the rig can register a worker script where nothing stands before the stream program', options, async () => {
  const view = JSON.parse((await call(controller.port, 'GET', `/api/v1/sessions/${session}`, { headers: bearer })).text);
  const { outcomes } = await attempt(`http://127.0.0.1:${view.port}`);
  assert.ok(outcomes.some((o) => o.said === 'registered' && o.scope === '/session/'), JSON.stringify(outcomes));
  assert.ok(outcomes.some((o) => o.said === 'registered' && o.script === 'shared.js'), JSON.stringify(outcomes));
});

for (const role of ['controller', 'worker']) {
  test(`no page of a stream program registers a worker script through the ${role}`, options, async () => {
    const { port } = { controller, worker }[role];
    const { outcomes, kept } = await attempt(`https://localhost:${port}`);
    assert.ok(outcomes.length > 100, `${outcomes.length} attempts`);
    assert.deepEqual(outcomes.filter((o) => o.said === 'registered'), []);
    assert.deepEqual(kept, []);
  });

  test(`requests for worker scripts and sessions without a slash end at the ${role}`, options, async () => {
    const { port } = { controller, worker }[role];
    for (const headers of [{ 'Service-Worker': 'script' }, { 'SERVICE-WORKER': 'x' }, { 'Sec-Fetch-Dest': 'ServiceWorker' }, { 'sec-fetch-dest': 'sharedworker' }]) {
      for (const path of [`/session/${session}/sw.js`, `/session/${session}`, `/session/${'0'.repeat(32)}/sw.js`]) {
        assert.equal((await call(port, 'GET', path, { headers })).status, 403, `${path} ${JSON.stringify(headers)}`);
      }
    }
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS']) for (const accept of ['text/html', '*/*', 'application/json']) {
      const answer = await call(port, method, `/session/${session}?a=b`, { headers: { accept } });
      assert.equal(answer.status, 308, `${method} ${accept}`);
      assert.equal(answer.headers.location, `/session/${session}/?a=b`);
    }
  });
}
