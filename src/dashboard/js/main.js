// Puts it together: what is asked for, when, and what is said when nobody answers.

/** Time between two looks at the fleet when nothing happens: a heartbeat brings new numbers. */
const LOOK_MS = 5000;
/** Least time between two looks, however much happens. */
const LOOK_MIN_MS = 1000;
/** Longest of the browser's timers. */
const TIMER_MAX_MS = 2147483647;

const wishes = {
  worker: { filter: '', order: 'name', page: 0 },
  session: { filter: '', order: 'age', page: 0, status: '' },
};
let board, boardAt, processId, lostAt;
let isLooking = false, isWanted = false, lookedAt = 0, lookTimer;

/** Seconds since `at` by the controller's clock. */
function ageOf(at) {
  const now = board ? Date.parse(board.now) + (lostAt ? 0 : performance.now() - boardAt) : Date.now();
  return (now - Date.parse(at)) / 1000;
}

const workers = workersPanel((wish) => { Object.assign(wishes.worker, wish); look(); });
const sessions = sessionsPanel((wish) => { Object.assign(wishes.session, wish); look(); });

function question() {
  const asked = new URLSearchParams();
  for (const [table, wish] of Object.entries(wishes)) {
    for (const [name, value] of Object.entries(wish)) if (value !== '') asked.set(`${table}_${name}`, value);
  }
  return asked;
}

/** Looks at the fleet now, or as soon as the look under way is over. */
async function look() {
  clearTimeout(lookTimer);
  if (isLooking) {
    isWanted = true;
    return;
  }
  isLooking = true;
  isWanted = false;
  lookedAt = performance.now();
  try {
    const answer = await call('GET', `/board?${question()}`);
    if (answer.ok) {
      setLink('live');
      showBoard(answer.data);
      await refreshDetails();
    } else if (answer.status !== 401) {
      setLink('away');
    }
  } finally {
    isLooking = false;
    clearTimeout(lookTimer);
    lookTimer = setTimeout(() => { if (!document.hidden) look(); }, isWanted ? 0 : LOOK_MS);
  }
}

/** Something has happened: look again, but not more often than people can read. */
function refreshSoon() {
  if (isLooking) {
    isWanted = true;
    return;
  }
  const due = Math.max(0, lookedAt + LOOK_MIN_MS - performance.now());
  clearTimeout(lookTimer);
  lookTimer = setTimeout(() => { if (!document.hidden) look(); }, due);
}

function showBoard(next) {
  board = next;
  boardAt = performance.now();
  const { process_id: now } = board.health.extra;
  if (processId && processId !== now) {
    feed.note('The controller was restarted');
    stream.restart();
  }
  processId = now;
  summary.show(board);
  workers.show(board.workers, el('div', {}, el('strong', {}, 'No worker yet'),
    el('p', {}, 'Start one whose configuration names this controller: ', el('code', {}, `controller: { url: ${location.origin}, token: … }`))));
  sessions.show(board.sessions, el('div', {}, el('strong', {}, 'No session'), el('p', {}, 'Create one here, or let the head service do so.')));
}

function setLink(state) {
  const link = byId('link');
  if (link.dataset.state === state) return;
  const wasAway = link.dataset.state === 'away';
  link.dataset.state = state;
  write(byId('link-text'), { live: 'Live', away: 'Away', connecting: 'Connecting' }[state]);
  document.body.classList.toggle('stale', state === 'away');
  const banner = byId('away');
  if (state === 'away') {
    lostAt = Date.now();
    const seen = boardAt !== undefined && lostAt - (performance.now() - boardAt);
    const since = seen ? ` What you see is from ${clockTime(new Date(seen).toISOString())}.` : '';
    write(banner, `The controller does not answer.${since} Trying again until it does.`);
    feed.note('The controller does not answer', 'bad');
  } else {
    lostAt = undefined;
    if (wasAway) {
      feed.note('The controller answers again', 'good');
      say('The controller answers again.');
    }
  }
  show(banner, state === 'away');
}

let opened = 0;
const stream = follow({
  open() {
    opened += 1;
    look();
  },
  lost: () => look(),
  event(event) {
    if (event.name === 'missed') {
      // At the first opening that only means that history is longer than what is kept.
      if (opened > 1) feed.note('Some events were missed');
    } else {
      feed.event(event);
    }
    refreshSoon();
  },
});

listen(byId('create'), 'click', createDialog);
listen(byId('signout'), 'click', async () => {
  await fetch('/admin/api/session', { method: 'DELETE', headers: fields() });
  location.replace('/admin');
});
listen(document, 'visibilitychange', () => { if (!document.hidden) look(); });
setInterval(() => {
  if (document.hidden || lostAt) return;
  workers.tick();
  sessions.tick();
}, 1000);
// The pass runs out at a known time: the next call would be refused anyway.
const left = Date.parse(document.querySelector('meta[name=neck-until]').content) - Date.now();
if (left > 0 && left < TIMER_MAX_MS) setTimeout(signedOut, left + 1000);
show(byId('plain'), !window.isSecureContext);
look();
