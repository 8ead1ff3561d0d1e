// A microphone that says off is off: measured by the sound that arrives at the other end.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { isHeard, isSilent, mic, offers, state, turnOn, turnOnPushToTalk } from './fixture/voice.mjs';
import { stage, until } from './harness.mjs';

const TALK = 'Backquote';

let set;
before(async () => { set = await stage(); });
after(() => set.close());

const is = (visitor, wanted, ms = 15000) => until(async () => (await state(visitor)) === wanted, `the microphone is ${wanted}`, ms);
const words = (visitor) => mic(visitor).innerText();
async function holds(visitor) {
  await visitor.page.keyboard.down(TALK);
  await is(visitor, 'on');
}
async function isLetGo(visitor) {
  await is(visitor, 'quiet');
  assert.equal(await words(visitor), 'Hold to talk');
  await isSilent(visitor);
}

test('push-to-talk: a key that is released in a dip of the network is released', async () => {
  const visitor = await turnOnPushToTalk(set);
  await holds(visitor);
  assert.equal(await words(visitor), 'Talking');
  await isHeard(visitor);
  visitor.session.micDetour.isCut = true;
  await is(visitor, 'asking', 30000);
  await visitor.page.keyboard.up(TALK);
  visitor.session.micDetour.isCut = false;
  await is(visitor, 'quiet', 30000);
  await isLetGo(visitor);
  await holds(visitor);
  await isHeard(visitor);
  await visitor.page.keyboard.up(TALK);
  await isLetGo(visitor);
  await visitor.close();
});

test('push-to-talk: after a dip a key that is held still has to be pressed again', async () => {
  const visitor = await turnOnPushToTalk(set);
  await holds(visitor);
  await visitor.page.evaluate(() => { window.game.events.length = 0; });
  await visitor.page.evaluate(() => window.dispatchEvent(new Event('online')));
  await until(() => offers(visitor).length === 2, 'a second offer');
  await is(visitor, 'quiet');
  await visitor.page.keyboard.down(TALK); // the key repeats
  await isLetGo(visitor);
  await visitor.page.keyboard.up(TALK);
  assert.deepEqual((await visitor.page.evaluate(() => window.game.events)).filter((event) => /key/.test(event)), [], 'the game sees nothing of it');
  await holds(visitor);
  await visitor.page.keyboard.up(TALK);
  await visitor.close();
});

test('push-to-talk: a button that is released in a dip neither talks nor turns it off', async () => {
  const visitor = await turnOnPushToTalk(set);
  const box = await mic(visitor).boundingBox();
  await visitor.page.mouse.move(box.x + 30, box.y + 20);
  await visitor.page.mouse.down();
  await is(visitor, 'on');
  visitor.session.micDetour.isCut = true;
  await visitor.page.evaluate(() => window.dispatchEvent(new Event('online')));
  await is(visitor, 'asking');
  await visitor.page.mouse.up();
  visitor.session.micDetour.isCut = false;
  await is(visitor, 'quiet', 30000);
  await isLetGo(visitor);
  await visitor.close();
});

test('push-to-talk: every way out of talking lets go', async () => {
  const visitor = await turnOnPushToTalk(set);
  const { page } = visitor;
  const ways = {
    'the window loses the focus': () => page.evaluate(() => window.dispatchEvent(new Event('blur'))),
    'the tab is hidden': () => page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { value: true, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
      delete document.hidden;
    }),
    'the release comes while a dialog has the focus': async () => {
      await page.evaluate(() => {
        const dialog = document.createElement('dialog');
        dialog.innerHTML = '<input>';
        dialog.addEventListener('keyup', (event) => event.stopPropagation());
        document.body.append(dialog);
        dialog.showModal();
      });
      await page.keyboard.up(TALK);
      await page.evaluate(() => document.querySelector('dialog').remove());
    },
    'Meta is released, and of the key nothing is told': async () => {
      await page.keyboard.down('Meta');
      await page.keyboard.up('Meta');
    },
    'another key is chosen meanwhile': async () => {
      await page.evaluate(() => {
        const { shadowRoot } = document.getElementById('hydraneck');
        shadowRoot.querySelector('[aria-controls=talk]').click();
        shadowRoot.querySelector('#talk .key').click();
      });
      await page.keyboard.press('KeyT');
      await page.keyboard.up(TALK);
      await page.evaluate(() => document.getElementById('hydraneck').shadowRoot.querySelector('#talk .key').click());
      await page.keyboard.press(TALK);
    },
  };
  for (const [name, way] of Object.entries(ways)) {
    await holds(visitor);
    await way();
    await until(async () => (await state(visitor)) === 'quiet', name, 3000);
    assert.equal(await words(visitor), 'Hold to talk', name);
    await page.keyboard.up(TALK);
  }
  const box = await mic(visitor).boundingBox();
  await page.mouse.move(box.x + 30, box.y + 20);
  await page.mouse.down();
  await is(visitor, 'on');
  await page.mouse.move(600, 200);
  await page.mouse.up();
  await isLetGo(visitor);
  await visitor.close();
});

test('a tab that has lost the stream to another one sends no voice', async () => {
  const visitor = await turnOn(set);
  await isHeard(visitor);
  const second = await visitor.context.newPage();
  await second.goto(visitor.session.url);
  await visitor.card.waitFor();
  await is(visitor, 'off');
  assert.equal(await isSilent(visitor), 0, 'no packet either');
  await second.close();
  await visitor.close();
});

for (const [name, happens] of [
  ['a stream that failed', (session) => session.toViewers({ DebugLog: { message: 'no such thing', ty: 'fatal' } })],
  ['a stream that stopped', (session) => session.toViewers({ ConnectionTerminated: { error_code: 0 } })],
  ['a session that ended', (session) => session.end('max_duration')],
]) {
  test(`under the card of ${name} nothing is sent`, async () => {
    const visitor = await turnOn(set);
    await isHeard(visitor);
    happens(visitor.session);
    await visitor.card.waitFor();
    await is(visitor, 'off');
    assert.equal(await isSilent(visitor), 0, 'no packet either');
    await visitor.close();
  });
}
