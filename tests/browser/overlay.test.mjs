// The card at the end: what it offers, that it is a good guest, and how it looks.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { never, shots, stage, until, visit } from './harness.mjs';

const REPORT_PARAMETERS = [
  'project', 'category', 'title', 'session_id', 'experience', 'district', 'body', 'head', 'body_ip',
  'disconnect_count', 'duration_ms', 'end_reason', 'ice_candidate_type',
];

let set;
before(async () => { set = await stage(); });
after(() => set.close());

async function ended(options, reason = 'max_duration') {
  // An end that comes while the page's socket is still shaking hands makes the browser complain.
  const cutShort = /^WebSocket connection to .* failed: Connection closed before receiving a handshake response$/;
  const expects = options?.expects ? new RegExp(`${cutShort.source}|${options.expects.source}`) : cutShort;
  const visitor = await visit(set, { hasNoStreamer: true, ...options, expects });
  if (!options?.hasNoStreamer && options?.isLive) await visitor.live();
  await until(() => visitor.session.listeners.size, 'the page follows the events');
  visitor.session.end(reason);
  await visitor.card.waitFor();
  return visitor;
}
const settled = (visitor) => until(() => visitor.card.evaluate((card) => card.getAnimations({ subtree: true }).concat(card.parentNode.getAnimations()).every((a) => a.playState === 'finished')), 'the card has come to rest');
const ratings = (visitor) => visitor.session.called('rating').map((call) => call.body);

test('a click rates in half stars, is thanked, and may be changed', async () => {
  const visitor = await ended();
  await settled(visitor);
  const stars = visitor.card.getByRole('slider');
  const box = await stars.boundingBox();
  await visitor.page.mouse.click(box.x + box.width * 0.67, box.y + box.height / 2);
  await until(() => ratings(visitor).length === 1, 'the rating is sent');
  assert.deepEqual(ratings(visitor), [{ score: 7 }]);
  assert.equal(await stars.getAttribute('aria-valuetext'), '3.5 of 5 stars');
  await until(async () => /Thank you/.test(await visitor.card.innerText()), 'the visitor is thanked');
  await visitor.page.mouse.click(box.x + box.width * 0.99, box.y + box.height / 2);
  await until(() => ratings(visitor).length === 2, 'the change is sent');
  assert.deepEqual(ratings(visitor)[1], { score: 10 });
  await visitor.close();
});

test('the keyboard rates too, and only where it stops', async () => {
  const visitor = await ended();
  const stars = visitor.card.getByRole('slider');
  await stars.focus();
  for (const key of ['End', 'ArrowLeft', 'ArrowLeft', 'ArrowRight']) await visitor.page.keyboard.press(key);
  await until(() => ratings(visitor).length, 'the rating is sent');
  assert.deepEqual(ratings(visitor), [{ score: 9 }]);
  await visitor.page.keyboard.press('Home');
  await visitor.page.keyboard.press('ArrowLeft');
  await until(() => ratings(visitor).length === 2, 'the change is sent');
  assert.deepEqual(ratings(visitor)[1], { score: 1 });
  await visitor.close();
});

test('a finger rates on a phone', async () => {
  const visitor = await ended({ context: { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true } });
  await settled(visitor);
  const box = await visitor.card.getByRole('slider').boundingBox();
  assert.ok(box.height >= 44, 'big enough for a finger');
  await visitor.page.touchscreen.tap(box.x + box.width * 0.55, box.y + box.height / 2);
  await until(() => ratings(visitor).length, 'the rating is sent');
  assert.deepEqual(ratings(visitor), [{ score: 6 }]);
  await visitor.close();
});

test('a rating that is refused is said, and a later one goes through', async () => {
  const visitor = await ended({ expects: /500/ });
  visitor.session.answers.rating = 500;
  const stars = visitor.card.getByRole('slider');
  await stars.focus();
  await visitor.page.keyboard.press('End');
  await until(async () => /could not be sent/.test(await visitor.card.innerText()), 'the failure is said');
  delete visitor.session.answers.rating;
  await visitor.page.keyboard.press('ArrowLeft');
  await until(async () => /Thank you/.test(await visitor.card.innerText()), 'the visitor is thanked');
  await visitor.close();
});

test('a rating survives a reload of the page', async () => {
  const visitor = await ended();
  await visitor.card.getByRole('slider').focus();
  await visitor.page.keyboard.press('End');
  await until(() => ratings(visitor).length, 'the rating is sent');
  await visitor.page.evaluate(() => location.reload());
  await visitor.page.waitForEvent('load');
  await visitor.card.waitFor({ timeout: 5000 });
  assert.equal(await visitor.card.getByRole('slider').getAttribute('aria-valuenow'), '10');
  visitor.errors.length = 0; // the ended session refuses the page's sockets
  await visitor.close();
});

test('a problem is reported in a new tab with exactly the thirteen parameters', async () => {
  const visitor = await ended({ config: { experience: 'Ätläntis & "friends" <3 🐙', district: 'x'.repeat(5000) } });
  const link = visitor.card.getByRole('link', { name: 'Report a problem' });
  assert.equal(await link.getAttribute('target'), '_blank');
  assert.match(await link.getAttribute('rel'), /noopener/);
  const address = new URL(await link.getAttribute('href'));
  assert.equal(address.origin + address.pathname, 'https://issues.experiencenet.com/report');
  assert.deepEqual([...address.searchParams.keys()], REPORT_PARAMETERS);
  const told = Object.fromEntries(address.searchParams);
  assert.equal(told.project, 'hydraneckwebrtc');
  assert.equal(told.session_id, visitor.session.id);
  assert.equal(told.experience, 'Ätläntis & "friends" <3 🐙');
  assert.equal(told.body_ip, '10.0.1.50');
  assert.equal(told.end_reason, 'max_duration');
  assert.equal(told.disconnect_count, '0');
  assert.ok(Number(told.duration_ms) > 0);
  assert.equal(told.district.length, 200, 'cut to a sane length');
  await visitor.close();
});

test('the report knows how the stream was connected', async () => {
  const visitor = await ended({ hasNoStreamer: false, isLive: true });
  // The first digest is due 5 s after the page came up; the end came before it.
  const again = await visit(set, {});
  await again.live();
  await until(() => again.session.called('stats').some((call) => call.body.ice_candidate_type), 'a digest');
  again.session.end('deleted');
  await again.card.waitFor();
  const href = await again.card.getByRole('link', { name: 'Report a problem' }).getAttribute('href');
  assert.match(new URL(href).searchParams.get('ice_candidate_type'), /^(host|prflx|relay|srflx)$/);
  await visitor.close();
  await again.close();
});

test('"Start new stream" leads back', async () => {
  const visitor = await ended();
  await visitor.card.getByRole('link', { name: 'Start new stream' }).click();
  await visitor.page.waitForURL(/\/return\?from=stream$/);
  assert.equal(visitor.session.called('quit').length, 0, 'an ended session needs no quit');
  await visitor.close();
});

test('a return address that is no web address leads nowhere else', async () => {
  const visitor = await ended({ config: { return_url: 'javascript:alert(1)' } });
  assert.equal(await visitor.card.getByRole('link', { name: 'Start new stream' }).getAttribute('href'), '/');
  await visitor.close();
});

test('the keyboard goes round inside the card, and no game key presses its buttons', async () => {
  const visitor = await ended();
  const focused = () => visitor.page.evaluate(() => {
    const { activeElement } = document.querySelector('#hydraneck').shadowRoot;
    return activeElement ? activeElement.getAttribute('role') || activeElement.textContent : 'none';
  });
  assert.equal(await focused(), 'dialog');
  await visitor.page.keyboard.press('Enter');
  await visitor.page.keyboard.press('Space');
  const order = [];
  for (let stop = 0; stop < 4; stop += 1) {
    await visitor.page.keyboard.press('Tab');
    order.push(await focused());
  }
  assert.deepEqual(order, ['slider', 'Start new stream', 'Report a problem', 'slider']);
  await visitor.page.keyboard.press('Shift+Tab');
  assert.equal(await focused(), 'Report a problem');
  await visitor.page.evaluate(() => { document.getElementById('input').tabIndex = 0; document.getElementById('input').focus(); });
  assert.equal(await focused(), 'dialog', 'the page cannot take the focus away');
  await visitor.close();
});

test('nothing that happens on our elements reaches the game or the page\'s popups', async () => {
  const visitor = await visit(set);
  await visitor.live();
  const game = () => visitor.page.evaluate(() => ({ events: window.game.events.filter((e) => e !== 'mousemove'), clicks: window.game.clicks }));
  await visitor.page.mouse.click(600, 300);
  await visitor.page.keyboard.press('KeyW');
  assert.deepEqual((await game()).events, ['mousedown', 'mouseup', 'keydown:KeyW', 'keyup:KeyW'], 'the fixture is a game');
  await visitor.page.evaluate(() => { window.game.events.length = 0; window.game.clicks = 0; });

  await visitor.page.locator('#hydraneck .tool').first().click();
  await visitor.page.locator('#hydraneck .tool').first().press('KeyA');
  visitor.session.end('deleted');
  await settled(visitor);
  await visitor.page.keyboard.press('KeyB');
  await visitor.card.getByRole('slider').click();
  await visitor.page.mouse.wheel(0, 50);
  await visitor.page.mouse.click(20, 20);
  await visitor.card.getByRole('slider').press('ArrowLeft');
  assert.deepEqual(await game(), { events: [], clicks: 0 });
  assert.deepEqual(await visitor.page.evaluate(() => window.game.errors), []);
  await visitor.close();
});

test('errors of ours stay ours', async () => {
  const visitor = await visit(set, { expects: /500|\[neck\]/, hasNoStreamer: true });
  Object.assign(visitor.session.answers, { rating: 500, stats: 500 });
  await until(() => visitor.session.listeners.size, 'the page follows the events');
  visitor.session.tell('ended', 'not an object');
  await visitor.card.waitFor();
  await visitor.card.getByRole('slider').press('End');
  await until(async () => /could not be sent/.test(await visitor.card.innerText()), 'the failure is said');
  assert.deepEqual(await visitor.page.evaluate(() => window.game.errors), []);
  await visitor.close();
});

test('the card shows in full screen and frees a locked mouse', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await visitor.page.getByRole('button', { name: 'Fullscreen' }).click();
  await until(() => visitor.page.evaluate(() => document.fullscreenElement === document.body), 'full screen');
  await visitor.page.getByRole('button', { name: 'Lock Mouse' }).click();
  await until(() => visitor.page.evaluate(() => document.pointerLockElement !== null), 'the mouse is locked');
  visitor.session.end('drained');
  await settled(visitor);
  await until(() => visitor.page.evaluate(() => document.pointerLockElement === null), 'the mouse is free');
  assert.ok(await visitor.page.evaluate(() => document.fullscreenElement.contains(document.querySelector('#hydraneck'))));
  await visitor.page.screenshot({ path: join(shots(), 'card-fullscreen.png') });
  await visitor.card.getByRole('slider').click();
  await until(() => ratings(visitor).length, 'the card works');
  await visitor.close();
});

test('the card follows an element of the page into full screen', async () => {
  const visitor = await visit(set);
  await visitor.live();
  await visitor.page.evaluate(() => window.addEventListener('keydown', () => document.getElementById('root').requestFullscreen(), { once: true, capture: true }));
  await visitor.page.keyboard.press('KeyF');
  await until(() => visitor.page.evaluate(() => document.fullscreenElement?.id === 'root'), 'full screen');
  visitor.session.end('deleted');
  await settled(visitor);
  const top = await visitor.page.evaluate(() => document.elementFromPoint(innerWidth / 2, innerHeight / 2).id);
  assert.equal(top, 'hydraneck');
  await visitor.close();
});

test('who wants no motion gets none', async () => {
  const visitor = await ended({ context: { reducedMotion: 'reduce' } });
  const moving = await visitor.card.evaluate((card) => card.getAnimations({ subtree: true }).map((a) => a.animationName));
  assert.deepEqual(moving, []);
  await visitor.close();
});

test('the browser\'s language picks the words, others get English', async () => {
  const rows = [
    ['nl-BE', 'Stream beëindigd', 'nl'], ['fr-BE', 'Flux terminé', 'fr'], ['de-DE', 'Stream beendet', 'de'],
    ['en-GB', 'Stream ended', 'en'], ['ja-JP', 'Stream ended', 'en'],
  ];
  for (const [locale, title, lang] of rows) {
    const visitor = await ended({ context: { locale } });
    assert.equal(await visitor.card.locator('h1').innerText(), title);
    assert.equal(await visitor.page.locator('#hydraneck').getAttribute('lang'), lang);
    await visitor.close();
  }
});

test('words and style that cannot be had do not stop the card', async () => {
  const visitor = await ended({ context: { locale: 'nl-BE' }, expects: /Failed to load|ERR_FAILED/, before: (page) => page.route(/_neck\/(lang|style)/, (route) => route.abort()) });
  assert.equal(await visitor.card.locator('h1').innerText(), 'Stream ended');
  await visitor.close();
});

test('a card and its dialog have names, and the text has contrast', async () => {
  const visitor = await ended();
  const dialog = visitor.page.getByRole('dialog', { name: 'Stream ended' });
  assert.equal(await dialog.count(), 1);
  assert.equal(await dialog.getAttribute('aria-modal'), 'true');
  // Against the worst ground there is: our glass over a white game.
  const ratios = await visitor.card.evaluate((card) => {
    const numbers = (text) => text.match(/[\d.]+/g).map(Number);
    const glass = numbers(getComputedStyle(card).backgroundColor);
    const ground = glass.slice(0, 3).map((c) => c * glass[3] + 255 * (1 - glass[3]));
    const light = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return [...card.querySelectorAll('h1, p, a.report')].map((element) => ratio(light(numbers(getComputedStyle(element).color).slice(0, 3)), light(ground)));
  });
  assert.ok(ratios.length >= 4);
  assert.ok(ratios.every((ratio) => ratio >= 4.5), String(ratios));
  await visitor.close();
});

test('pictures for the eye', async () => {
  const sizes = { '1280x720': { width: 1280, height: 720 }, '390x844': { width: 390, height: 844 }, '844x390': { width: 844, height: 390 } };
  for (const [name, viewport] of Object.entries(sizes)) {
    const visitor = await visit(set, { context: { viewport } });
    await visitor.live();
    await visitor.page.locator('#hydraneck .tool').first().click();
    await until(async () => /ms/.test(await visitor.page.locator('#hydraneck .line').innerText()), 'the line is there');
    await visitor.page.screenshot({ path: join(shots(), `live-${name}.png`) });
    visitor.session.end('max_duration');
    await settled(visitor);
    await visitor.card.getByRole('slider').focus();
    for (let step = 0; step < 7; step += 1) await visitor.page.keyboard.press('ArrowRight');
    await until(async () => /Thank you/.test(await visitor.card.innerText()), 'the visitor is thanked');
    await visitor.page.screenshot({ path: join(shots(), `card-${name}.png`) });
    const overflow = await visitor.card.evaluate((card) => card.scrollWidth > card.clientWidth || card.getBoundingClientRect().right > innerWidth);
    assert.equal(overflow, false);
    await visitor.close();
  }
});
