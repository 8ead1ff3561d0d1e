// The microphone over separate hosts: browser -> path -> worker with coturn -> WireGuard -> body.
// Needs root and the built program in NECK_BINARY. NECK_SECONDS is how long each phase counts.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { launch, until } from '../browser/harness.mjs';
import { AT, Hosts, obstacle } from './hosts.mjs';

const binary = process.env.NECK_BINARY;
const seconds = Number(process.env.NECK_SECONDS || 8);
const isSkipped = Boolean(process.env.NECK_SKIP_NET);
const options = { skip: isSkipped ? 'NECK_SKIP_NET is set' : false, timeout: (seconds * 3 + 180) * 1000 };

const TOKEN = 'net-test';
const SECRET = 'shared-with-coturn';
const CONTROLLER = `http://${AT.path}:8080`;
const MIC_PORT = 47995; // of the body
const MIC_FIRST = 39000; // of the worker
const TYPE = 97; // another than the browser's 111
const PATIENCE_MS = 60000;

let hosts, browser, sink, path, worker, session;
let isDone = false; // else the programs' logs are shown
const patiently = (look, what) => until(look, what, PATIENCE_MS);

/** coturn as docs/debian.md sets it up: it relays to the worker and to nobody else. */
const COTURN = `
listening-ip=${AT.worker}
relay-ip=${AT.worker}
listening-port=3478
realm=hydraneckwebrtc
use-auth-secret
static-auth-secret=${SECRET}
min-port=49152
max-port=49251
denied-peer-ip=0.0.0.0-255.255.255.255
denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
allowed-peer-ip=${AT.worker}
fingerprint
no-cli
no-dtls
no-multicast-peers
no-software-attribute
no-tcp-relay
no-tls
stale-nonce=600
log-file=stdout
`;

/** What leaves the ports of microphones: to the relay, and anywhere else. */
const WATCH = `
table inet neck {
  counter relay {}
  counter elsewhere {}
  chain out {
    type filter hook output priority 0;
    udp sport ${MIC_FIRST}-${MIC_FIRST + 99} ip daddr ${AT.worker} udp dport 49152-49251 counter name relay accept
    udp sport ${MIC_FIRST}-${MIC_FIRST + 99} counter name elsewhere
  }
}
`;

const api = (method, target, body) => JSON.parse(hosts.in('path', 'curl', '-sS', '--fail-with-body', '-X', method,
  '-H', `Authorization: Bearer ${TOKEN}`, '-H', 'Content-Type: application/json', ...(body ? ['-d', JSON.stringify(body)] : []), CONTROLLER + target) || 'null');
const left = (counter) => Number(/packets (\d+)/.exec(hosts.in('worker', 'nft', 'list', 'counter', 'inet', 'neck', counter))[1]);
const counted = () => sink.ask('', patiently);
const impair = (how) => path.ask(JSON.stringify(how), patiently);

before(async () => {
  if (isSkipped) return;
  assert.equal(obstacle(), '');
  assert.ok(binary && existsSync(binary), 'set NECK_BINARY to the built program');
  hosts = new Hosts();
  await hosts.tunnel(patiently);
  hosts.in('worker', 'nft', '-f', hosts.file('watch.nft', WATCH));
  hosts.start('worker', ['turnserver', '-c', hosts.file('turnserver.conf', COTURN), '--pidfile', '']);
  path = hosts.start('path', [process.execPath, new URL('impair.mjs', import.meta.url).pathname, AT.path, '3478', AT.worker, '3478']);
  sink = hosts.start('body', [process.execPath, new URL('sink.mjs', import.meta.url).pathname, AT.tunnelBody, String(MIC_PORT)]);
  hosts.start('body', [binary, 'demo-body', '--address', AT.tunnelBody]);
  hosts.start('path', [binary, '--config', hosts.file('controller.yaml', `
mode: controller
server: {listen: "${AT.path}:8080", admin_token: ${TOKEN}}
controller: {heartbeat_interval: 1s}
`), 'controller']);
  worker = hosts.start('worker', [binary, '--config', hosts.file('worker.yaml', `
mode: worker
server: {listen: "${AT.worker}:47990", admin_token: ${TOKEN}}
controller: {url: "${CONTROLLER}", token: ${TOKEN}, heartbeat_interval: 1s}
worker: {id: net, state_dir: "${hosts.dir}/state", url: "http://${AT.worker}:47990"}
sessions: {max: 2, web_server: testcard, dir: "${hosts.dir}/sessions"}
sunshine: {username: sunshine, password: sunshine}
bodies: {allowed_networks: [${AT.tunnelBody}/32], mic_port: ${MIC_PORT}}
turn: {secret: ${SECRET}, urls: ["turn:${AT.path}:3478?transport=udp"]}
mic: {payload_type: ${TYPE}, port_start: ${MIC_FIRST}}
`), 'worker'], { env: { ...process.env, HOME: hosts.dir } });
  await patiently(() => api('GET', '/api/v1/workers').some((one) => one.status === 'healthy'), 'a healthy worker');
  session = api('POST', '/api/v1/sessions', { body_ip: AT.tunnelBody });
  process.env.CHROMIUM = hosts.wrapper('browser', process.env.CHROMIUM || '/usr/bin/chromium');
  browser = await launch([`--unsafely-treat-insecure-origin-as-secure=${CONTROLLER}`]);
});
after(async () => {
  if (hosts && !isDone) for (const { child, log } of hosts.programs) console.log(`\n--- ${child.spawnargs.slice(4).join(' ')}\n${log.slice(-4000)}`);
  await browser?.close();
  await hosts?.close();
});

/**
 * The stream page with its picture running; `sent` counts the microphone's packets, `told` is what
 * the newest microphone's browser has been told of its reception.
 */
async function visit() {
  const context = await browser.newContext({ permissions: ['microphone'] });
  const page = await context.newPage();
  page.on('console', (message) => { if (message.type() === 'error') console.log(message.text()); });
  page.on('pageerror', (error) => console.log(String(error)));
  await page.addInitScript(() => {
    const Real = window.RTCPeerConnection;
    window.neckTestPeers = [];
    window.RTCPeerConnection = class extends Real {
      constructor(...words) { super(...words); window.neckTestPeers.push(this); }
    };
  });
  await page.goto(session.stream_url);
  const mic = page.locator('#hydraneck .mic');
  const sent = () => page.evaluate(async () => {
    let packets = 0;
    for (const peer of window.neckTestPeers) {
      for (const one of (await peer.getStats()).values()) if (one.type === 'outbound-rtp' && one.kind === 'audio') packets += one.packetsSent;
    }
    return packets;
  });
  const told = () => page.evaluate(async () => {
    let newest = null;
    for (const peer of window.neckTestPeers) {
      for (const one of (await peer.getStats()).values()) if (one.type === 'remote-inbound-rtp' && one.kind === 'audio') newest = { lost: one.packetsLost, times: one.roundTripTimeMeasurements };
    }
    return newest;
  });
  const is = (state) => patiently(async () => (await mic.getAttribute('data-state')) === state, `the microphone is ${state}`);
  return { page, context, mic, sent, told, is };
}

test('a voice crosses four hosts: nothing lost, doubled or overtaken, and only the relay is spoken to', options, async () => {
  const { page, context, mic, sent, told, is } = await visit();
  await patiently(() => page.evaluate(() => document.querySelector('video')?.currentTime > 1), 'the picture moves');
  await mic.click();
  await is('on');
  const until = Date.now() + seconds * 1000;
  while (Date.now() < until) {
    worker.child.exitCode === null || worker.alive();
    await page.waitForTimeout(250);
  }
  assert.equal((await patiently(async () => { const report = await told(); return report?.times > 1 && report; }, 'reports with a round trip come back')).lost, 0);
  const said = await sent();
  assert.ok(said > seconds * 5, `${said} packets said in ${seconds} s`);
  const clean = await patiently(async () => { const all = await counted(); return all.packets >= said && all; }, `${said} packets at the body`);
  assert.deepEqual({ ...clean, packets: 0, ssrcs: clean.ssrcs.length },
    { packets: 0, missing: 0, duplicates: 0, reordered: 0, malformed: 0, sources: [AT.tunnelWorker], ssrcs: 1, types: [TYPE] });
  assert.ok(left('relay') > 0, 'the microphone answered checks');
  console.log(`clean, ${seconds} s: ${clean.packets} of ${said} and more packets at the body, none missing`);

  // The way in gets bad, also for checks, handshake and signalling of a second microphone.
  const good = await impair({ loss: 0.05, jitterMs: 50 });
  await mic.click();
  await is('off');
  // What was under way arrives; then nothing does, for longer than a frame in silence takes.
  const after = { packets: (await counted()).packets, since: Date.now() };
  await patiently(async () => {
    const { packets } = await counted();
    if (packets !== after.packets) Object.assign(after, { packets, since: Date.now() });
    return Date.now() - after.since > 2000;
  }, 'a microphone that is off sends nothing to the body');
  await mic.click();
  await is('on');
  const bad = Date.now() + seconds * 1000;
  while (Date.now() < bad) await page.waitForTimeout(250);
  await patiently(async () => (await told())?.lost > 0, 'the browser learns that something is lost');
  worker.alive();
  const rough = await counted();
  const { lost } = await impair({ loss: 0, jitterMs: 0 });
  assert.ok(lost > good.lost, 'the path lost some');
  assert.deepEqual([rough.duplicates, rough.reordered, rough.malformed, rough.ssrcs.length], [0, 0, 0, 1], 'what arrives arrives in order');
  assert.ok(rough.packets > clean.packets + seconds * 4, `${rough.packets - clean.packets} packets came through`);
  assert.ok(rough.missing > 0 && rough.missing < (rough.packets - clean.packets) / 4, `${rough.missing} are missing`);
  console.log(`5 % loss, 50 ms jitter, ${seconds} s: ${rough.packets - clean.packets} packets at the body, ${rough.missing} missing`);

  // An offer that names addresses of its own: nothing goes there.
  const elsewhere = await page.evaluate(async (address) => {
    const pc = new window.neckTestPeers[0].constructor();
    pc.addTransceiver('audio', { direction: 'sendonly' });
    await pc.setLocalDescription();
    const lines = [AT_PLACE(address, 9), AT_PLACE(address, 53)].join('');
    function AT_PLACE(ip, port) { return `a=candidate:1 1 udp 2122260223 ${ip} ${port} typ host\r\n`; }
    const sdp = pc.localDescription.sdp.replace(/(m=audio[^\r]*\r\n)/, `$1${lines}`).replace(/^m=audio 9 /m, 'm=audio 53 ').replace(/c=IN IP4 [^\r]*/, `c=IN IP4 ${address}`);
    const answer = await fetch('mic/offer', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ type: 'offer', sdp }) });
    return answer.status;
  }, AT.pathToWorker);
  assert.equal(elsewhere, 200);
  await page.waitForTimeout(2000);
  assert.equal(left('elsewhere'), 0, 'packets of microphones to others than the relay');
  await context.close();

  // The worker's own figures tell the same.
  const metrics = hosts.in('worker', 'curl', '-sS', '-H', `Authorization: Bearer ${TOKEN}`, `http://${AT.worker}:47990/metrics`);
  const figure = (what) => Number(new RegExp(`mic_packets_total\\{[^}]*="${what}"[^}]*\\} (\\d+)`).exec(metrics)?.[1]);
  const final = await counted();
  assert.equal(figure('sent'), final.packets, metrics.match(/^.*mic_packets.*$/gm)?.join('\n'));
  assert.equal(figure('lost'), final.missing);
  isDone = true;
});
