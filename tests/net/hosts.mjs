// Four hosts as network namespaces: a browser, the path to it, a worker, a body. The path routes;
// worker and body also have a WireGuard tunnel. Everything is gone after `close`.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const AT = {
  browser: '10.77.1.2', path: '10.77.1.1', pathToWorker: '10.77.2.1', worker: '10.77.2.2',
  tunnelWorker: '10.77.9.1', tunnelBody: '10.77.9.2',
};
const WIREGUARD_PORT = 51820;
const LOG_MAX = 200_000; // characters kept of each program

const run = (program, ...words) => execFileSync(program, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** What a host here needs, or the reason why there are none. */
export function obstacle() {
  if (process.getuid() !== 0) return 'network namespaces need root: run as root, or set NECK_SKIP_NET=1';
  for (const tool of ['ip', 'nft', 'wg', 'wireguard-go', 'turnserver']) {
    try { run('sh', '-c', `command -v ${tool}`); } catch { return `${tool} is not installed`; }
  }
  return '';
}

export class Hosts {
  constructor() {
    this.tag = `nk${process.pid}`;
    this.dir = mkdtempSync(join(tmpdir(), 'neck-net-'));
    this.programs = [];
    for (const host of ['browser', 'path', 'worker', 'body']) {
      run('ip', 'netns', 'add', this.name(host));
      this.ip(host, 'link', 'set', 'lo', 'up');
    }
    this.cable('browser', AT.browser, 'path', AT.path);
    this.cable('path', AT.pathToWorker, 'worker', AT.worker);
    this.cable('worker', '10.77.3.1', 'body', '10.77.3.2');
    this.ip('browser', 'route', 'add', 'default', 'via', AT.path);
    this.ip('worker', 'route', 'add', 'default', 'via', AT.pathToWorker);
    this.in('path', 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
  }

  name(host) { return `${this.tag}-${host}`; }
  ip(host, ...words) { return run('ip', '-n', this.name(host), ...words); }
  /** Runs a command on a host to its end. */
  in(host, ...words) { return run('ip', 'netns', 'exec', this.name(host), ...words); }

  cable(one, oneAddress, other, otherAddress) {
    this.ip(one, 'link', 'add', `to-${other}`, 'type', 'veth', 'peer', 'name', `to-${one}`, 'netns', this.name(other));
    for (const [host, far, address] of [[one, other, oneAddress], [other, one, otherAddress]]) {
      this.ip(host, 'addr', 'add', `${address}/24`, 'dev', `to-${far}`);
      this.ip(host, 'link', 'set', `to-${far}`, 'up');
    }
  }

  /** A tunnel between worker and body; wireguard-go stands in where the kernel has none. */
  async tunnel(until) {
    const ends = [['worker', AT.tunnelWorker, '10.77.3.2'], ['body', AT.tunnelBody, '10.77.3.1']];
    const keys = Object.fromEntries(ends.map(([host]) => {
      const secret = run('wg', 'genkey').trim();
      const file = this.file(`${host}.key`, secret);
      return [host, { file, open: execFileSync('wg', ['pubkey'], { input: secret, encoding: 'utf8' }).trim() }];
    }));
    for (const [n, [host, address, endpoint]] of ends.entries()) {
      const [far, farAddress] = ends[1 - n];
      // Its control socket has the interface's name, in a directory that all hosts share.
      const wg = `wg${process.pid}${n}`;
      this.start(host, ['wireguard-go', '--foreground', wg]);
      await until(() => this.in(host, 'wg', 'show', wg), `the tunnel's interface on ${host}`);
      this.in(host, 'wg', 'set', wg, 'private-key', keys[host].file, 'listen-port', String(WIREGUARD_PORT),
        'peer', keys[far].open, 'allowed-ips', `${farAddress}/32`, 'endpoint', `${endpoint}:${WIREGUARD_PORT}`, 'persistent-keepalive', '5');
      this.ip(host, 'addr', 'add', `${address}/24`, 'dev', wg);
      this.ip(host, 'link', 'set', wg, 'up');
    }
  }

  file(name, text) {
    const path = join(this.dir, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }

  /** A wrapper that runs a program on a host, for those who start it themselves. */
  wrapper(host, program) {
    const path = this.file(`${host}-wrapper`, `#!/bin/sh\nexec ip netns exec ${this.name(host)} ${program} "$@"\n`);
    chmodSync(path, 0o755);
    return path;
  }

  /** Starts a program on a host; `ask` writes a line to it and gives its next line. */
  start(host, words, options = {}) {
    const child = spawn('ip', ['netns', 'exec', this.name(host), ...words], { stdio: ['pipe', 'pipe', 'pipe'], ...options });
    const program = { child, log: '', lines: [] };
    const keep = (text) => { program.log = (program.log + text).slice(-LOG_MAX); };
    child.stderr.on('data', keep);
    createInterface({ input: child.stdout }).on('line', (line) => { keep(`${line}\n`); program.lines.push(line); });
    child.stdin.on('error', () => {});
    child.ended = new Promise((done) => child.on('exit', done));
    program.ask = async (line, until) => {
      const before = program.lines.length;
      child.stdin.write(`${line}\n`);
      return JSON.parse(await until(() => program.lines[before], 'an answer'));
    };
    program.alive = () => assert.equal(child.exitCode, null, `${words[0]} ended: ${program.log}`);
    this.programs.push(program);
    return program;
  }

  async close() {
    for (const { child } of this.programs.toReversed()) child.kill('SIGTERM');
    await Promise.race([Promise.all(this.programs.map(({ child }) => child.ended)), new Promise((done) => setTimeout(done, 5000))]);
    for (const host of ['browser', 'path', 'worker', 'body']) {
      // Whatever was started on this host and is left, the worker's stream processes for one.
      for (const pid of run('ip', 'netns', 'pids', this.name(host)).split('\n').filter(Boolean)) {
        try { process.kill(Number(pid), 'SIGKILL'); } catch { /* it went by itself */ }
      }
      run('ip', 'netns', 'del', this.name(host));
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}
