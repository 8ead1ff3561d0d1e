// Leaving: the page's own Exit button is a quit; closing and reloading are not.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { never, stage, until, visit } from './harness.mjs';

let set;
before(async () => { set = await stage(); });
after(() => set.close());

const rows = [
  ['the English page', 'Send Keycode,Lock Mouse,Keyboard,Fullscreen,Stats,Exit', 'Exit'],
  ['the French page', 'Envoyer,Souris,Clavier,Plein écran,Stats,Quitter', 'Quitter'],
  ['a page in a language we know no label of', 'A,B,C,D,E,Poistu', 'Poistu'],
];
for (const [name, labels, exit] of rows) {
  test(`Exit of ${name} ends the session and leads back`, async () => {
    const visitor = await visit(set, { query: `&labels=${encodeURIComponent(labels)}` });
    await visitor.live();
    await visitor.page.getByRole('button', { name: exit, exact: true }).click();
    await visitor.page.waitForURL(/\/return\?from=stream$/);
    assert.equal(visitor.session.called('quit').length, 1);
    assert.equal(visitor.session.called('quit')[0].method, 'POST');
    assert.equal(visitor.session.status, 'ended');
    await visitor.close();
  });
}

test('Exit works before anything is connected, by keyboard, and its own handler never runs', async () => {
  const visitor = await visit(set, { hasNoStreamer: true });
  await visitor.page.evaluate(() => { window.general = null; });
  const ran = visitor.page.waitForEvent('pageerror', { timeout: 3000 }).catch(() => null);
  await visitor.page.getByRole('button', { name: 'Exit' }).focus();
  await visitor.page.keyboard.press('Enter');
  await visitor.page.waitForURL(/\/return/);
  assert.equal(await ran, null, 'the handler would have thrown without a channel');
  assert.equal(visitor.session.called('quit').length, 1);
  await visitor.close();
});

test('an Exit button in a sidebar of another make is known by its label', async () => {
  const visitor = await visit(set, { query: '&bar=other-buttons' });
  await visitor.live();
  await visitor.page.getByRole('button', { name: 'Stats' }).click();
  assert.equal(visitor.session.called('quit').length, 0);
  await visitor.page.getByRole('button', { name: 'Exit' }).click();
  await visitor.page.waitForURL(/\/return/);
  assert.equal(visitor.session.called('quit').length, 1);
  await visitor.close();
});

test('the other buttons of the sidebar are left alone', async () => {
  const visitor = await visit(set);
  await visitor.live();
  for (const name of ['Send Keycode', 'Keyboard', 'Stats']) await visitor.page.getByRole('button', { name }).click();
  await never(() => visitor.session.called('quit').length, 'a quit', 500);
  assert.equal(await visitor.phase(), 'live');
  await visitor.close();
});

test('Exit leads back even when the server does not answer', async () => {
  const visitor = await visit(set, { expects: /Failed to load|ERR_/ });
  await visitor.live();
  await visitor.page.route(/\/quit$/, () => {}); // never answered
  await visitor.page.getByRole('button', { name: 'Exit' }).click();
  await visitor.page.waitForURL(/\/return/, { timeout: 5000 });
  await visitor.close();
});

test('Exit twice quits once', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await visitor.page.evaluate(() => {
    const exit = [...document.querySelectorAll('.sidebar-stream-buttons button')].pop();
    exit.click();
    exit.click();
  });
  await visitor.page.waitForURL(/\/return/);
  assert.equal(visitor.session.called('quit').length, 1);
  await visitor.close();
});

test('closing the tab and reloading it are no quit, and a reload comes back', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await visitor.page.reload();
  await visitor.live();
  await visitor.page.close();
  await until(() => visitor.session.viewers.size === 0 && visitor.session.listeners.size === 0, 'the worker sees the viewer go');
  assert.equal(visitor.session.called('quit').length, 0);
  assert.equal(visitor.session.status, 'connected');
  await visitor.close();
});
