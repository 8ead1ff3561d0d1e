// A microphone that was wanted is on again after an outage: measured by the sound that arrives at
// the other end.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { isHeard, isSilent, mic, offers, state, turnOn, turnOnPushToTalk } from './fixture/voice.mjs';
import { never, stage, until } from './harness.mjs';

const TALK = 'Backquote';

let set;
before(async () => { set = await stage(); });
after(() => set.close());

const is = (visitor, wanted, ms = 30000) => until(async () => (await state(visitor)) === wanted, `the microphone is ${wanted}`, ms);
const isReloaded = (visitor) => visitor.page.evaluate(() => !window.isFirstLoad);
const mark = (visitor) => visitor.page.evaluate(() => { window.isFirstLoad = true; });

/** Neither network nor worker until the page wants to reload itself; the worker is back first. */
async function outage(visitor) {
  const { session } = visitor;
  await mark(visitor);
  const detours = [session.detour, session.micDetour];
  for (const detour of detours) detour.isCut = true;
  set.fixture.isSilent = true;
  try {
    await until(async () => (await visitor.phase()) === 'reconnecting', 'the connection is given up', 30000);
    assert.equal(await isReloaded(visitor), false);
    assert.notEqual(await state(visitor), 'on');
  } finally {
    set.fixture.isSilent = false;
  }
  await until(() => isReloaded(visitor), 'the page reloads itself', 20000);
  for (const detour of detours) detour.isCut = false;
  await visitor.live();
}

test('after an outage it is on again, and only as long as it is wanted', async () => {
  const visitor = await turnOn(set, { expects: /Failed to load|ERR_/ });
  await isHeard(visitor);
  await outage(visitor);
  await is(visitor, 'on');
  assert.equal(await mic(visitor).innerText(), 'Microphone on');
  await isHeard(visitor);
  await mic(visitor).click();
  await is(visitor, 'off');
  await mark(visitor);
  visitor.session.tell('restarting');
  await until(() => isReloaded(visitor), 'the page reloads itself', 20000);
  await visitor.live();
  await never(async () => (await state(visitor)) !== 'off', 'a microphone nobody turned on', 1000);
  await visitor.close();
});

test('after an outage push-to-talk is ready, and silent', async () => {
  const visitor = await turnOnPushToTalk(set, { expects: /Failed to load|ERR_/ });
  await visitor.page.keyboard.down(TALK);
  await is(visitor, 'on');
  await outage(visitor);
  await is(visitor, 'quiet');
  await visitor.page.keyboard.down(TALK); // the key repeats
  await is(visitor, 'quiet');
  await isSilent(visitor);
  await visitor.page.keyboard.up(TALK);
  await visitor.page.keyboard.down(TALK);
  await is(visitor, 'on');
  await isHeard(visitor);
  await visitor.close();
});

test('a refusal while the way is offered anew is no end', async () => {
  const visitor = await turnOn(set, { expects: /Failed to load|502/ });
  visitor.session.answers['mic/offer'] = 502;
  await visitor.page.evaluate(() => window.dispatchEvent(new Event('online')));
  await until(() => offers(visitor).length >= 3, 'it is offered again and again');
  await is(visitor, 'asking');
  delete visitor.session.answers['mic/offer'];
  await is(visitor, 'on');
  await isHeard(visitor);
  await visitor.close();
});

test('a microphone that gave up in an outage comes back with the picture', async () => {
  const visitor = await turnOn(set, { expects: /Failed to load|502/ });
  visitor.session.answers['mic/offer'] = 502;
  await visitor.page.evaluate(() => window.dispatchEvent(new Event('online')));
  await is(visitor, 'error', 40000);
  await mark(visitor);
  delete visitor.session.answers['mic/offer'];
  visitor.session.tell('restarting');
  await until(() => isReloaded(visitor), 'the page reloads itself', 20000);
  await is(visitor, 'on');
  await isHeard(visitor);
  await visitor.close();
});
