// The page's peer connection: wrapped before its modules run, relay only, otherwise as it was.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { stage, until, visit } from './harness.mjs';

let set;
before(async () => { set = await stage(); });
after(() => set.close());

test('our script runs before any module of the page', async () => {
  const visitor = await visit(set);
  await visitor.live();
  assert.equal(await visitor.page.evaluate(() => window.scriptsBefore.wrapped), true);
  await visitor.close();
});

test('every peer connection of the page is relay only, however it is configured', async () => {
  const visitor = await visit(set, { config: { relay_only: true }, hasNoStreamer: true });
  const policies = await visitor.page.evaluate(() => {
    const made = [
      new RTCPeerConnection(),
      new RTCPeerConnection({ iceTransportPolicy: 'all' }),
      new (class extends RTCPeerConnection {})({}),
      new (RTCPeerConnection.prototype.constructor)({}),
    ];
    made[0].setConfiguration({ iceTransportPolicy: 'all' });
    if (window.webkitRTCPeerConnection) made.push(new window.webkitRTCPeerConnection({}));
    return made.map((pc) => pc.getConfiguration().iceTransportPolicy);
  });
  assert.ok(policies.length >= 4);
  assert.ok(policies.every((policy) => policy === 'relay'), String(policies));
  await visitor.close();
});

test('a relay-only peer connection offers no address of this machine', async () => {
  const visitor = await visit(set, { config: { relay_only: true }, hasNoStreamer: true });
  const candidates = await visitor.page.evaluate(async () => {
    const pc = new RTCPeerConnection();
    pc.createDataChannel('x');
    await pc.setLocalDescription();
    while (pc.iceGatheringState !== 'complete') await new Promise((done) => { pc.onicegatheringstatechange = done; });
    return pc.localDescription.sdp.match(/^a=candidate.*$/gm);
  });
  assert.equal(candidates, null);
  await visitor.close();
});

test('the wrapped constructor is in all else the one of the browser', async () => {
  const visitor = await visit(set, { hasNoStreamer: true, expects: /nowhere/ });
  const facts = await visitor.page.evaluate(async () => {
    const pc = new RTCPeerConnection();
    class Own extends RTCPeerConnection { greet() { return 'hello'; } }
    const own = new Own();
    const refused = (act) => { try { act(); return ''; } catch (error) { return error.name; } };
    return {
      isInstance: pc instanceof RTCPeerConnection && own instanceof Own && own instanceof RTCPeerConnection,
      samePrototype: Object.getPrototypeOf(pc) === RTCPeerConnection.prototype,
      constructor: pc.constructor === RTCPeerConnection,
      name: RTCPeerConnection.name,
      certificate: (await RTCPeerConnection.generateCertificate({ name: 'ECDSA', namedCurve: 'P-256' })) instanceof RTCCertificate,
      subclass: own.greet(),
      withoutNew: refused(() => RTCPeerConnection()),
      badServers: refused(() => new RTCPeerConnection({ iceServers: 'x' })),
      channel: pc.createDataChannel('a', { ordered: false }).ordered,
      socketInstance: new WebSocket(`${location.origin.replace('http', 'ws')}/nowhere`) instanceof WebSocket,
      socketStatic: WebSocket.OPEN,
    };
  });
  assert.deepEqual(facts, {
    isInstance: true, samePrototype: true, constructor: true, name: 'RTCPeerConnection', certificate: true, subclass: 'hello',
    withoutNew: 'TypeError', badServers: 'TypeError', channel: false, socketInstance: true, socketStatic: 1,
  });
  await visitor.close();
});

test('we leave one global behind, and a second injection changes nothing', async () => {
  const visitor = await visit(set, { hasNoStreamer: true });
  await until(() => visitor.page.locator('#hydraneck .dock').isVisible(), 'our corner is there');
  const added = await visitor.page.evaluate(async () => {
    const frame = document.createElement('iframe');
    document.body.append(frame);
    const plain = new Set(Object.getOwnPropertyNames(frame.contentWindow));
    frame.remove();
    const again = document.createElement('script');
    again.src = document.querySelector('script[data-session]').src;
    document.head.append(again);
    await new Promise((done) => { again.onload = done; });
    const fixture = new Set(['game', 'app', 'scriptsBefore']);
    return Object.getOwnPropertyNames(window).filter((name) => !plain.has(name) && !fixture.has(name) && !/^\d+$|^__?playwright/.test(name));
  });
  assert.deepEqual(added.filter((name) => /neck|hydra/i.test(name)), ['hydraneck']);
  assert.equal(await visitor.page.locator('#hydraneck').count(), 1);
  await visitor.close();
});

test('a policy that allows scripts and styles of the same origin only is no obstacle', async () => {
  const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob: mediastream:";
  const visitor = await visit(set, { hasNoStreamer: true, headers: { 'Content-Security-Policy': policy } });
  await until(() => visitor.session.listeners.size, 'the page follows the events');
  visitor.session.end('deleted');
  await visitor.card.waitFor();
  assert.equal(await visitor.card.evaluate((card) => getComputedStyle(card).borderTopLeftRadius), '22px');
  await visitor.close();
});
