// One microphone for all tabs and devices of a session: the last one asked has it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { deletes, note, offers, state, turnOn } from './fixture/voice.mjs';
import { never, shots, stage, until } from './harness.mjs';

const ENGLISH = JSON.parse(readFileSync(new URL('../../src/page/lang/en.json', import.meta.url), 'utf8'));

let set;
before(async () => { set = await stage(); });
after(() => set.close());

test('the tab that is asked last has it, and the other lets go without switching it off', async () => {
  const first = await turnOn(set);
  const page = await first.context.newPage();
  // Its signalling never opens: with the stream it would take the first tab's microphone at once.
  await page.addInitScript(() => {
    window.WebSocket = class extends EventTarget { url = location.href; readyState = 0; send() {} close() {} };
  });
  await page.goto(first.session.url);
  const second = page.locator('#hydraneck .mic');
  await second.click();
  await until(async () => (await second.getAttribute('data-state')) === 'on', 'it is on in the second tab', 15000);
  await until(async () => (await state(first)) === 'off', 'and off in the first');
  assert.equal(await note(first).innerText(), ENGLISH.mic_elsewhere);
  await first.page.bringToFront();
  await first.page.screenshot({ path: join(shots(), 'mic-elsewhere.png') });
  await first.page.close();
  // On a loaded machine the second tab may lose its way once and offer it anew; a first tab that
  // meddles takes it away for good, or again and again.
  await never(async () => deletes(first).length || offers(first).length > 3, 'the first tab meddles', 1500);
  await until(async () => (await second.getAttribute('data-state')) === 'on', 'it is still on in the second tab', 15000);
  await first.context.close();
});

test('a way that is taken away again and again is not fought for', async () => {
  const visitor = await turnOn(set);
  for (let taken = 1; (await state(visitor)) !== 'error'; taken += 1) {
    assert.ok(taken < 12, 'it is still offered');
    await visitor.streamer.evaluate(() => window.streamer.mic.close());
    await until(async () => offers(visitor).length > taken || (await state(visitor)) === 'error', 'it is offered anew, or given up', 20000);
    await until(async () => ['on', 'error'].includes(await state(visitor)), 'it is on, or given up', 20000);
  }
  assert.equal(await note(visitor).innerText(), ENGLISH.mic_lost);
  assert.equal(deletes(visitor).length, 0, 'who has it now keeps it');
  await visitor.close();
});
