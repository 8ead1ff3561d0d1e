// The microphone in the page: its states, its offer, push-to-talk, and that it always stops.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { allowed, deletes, heard, mic, note, offers, state, turnOn } from './fixture/voice.mjs';
import { never, shots, stage, until, visit } from './harness.mjs';

const ENGLISH = JSON.parse(readFileSync(new URL('../../src/page/lang/en.json', import.meta.url), 'utf8'));
const INSECURE_HOST = 'neck.test'; // plain HTTP from a name that is not this machine's own

let set;
before(async () => { set = await stage([`--host-resolver-rules=MAP ${INSECURE_HOST} 127.0.0.1`]); });
after(() => set.close());

const speaking = (options) => turnOn(set, options);

test('a click turns it on: the voice arrives, the meter moves, a click turns it off', async () => {
  const visitor = await visit(set, allowed);
  await visitor.live();
  assert.equal(await state(visitor), 'off');
  assert.equal(await mic(visitor).innerText(), 'Microphone off');
  assert.equal(await mic(visitor).getAttribute('aria-pressed'), 'false');
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'on', 'the microphone is on', 15000);
  assert.equal(await mic(visitor).innerText(), 'Microphone on');
  await until(async () => (await heard(visitor))?.packets > 20, 'packets arrive');
  await until(async () => (await heard(visitor)).energy > 0, 'with sound in them');
  await until(async () => Number(await visitor.page.locator('#hydraneck .meter').getAttribute('data-level')) > 0, 'the meter moves');
  await visitor.page.screenshot({ path: join(shots(), 'mic-on.png') });
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'off', 'the microphone is off');
  await until(() => deletes(visitor).length === 1, 'the worker is told');
  await visitor.close();
});

test('the offer is one Opus track, mono, with error correction and silence suppression, candidates inside', async () => {
  const visitor = await speaking();
  const { type, sdp } = offers(visitor)[0].body;
  assert.equal(type, 'offer');
  assert.equal(sdp.match(/^m=/gm).length, 1);
  assert.match(sdp, /^a=sendonly\r$/m);
  assert.deepEqual(sdp.match(/^a=rtpmap:.*$/gm).map((line) => line.trim().split(' ')[1]), ['opus/48000/2']);
  const settings = /^a=fmtp:\d+ (.*)$/m.exec(sdp)[1].trim().split(';');
  for (const setting of ['useinbandfec=1', 'usedtx=1', 'stereo=0', 'sprop-stereo=0']) assert.ok(settings.includes(setting), setting);
  assert.match(sdp, /^a=candidate:/m);
  assert.ok(sdp.length < 64 * 1024);
  assert.ok(sdp.split('\n').every((line) => line === '' || line.endsWith('\r')), 'line ends are whole');
  await visitor.close();
});

test('what the browser is asked for is a clean voice', async () => {
  const visitor = await visit(set, { ...allowed, before: (page) => page.addInitScript(() => {
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) => { window.wanted = wanted; return real(wanted); };
  }) });
  await mic(visitor).click();
  const wanted = await until(() => visitor.page.evaluate(() => window.wanted), 'the browser is asked');
  assert.deepEqual(wanted, { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 } });
  await visitor.close();
});

test('a refused permission is said as blocked, and can be tried again', async () => {
  const visitor = await visit(set, {});
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'blocked', 'the microphone is blocked');
  assert.equal(await mic(visitor).innerText(), 'Microphone blocked');
  assert.equal(await note(visitor).innerText(), ENGLISH.mic_denied);
  await visitor.page.screenshot({ path: join(shots(), 'mic-blocked.png') });
  await visitor.context.grantPermissions(['microphone']);
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'on', 'the microphone is on', 15000);
  assert.equal(await note(visitor).isVisible(), false);
  await visitor.close();
});

test('asking is shown while the browser asks, and can be called off', async () => {
  const visitor = await visit(set, { before: (page) => page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = () => new Promise(() => {});
  }) });
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'asking', 'asking');
  assert.equal(await mic(visitor).innerText(), ENGLISH.mic_asking);
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'off', 'off again');
  assert.equal(offers(visitor).length, 0);
  await visitor.close();
});

for (const [name, words] of [['NotFoundError', 'mic_none'], ['NotReadableError', 'mic_unusable']]) {
  test(`${name} is an error with its own words`, async () => {
    const visitor = await visit(set, { before: (page) => page.addInitScript((error) => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', error));
    }, name) });
    await mic(visitor).click();
    await until(async () => (await state(visitor)) === 'error', 'an error');
    assert.equal(await note(visitor).innerText(), ENGLISH[words]);
    await visitor.close();
  });
}

test('on plain HTTP the rule of secure pages is explained', async () => {
  const origin = set.fixture.origin.replace('127.0.0.1', INSECURE_HOST);
  const visitor = await visit(set, { origin, hasNoStreamer: true });
  assert.equal(await visitor.page.evaluate(() => window.isSecureContext), false);
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'blocked', 'blocked');
  assert.equal(await note(visitor).innerText(), ENGLISH.mic_insecure);
  await visitor.close();
});

test('a refused offer is an error, and the browser\'s microphone is let go', async () => {
  const visitor = await visit(set, { ...allowed, expects: /400/, before: (page) => page.addInitScript(() => {
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => { window.stream = await real(wanted); return window.stream; };
  }) });
  await visitor.live();
  visitor.session.answers['mic/offer'] = 400;
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'error', 'an error');
  assert.equal(await note(visitor).innerText(), ENGLISH.mic_refused);
  assert.equal(await visitor.page.evaluate(() => window.stream.getTracks()[0].readyState), 'ended');
  await visitor.close();
});

test('with relay only and no relay it says so and never offers an address of this machine', async () => {
  const visitor = await visit(set, { ...allowed, config: { relay_only: true }, hasNoStreamer: true });
  await mic(visitor).click();
  await until(async () => (await state(visitor)) === 'error', 'an error', 15000);
  assert.equal(await note(visitor).innerText(), ENGLISH.mic_no_relay);
  assert.equal(offers(visitor).length, 0);
  await visitor.close();
});

test('another network brings a new offer, and the voice goes on', async () => {
  const visitor = await speaking();
  await visitor.page.evaluate(() => window.dispatchEvent(new Event('online')));
  await until(() => offers(visitor).length === 2, 'a second offer');
  await until(async () => (await state(visitor)) === 'on', 'the microphone is on again', 15000);
  await until(async () => (await heard(visitor))?.packets > 20, 'packets arrive again');
  assert.equal(deletes(visitor).length, 0);
  await visitor.close();
});

test('a lost way is offered anew', async () => {
  const visitor = await speaking();
  await visitor.streamer.evaluate(() => window.streamer.mic.close());
  await until(() => offers(visitor).length >= 2, 'a second offer', 40000);
  await until(async () => (await state(visitor)) === 'on', 'the microphone is on again', 15000);
  await visitor.close();
});

test('it stops with the stream', async () => {
  const visitor = await speaking();
  visitor.session.end('max_duration');
  await visitor.card.waitFor();
  await until(() => deletes(visitor).length === 1, 'the worker is told');
  await visitor.close();
});

test('it stops when the page goes', async () => {
  const visitor = await speaking();
  await visitor.page.goto(`${set.fixture.origin}/return`);
  await until(() => deletes(visitor).length === 1, 'the worker is told');
  await visitor.close();
});

test('it comes back after a reload of our own, not after one of the visitor', async () => {
  const visitor = await speaking();
  visitor.session.tell('restarting');
  await until(() => offers(visitor).length === 2, 'a new offer after the reload', 20000);
  await until(async () => (await state(visitor)) === 'on', 'the microphone is on again', 15000);
  await visitor.page.reload();
  await visitor.live();
  await never(async () => (await state(visitor)) !== 'off', 'a microphone nobody turned on', 1000);
  await visitor.close();
});

test('push-to-talk: silent until the key or the button is held, and the game sees nothing of it', async () => {
  const visitor = await speaking();
  await visitor.page.getByRole('button', { name: 'Microphone options' }).click();
  await visitor.page.getByRole('checkbox', { name: 'Push to talk' }).check();
  await visitor.page.screenshot({ path: join(shots(), 'mic-options.png') });
  await until(async () => (await state(visitor)) === 'quiet', 'quiet');
  assert.equal(await mic(visitor).innerText(), 'Hold to talk');
  await visitor.page.mouse.click(600, 300);
  await visitor.page.evaluate(() => { window.game.events.length = 0; });

  await visitor.page.keyboard.down('Backquote');
  await until(async () => (await state(visitor)) === 'on', 'talking');
  await visitor.page.keyboard.up('Backquote');
  await until(async () => (await state(visitor)) === 'quiet', 'quiet again');
  assert.deepEqual((await visitor.page.evaluate(() => window.game.events)).filter((event) => /key/.test(event)), []);

  const box = await mic(visitor).boundingBox();
  await visitor.page.mouse.move(box.x + 30, box.y + 20);
  await visitor.page.mouse.down();
  await until(async () => (await state(visitor)) === 'on', 'talking by the button');
  await visitor.page.mouse.up();
  await until(async () => (await state(visitor)) === 'quiet', 'quiet again');

  await visitor.page.getByRole('button', { name: /^Key:/ }).click();
  await visitor.page.keyboard.press('KeyT');
  await visitor.page.mouse.click(600, 300);
  await visitor.page.keyboard.down('KeyT');
  await until(async () => (await state(visitor)) === 'on', 'talking by another key');
  await visitor.page.keyboard.up('KeyT');

  await visitor.page.getByRole('button', { name: 'Turn the microphone off' }).click();
  await until(async () => (await state(visitor)) === 'off', 'off');
  await visitor.close();
});

test('where no microphone is wanted there is no button', async () => {
  const visitor = await visit(set, { config: { mic: false } });
  await visitor.live();
  assert.equal(await mic(visitor).count(), 0);
  await visitor.close();
});
