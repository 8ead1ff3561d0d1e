// A second engine: the card and Exit in a stock Firefox, with real media where it has a codec.
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startFirefox } from './fixture/firefox.mjs';
import { session as told, startFleet, TOKEN } from './fixture/fleet.mjs';
import { startFixture } from './fixture/server.mjs';
import { needs, shots, until } from './harness.mjs';

const path = [process.env.FIREFOX, '/usr/bin/firefox-esr', '/usr/bin/firefox'].find((file) => file && existsSync(file));
const options = needs('Firefox (package firefox-esr)', path);
const card = (selector) => `document.querySelector('#hydraneck').shadowRoot.querySelector('.card ${selector}')`;
const phase = (page) => page.evaluate('window.hydraneck.phase');

let fixture;
let firefox;
before(async () => {
  if (options.skip) return;
  fixture = await startFixture();
  firefox = await startFirefox(path);
});
after(async () => {
  if (firefox) await firefox.close();
  if (fixture) await fixture.close();
});

test('the card comes up, rates, and leads back', options, async () => {
  const session = fixture.admit();
  const page = await firefox.open(session.url);
  await until(() => session.listeners.size, 'the page follows the events');
  session.end('max_duration');
  await until(() => page.evaluate(`Boolean(${card('')})`), 'the card', 5000);
  assert.equal(await page.evaluate(`${card('h1')}.textContent`), 'Stream ended');
  await until(() => page.evaluate(`${card('')}.getAnimations({ subtree: true }).concat(${card('')}.parentNode.getAnimations()).every((a) => a.playState === 'finished')`), 'the card has come to rest');
  await page.click(`${card('.star:nth-child(4)')}`);
  await until(() => session.called('rating').length, 'the rating is sent');
  const [{ body }] = session.called('rating');
  assert.ok(body.score === 7 || body.score === 8, `the fourth star: ${body.score}`);
  await until(() => page.evaluate(`/Thank you/.test(${card('')}.textContent)`), 'the visitor is thanked');
  await page.press('\uE014');
  await until(() => session.called('rating').length === 2, 'the keyboard changes it');
  assert.equal(session.called('rating')[1].body.score, body.score + 1);
  writeFileSync(join(shots(), 'card-firefox.png'), await page.screenshot());
  assert.equal(await page.evaluate('window.game.clicks'), 0);
  await page.click(card('.button.primary'));
  await until(() => page.evaluate('location.pathname === "/return"'), 'back');
  await page.close();
});

test('Exit ends the session and leads back', options, async () => {
  const session = fixture.admit();
  const page = await firefox.open(session.url);
  await page.click('document.querySelector(".sidebar-stream-buttons button:last-child")');
  await until(() => page.evaluate('location.pathname === "/return"'), 'back');
  assert.equal(session.called('quit').length, 1);
  await page.close();
});

test('every peer connection is relay only', options, async () => {
  const session = fixture.admit({ config: { relay_only: true } });
  const page = await firefox.open(session.url);
  assert.equal(await page.evaluate('new RTCPeerConnection({ iceTransportPolicy: "all" }).getConfiguration().iceTransportPolicy'), 'relay');
  assert.equal(await page.evaluate('new RTCPeerConnection() instanceof RTCPeerConnection'), true);
  await page.close();
});

test('a stream goes live and its clean stop ends it', options, async () => {
  const session = fixture.admit();
  const streamer = await firefox.open(`${fixture.origin}/streamer.html?session=${session.id}`);
  await until(() => session.streamer, 'the streamer joins');
  const page = await firefox.open(session.url);
  await until(async () => (await phase(page)) === 'live', 'the stream is live', 20000);
  await streamer.evaluate('window.streamer.general.close()');
  await until(() => page.evaluate(`Boolean(${card('')})`), 'the card', 5000);
  assert.equal(await page.evaluate('window.hydraneck.reason'), 'stream_stopped');
  assert.equal(await page.evaluate('window.game.errors.length'), 0);
  await page.close();
  await streamer.close();
});

test('the dashboard is signed in to, shows the fleet and follows it', needs('NECK_BINARY, the built program, and Firefox', path && process.env.NECK_BINARY), async () => {
  const fleet = await startFleet();
  try {
    await fleet.worker('alpha', { sessions: [told({ experience: 'Cathedral' })] });
    const page = await firefox.open(`${fleet.origin}/admin`);
    await page.evaluate(`document.getElementById('token').value = '${TOKEN}'; document.querySelector('form').requestSubmit(); null`);
    await until(() => page.evaluate('document.querySelector("#sessions tbody .name")?.textContent === "Cathedral"'), 'the session', 20000);
    await fleet.worker('alpha', { sessions: [] });
    await until(() => page.evaluate('[...document.querySelectorAll(".events li")].some((item) => /Session ended/.test(item.textContent))'), 'its end', 20000);
    await until(() => page.evaluate('document.querySelector("#sessions tbody .name") === null'), 'its row is gone', 20000);
    assert.deepEqual(page.errors, []);
    await page.close();
  } finally {
    await fleet.close();
  }
});
