// The operators' page in Chromium, on the real controller: workers that exist only in their
// heartbeats for what a fleet may look like, the demo's chain for sessions that run.
// Needs the built program in NECK_BINARY (tests/run sets it).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createListener } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { session, startFleet, TOKEN } from './fixture/fleet.mjs';
import { launch, never, shots, until } from './harness.mjs';

let fleet, browser;
before(async () => {
  assert.ok(process.env.NECK_BINARY && existsSync(process.env.NECK_BINARY), 'set NECK_BINARY to the built program');
  [fleet, browser] = await Promise.all([startFleet(), launch()]);
});
after(async () => { await browser?.close(); await fleet?.close(); });

/** A page with no cookie. `errors` collects what the console should not have. */
async function visit(options = {}, url = `${fleet.origin}/admin`) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on('console', (m) => { if (m.type() === 'error') errors.push(m.text()); });
  page.on('pageerror', (e) => errors.push(String(e)));
  await page.goto(url);
  return { page, context, errors };
}

const link = (page) => page.locator('#link-text').innerText();
const isLive = (page) => until(async () => (await link(page)) === 'Live', 'the page is live', 15000);

async function enter(page, token) {
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

async function signedIn(options, url, token = TOKEN) {
  const visitor = await visit(options, url);
  await enter(visitor.page, token);
  await isLive(visitor.page);
  return visitor;
}

const row = (page, text) => page.getByRole('row').filter({ hasText: text });

test('the token is asked for once, becomes a cookie out of reach, and ends with "Sign out"', async () => {
  const { page, context, errors } = await visit();
  await enter(page, 'not-the-token');
  await page.getByRole('alert').filter({ hasText: 'This is not the token.' }).waitFor();
  assert.deepEqual(await context.cookies(), []);
  await page.screenshot({ path: join(shots(), 'dashboard-signin.png') });
  await enter(page, TOKEN);
  await isLive(page);
  const [cookie, ...others] = await context.cookies();
  assert.deepEqual(others, []);
  assert.equal(cookie.path, '/admin');
  assert.ok(cookie.httpOnly && cookie.sameSite === 'Strict' && !cookie.value.includes(TOKEN));
  const hours = (cookie.expires - Date.now() / 1000) / 3600;
  assert.ok(hours > 11.9 && hours < 12.1, `${hours} hours`);
  assert.equal(await page.evaluate(() => document.cookie), '');
  assert.equal(await page.locator('meta[name=neck-proof]').count(), 0, 'the proof lies nowhere in the document');
  await page.reload();
  await isLive(page);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').waitFor();
  assert.deepEqual(await context.cookies(), []);
  // A copy of the cookie is worthless from now on.
  await context.addCookies([cookie]);
  await page.goto(`${fleet.origin}/admin`);
  await page.getByLabel('Token').waitFor();
  assert.deepEqual(errors.filter((e) => !/401/.test(e)), []);
  await context.close();
});

test('no other page gets through the door, not even one of the same origin', async () => {
  // A worker whose stream program is hostile: its page has our origin, through the controller.
  const tried = [];
  const evil = createServer((request, response) => {
    response.setHeader('service-worker-allowed', '/');
    if (request.url.endsWith('.js')) response.setHeader('content-type', 'text/javascript');
    else response.setHeader('content-type', 'text/html');
    response.end(request.url.endsWith('.js') ? '/* a worker */' : '<!DOCTYPE html><title>stream</title>');
    tried.push(request.headers.cookie ?? '');
  });
  await new Promise((done) => { evil.listen(0, '127.0.0.1', done); });
  const theirs = `http://127.0.0.1:${evil.address().port}`;
  const victim = session();
  await fleet.worker('hostile', { url: theirs, sessions: [victim] });
  const { page, context } = await signedIn();
  const drained = async () => (await (await fleet.call('GET', '/api/v1/workers')).json()).find((w) => w.worker_id === 'hostile').status === 'draining';

  // The stream program's page, on our origin. The browser does send the cookie below /admin.
  const inside = await context.newPage();
  await inside.goto(`${fleet.origin}/session/${victim.id}/page.html`);
  const found = await inside.evaluate(async () => {
    const json = { 'content-type': 'application/json' };
    const status = (path, options) => fetch(path, options).then((answer) => answer.status);
    const text = await fetch('/admin', { referrer: `${location.origin}/admin` }).then((answer) => answer.text());
    const frame = document.createElement('iframe');
    const framed = new Promise((done) => { frame.onload = done; setTimeout(done, 2000); });
    frame.src = '/admin';
    document.body.append(frame);
    await framed;
    let inner = null;
    try { inner = frame.contentDocument?.documentElement.outerHTML ?? null; } catch { /* closed to us: as it should be */ }
    const worker = await navigator.serviceWorker.register(`${location.pathname.replace('page.html', 'w.js')}`, { scope: '/admin' }).then(() => 'registered', () => 'refused');
    return {
      cookie: document.cookie, text, inner, worker,
      board: await status('/admin/api/v1/board'),
      sessions: await status('/admin/api/v1/sessions'),
      events: await status('/admin/api/v1/events'),
      drain: await status('/admin/api/v1/workers/hostile/drain', { method: 'POST', headers: json, body: '{}' }),
      forged: await status('/admin/api/v1/workers/hostile/drain', { method: 'POST', headers: { ...json, 'x-neck-proof': 'AAAA' }, body: '{}' }),
      end: await status('/admin/api/session', { method: 'DELETE' }),
    };
  });
  assert.deepEqual(
    { ...found, text: found.text.includes('neck-proof'), inner: found.inner?.includes('neck-proof') ?? false },
    { cookie: '', text: false, inner: false, worker: 'refused', board: 403, sessions: 403, events: 403, drain: 403, forged: 403, end: 403 },
  );
  // A window of it is cut loose: its opener finds it closed, whatever it shows.
  const popup = context.waitForEvent('page');
  await inside.evaluate(() => { window.opened = window.open('/admin'); });
  const shown = await popup;
  await isLive(shown);
  assert.equal(await inside.evaluate(() => {
    try { return window.opened.closed ? 'closed' : window.opened.document.title; } catch { return 'refused'; }
  }), 'closed');
  assert.equal(await shown.evaluate(() => window.opener), null);
  assert.ok(tried.every((cookies) => !cookies.includes('neck_admin')), `the worker saw ${tried}`);

  // Another port is another origin, but the same site: the strict cookie comes along.
  const outside = await context.newPage();
  await outside.goto(`${theirs}/page.html`);
  await outside.evaluate(async (target) => {
    const tries = [{}, { mode: 'no-cors' }, { headers: { 'content-type': 'application/json' } }];
    for (const options of tries) await fetch(target, { method: 'POST', credentials: 'include', body: '{}', ...options }).catch(() => {});
    const frame = document.createElement('iframe');
    frame.name = 'out';
    const form = document.createElement('form');
    Object.assign(form, { method: 'POST', action: target, enctype: 'text/plain', target: 'out' });
    document.body.append(frame, form);
    form.submit();
  }, `${fleet.origin}/admin/api/v1/workers/hostile/drain`);
  await never(drained, 'the worker is drained by a stranger', 500);
  const refused = fleet.audit().filter((line) => line.path.endsWith('/hostile/drain'));
  assert.ok(refused.length >= 4 && refused.every((line) => line.who === 'nobody'), JSON.stringify(refused));
  assert.equal(await link(page), 'Live', 'the operator is still signed in');
  await context.close();
  await fleet.worker('hostile', { sessions: [] });
  fleet.workers.delete('hostile');
  evil.closeAllConnections();
  evil.close();
});

test('the fleet is shown as it changes, and a worker is drained and undrained', async () => {
  const visitors = [session({ experience: 'Cathedral', body_ip: '10.0.1.51', stats: { rtt_ms: 12.4, ice_candidate_type: 'relay' }, mic: true }), session({ experience: 'Reef', body_ip: '10.0.1.52', stats: { rtt_ms: 181, ice_candidate_type: 'host' } })];
  await fleet.worker('alpha', { sessions: visitors, max_sessions: 4 });
  await fleet.worker('beta', { district: 'ams2', wireguard: false });
  const { page, context, errors } = await signedIn();
  const alpha = row(page, 'alpha').filter({ has: page.getByRole('meter') });
  await alpha.getByRole('meter', { name: 'Load' }).waitFor();
  assert.equal(await alpha.getByRole('meter').getAttribute('aria-valuetext'), '2 of 4');
  assert.match(await row(page, 'Cathedral').innerText(), /Connected[^]*10\.0\.1\.51[^]*alpha[^]*12 ms[^]*relay[^]*1[^]*mic/);
  await page.getByText('Worker beta has no WireGuard interface').waitFor();
  await page.getByText('Degraded').waitFor();

  // What happens is told, and seen, without anybody asking.
  const events = page.getByRole('log').getByRole('listitem');
  const newcomer = session({ experience: 'Newcomer', status: 'ready', viewers: 0 });
  await fleet.worker('alpha', { sessions: [...visitors, newcomer] });
  await row(page, 'Newcomer').waitFor({ timeout: 5000 });
  await events.filter({ hasText: 'Session created' }).filter({ hasText: newcomer.id.slice(0, 8) }).waitFor();
  await page.getByRole('button', { name: 'Pause' }).click();
  await fleet.worker('alpha', { sessions: [...visitors, { ...newcomer, status: 'ended', end_reason: 'quit' }] });
  await row(page, 'Newcomer').waitFor({ state: 'detached' });
  await page.getByText(/paused, \d+ new/).waitFor();
  assert.equal(await events.filter({ hasText: 'Session ended' }).filter({ hasText: newcomer.id.slice(0, 8) }).count(), 0);
  await page.getByRole('button', { name: 'Resume' }).click();
  await events.filter({ hasText: 'the visitor left' }).filter({ hasText: newcomer.id.slice(0, 8) }).waitFor();

  // Sorting and filtering, by keyboard.
  const names = () => page.locator('#sessions tbody tr .name').allInnerTexts();
  await page.locator('#sessions').getByRole('button', { name: 'RTT' }).press('Enter');
  await until(async () => (await names()).join() === 'Cathedral,Reef', 'the nearest first');
  await page.locator('#sessions').getByRole('button', { name: 'RTT' }).press('Enter');
  await until(async () => (await names()).join() === 'Reef,Cathedral', 'the farthest first');
  assert.equal(await page.getByRole('columnheader', { name: 'RTT' }).getAttribute('aria-sort'), 'descending');
  await page.getByRole('searchbox', { name: /Filter sessions/ }).fill('1.51');
  await until(async () => (await names()).join() === 'Cathedral', 'the one on that body');
  await page.getByRole('searchbox', { name: /Filter sessions/ }).fill('nothing like it');
  await page.getByText('Nothing matches the filter.').waitFor();
  await page.getByRole('searchbox', { name: /Filter sessions/ }).fill('');

  await page.getByRole('button', { name: 'Drain worker alpha' }).click();
  const dialog = page.getByRole('dialog', { name: 'Drain worker' });
  assert.match(await dialog.innerText(), /alpha takes no new sessions[^]*2 sessions on it go on/);
  await dialog.getByLabel('Its sessions end').selectOption('other');
  await dialog.getByLabel('Time').fill('soon');
  await dialog.getByRole('button', { name: 'Drain' }).click();
  await dialog.getByRole('alert').filter({ hasText: 'deadline' }).waitFor();
  await dialog.getByLabel('Time').fill('45m');
  await dialog.getByRole('button', { name: 'Drain' }).click();
  await dialog.waitFor({ state: 'detached' });
  await page.getByRole('status').filter({ hasText: 'Worker alpha drains.' }).waitFor();
  await until(async () => /Draining\s+ends \d\d:\d\d/.test(await alpha.innerText()), 'it drains');
  await page.getByRole('button', { name: 'Undrain worker alpha' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Undrain' }).click();
  await until(async () => /Healthy/.test(await alpha.innerText()), 'it takes sessions again');
  const audited = fleet.audit().filter((line) => line.path.includes('/alpha/') && line.result === 'ok');
  assert.deepEqual(audited.map((line) => [line.who, line.method]), [['admin_token via cookie', 'POST'], ['admin_token via cookie', 'DELETE']]);
  assert.deepEqual(errors.filter((e) => !/400/.test(e)), []);
  await context.close();
});

test('a session is created, looked at and ended, on a chain that runs', async () => {
  const child = spawn(process.env.NECK_BINARY, ['demo', '--json', '--port', '0'], { stdio: ['ignore', 'pipe', 'ignore'] });
  let out = '';
  child.stdout.on('data', (data) => { out += data; });
  try {
    const demo = await until(() => out.includes('\n') && JSON.parse(out), 'the demo says where it is', 60000);
    const { page, context } = await signedIn({}, `${demo.controller_url}/admin`, demo.token);
    await row(page, 'Test card').waitFor();
    await page.getByRole('button', { name: 'New session' }).click();
    const form = page.getByRole('dialog', { name: 'New session' });
    await form.getByLabel('Body address').fill('203.0.113.9');
    await form.getByRole('button', { name: 'Create session' }).click();
    await form.getByRole('alert').filter({ hasText: 'body_ip' }).waitFor();
    await form.getByLabel('Body address').fill(demo.body_ip);
    await form.getByLabel('Experience').fill('Made by hand');
    await form.getByText('More', { exact: true }).click();
    await form.getByLabel('Answer when the stream is ready').check();
    await form.getByRole('button', { name: 'Create session' }).click();
    await form.getByRole('alert').filter({ hasText: 'A session has this body.' }).waitFor();
    await form.getByLabel(/^End session [0-9a-f]{8} \(\w+\) on demo-worker first$/).check();
    await form.getByRole('button', { name: 'Create session' }).click();
    const made = page.getByRole('dialog', { name: 'Session created' });
    await made.waitFor({ timeout: 30000 });
    const address = await made.getByLabel('Stream address').inputValue();
    assert.equal(await made.getByRole('link', { name: 'Open' }).getAttribute('href'), address);
    assert.equal((await fetch(address)).status, 200);
    await made.getByRole('button', { name: 'Done' }).click();
    const [id] = /[0-9a-f]{32}/.exec(address);
    await row(page, 'Made by hand').waitFor();
    await page.getByRole('button', { name: `Details of session ${id.slice(0, 8)}` }).click();
    const facts = page.getByRole('dialog', { name: 'Made by hand' });
    await facts.getByText(id, { exact: true }).waitFor();
    assert.equal(await facts.getByLabel(/Stream address/).inputValue(), address);
    await facts.getByRole('button', { name: 'End session' }).click();
    const sure = page.getByRole('dialog', { name: 'End session' });
    assert.match(await sure.innerText(), /Made by hand on demo-worker/);
    await sure.getByRole('button', { name: 'End session' }).click();
    await row(page, 'Made by hand').waitFor({ state: 'detached', timeout: 20000 });
    // The row may go before the answer to its end is here.
    await until(async () => (await page.getByRole('dialog').count()) === 0, 'both dialogs are closed', 20000);
    const look = () => fetch(`${demo.controller_url}/api/v1/sessions/${id}`, { headers: { authorization: `Bearer ${demo.token}` } });
    await until(async () => (await look()).status === 404, 'its body is left, too', 20000);
    await context.close();
  } finally {
    child.kill('SIGINT');
    await until(() => child.exitCode !== null || child.signalCode !== null, 'the demo ends', 30000);
  }
});

test('words of the fleet are never markup, and turn nothing round', async () => {
  const words = [
    '<img src=x onerror="window.hit=1">', '"><script>window.hit=1</script>', "'; window.hit=1; //", '</td></tr></table><h1>gone</h1>',
    '\u202Egnirts \u2066deppilf', 'شمس <b>', '{{7*7}}${7*7}', 'x'.repeat(900), 'Z̷̨̛a̸l̵g̶o̴'.repeat(20),
  ];
  // Names and addresses of workers that are no such are refused; what their sessions say is free text.
  await fleet.worker('stranger', {
    max_sessions: 20,
    sessions: words.map((experience) => session({ experience, district: experience, stream_path: '/session/x', detail: experience, stats: { ice_candidate_type: '<u>', rtt_ms: 5 } })),
  });
  const { page, context, errors } = await signedIn();
  await page.getByRole('searchbox', { name: /Filter sessions/ }).fill('stranger');
  await until(async () => (await page.locator('#sessions tbody tr').count()) === words.length, 'all sessions of that worker');
  const shown = await page.locator('#sessions tbody tr .name').allTextContents();
  assert.deepEqual(shown.toSorted(), words.toSorted());
  await page.getByRole('button', { name: /^Details of session .*onerror/ }).click();
  const facts = page.getByRole('dialog');
  await facts.getByText(words[0]).first().waitFor();
  const links = await facts.getByRole('link').evaluateAll((all) => all.map((link) => link.href));
  assert.ok(links.every((href) => /^https?:\/\/127\.0\.0\.1[:/]/.test(href)), `nothing that a session says becomes an address: ${links}`);
  await page.keyboard.press('Escape');
  const seen = await page.evaluate(() => ({
    hit: window.hit, foreign: document.querySelectorAll('main img, main script, main svg, main i, td h1, td u').length,
    isBdi: [...document.querySelectorAll('#sessions tbody .name')].every((node) => node.tagName === 'BDI'),
    overflow: document.documentElement.scrollWidth > innerWidth,
    trusted: (() => { try { document.createElement('p').innerHTML = '<b>x</b>'; return 'taken'; } catch { return 'refused'; } })(),
  }));
  assert.deepEqual(seen, { hit: undefined, foreign: 0, isBdi: true, overflow: false, trusted: 'refused' });
  await page.setViewportSize({ width: 360, height: 700 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
  assert.deepEqual(errors.filter((e) => !/TrustedHTML|404/.test(e)), []);
  await context.close();
  await fleet.worker('stranger', { sessions: [] });
  fleet.workers.delete('stranger');
});

test('ten thousand sessions are fifty rows, and the page answers at once', async () => {
  const many = (w) => Array.from({ length: 1000 }, (_, n) => session({ experience: `E${w}-${n}`, created_at: new Date(Date.now() - 86400000 + (w * 1000 + n) * 1000).toISOString() }));
  const giants = Array.from({ length: 10 }, (_, w) => `giant-${w}`);
  for (const [w, id] of giants.entries()) await fleet.worker(id, { sessions: many(w), max_sessions: 1000, isSilent: true });
  const { page, context, errors } = await signedIn();
  await page.getByText(/^Page 1 of 2\d\d$/).waitFor();
  assert.equal(await page.locator('#sessions tbody tr').count(), 50);
  assert.ok(await page.locator('*').count() < 6000, 'the document stays small');
  await page.locator('#sessions').getByRole('button', { name: 'Next' }).click();
  await page.getByText(/^Page 2 of/).waitFor();
  await page.getByRole('searchbox', { name: /Filter sessions/ }).fill('E7-77');
  await until(async () => (await page.locator('#sessions tbody tr').count()) === 11, 'E7-77 and E7-770 to E7-779');
  await context.close();
  assert.deepEqual(errors, []);
  // They are heard no more; the next controller will not know them.
  for (const id of giants) fleet.workers.delete(id);
});

test('a phone, the dark, and who wants no motion', async () => {
  await fleet.worker('alpha', { sessions: [session({ experience: 'Cathedral' })] });
  const ground = (page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const phone = { viewport: { width: 360, height: 780 }, hasTouch: true, isMobile: true };
  const { page, context, errors } = await signedIn({ ...phone, colorScheme: 'dark', reducedMotion: 'reduce' });
  const dark = await ground(page);
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  assert.notEqual(await ground(page), dark);
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    // Every text against what it stands on.
    const poor = await page.evaluate(() => {
      const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
      const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
      const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
      const groundOf = (node) => { for (let n = node; n; n = n.parentElement) { const c = rgba(getComputedStyle(n).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
      const texts = [...document.body.querySelectorAll('*')].filter((n) => n.checkVisibility() && !n.disabled && [...n.childNodes].some((c) => c.nodeType === 3 && c.data.trim()));
      return texts.map((n) => { const [a, b] = [light(rgba(getComputedStyle(n).color)), light(groundOf(n))]; return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), n.outerHTML.slice(0, 90)]; }).filter(([ratio]) => ratio < 4.5);
    });
    assert.deepEqual(poor, [], scheme);
  }
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.equal(await wide(), false);
  await page.getByRole('button', { name: 'New session' }).tap();
  assert.equal(await wide(), false);
  await page.keyboard.press('Escape');
  const small = await page.evaluate(() => [...document.querySelectorAll('main button, header button')].filter((b) => b.checkVisibility() && !b.matches('.plain, .sort')).map((b) => b.getBoundingClientRect().height).filter((h) => h < 36));
  assert.deepEqual(small, [], 'big enough for a finger');
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  assert.equal(await page.getByRole('row').filter({ hasText: 'Cathedral' }).getByRole('cell').count(), 9, 'cards are rows to who listens');
  await page.screenshot({ path: join(shots(), 'dashboard-phone.png') });
  assert.deepEqual(errors, []);
  await context.close();
});

test('a cut is told and made up for: what happened meanwhile comes once', async () => {
  // A way to the controller that can be cut.
  const open = new Set();
  let isCut = false;
  const { port } = new URL(fleet.origin);
  const detour = createListener((near) => {
    if (isCut) { near.destroy(); return; }
    const far = connect(Number(port), '127.0.0.1');
    for (const [from, to] of [[near, far], [far, near]]) { from.pipe(to); from.on('error', () => to.destroy()).on('close', () => to.destroy()); open.add(from); }
  });
  await new Promise((done) => { detour.listen(0, '127.0.0.1', done); });
  const { page, context } = await signedIn({}, `http://127.0.0.1:${detour.address().port}/admin`);
  await row(page, 'alpha').first().waitFor();
  isCut = true;
  for (const socket of open) socket.destroy();
  await page.getByRole('alert').filter({ hasText: 'The controller does not answer.' }).waitFor();
  assert.equal(await link(page), 'Away');
  const late = session({ experience: 'While away' });
  await fleet.worker('alpha', { sessions: [late] });
  isCut = false;
  await isLive(page);
  await row(page, 'While away').waitFor();
  const told = page.getByRole('log').getByRole('listitem').filter({ hasText: 'Session created' }).filter({ hasText: late.id.slice(0, 8) });
  await told.waitFor();
  assert.equal(await told.count(), 1);
  assert.equal(await page.getByText('Some events were missed').count(), 0);
  await context.close();
  detour.close();
});

test('a controller that is killed is missed, and its successor found, without signing in again', async () => {
  const { page, context } = await signedIn();
  await row(page, 'alpha').first().waitFor();
  await fleet.kill();
  await until(async () => (await link(page)) === 'Away', 'the loss is seen');
  await page.screenshot({ path: join(shots(), 'dashboard-away.png') });
  await page.getByRole('button', { name: 'Drain worker alpha' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Drain' }).click();
  await page.getByRole('dialog').getByRole('alert').filter({ hasText: 'The controller does not answer.' }).waitFor();
  await page.keyboard.press('Escape');
  await fleet.start();
  await isLive(page);
  await page.getByRole('log').getByText(/The controller was restarted/).waitFor();
  await row(page, 'alpha').first().waitFor();
  assert.equal(await page.locator('#away').isVisible(), false);
  await context.close();
});
