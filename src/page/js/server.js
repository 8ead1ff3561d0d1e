// Server: what the worker says of the session, by its event stream and when asked.

const ASK_TIMEOUT_MS = 4000; // an answer later than this is as good as none
const ELSEWHERE_ASK_MS = 5000; // a tab that has lost the stream to another wants to know of its end
const EVENTS_RETRY_MS = [1000, 2000, 5000, 10000]; // after an answer that EventSource gives up on

function post(path, body, options = {}) {
  return NATIVE.fetch(CONFIG.base + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
    cache: 'no-store',
    ...options,
  });
}

/** The session as the worker sees it: `{status, ...}`, `gone` when unknown, `silent` when unheard. */
async function fetchSession() {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), ASK_TIMEOUT_MS);
  try {
    const answer = await NATIVE.fetch(`${CONFIG.base}_neck/session.json`, { cache: 'no-store', signal: limit.signal });
    if (answer.status === 404 || answer.status === 410) {
      const told = await answer.json().catch(() => ({}));
      return { status: 'gone', end_reason: told.end_reason };
    }
    return answer.ok ? await answer.json() : { status: 'silent' };
  } catch {
    return { status: 'silent' };
  } finally {
    clearTimeout(timer);
  }
}

let asking = null;
/** Asks once however many ask at the same time, and lets the stream's state know. */
function askServer() {
  asking = asking || fetchSession().then((session) => {
    asking = null;
    if (session.status !== 'silent') {
      monitor.tell({ type: 'server', status: session.status, reason: session.end_reason });
    }
    return session;
  });
  return asking;
}

function parsed(event) {
  try {
    return JSON.parse(event.data) || {};
  } catch {
    return {};
  }
}

/** Follows the event stream until the session ends; `onDraining` gets the deadline. */
function followEvents(onDraining) {
  let failures = 0;
  let source = null;
  let timer = null;

  function open() {
    source = new NATIVE.EventSource(`${CONFIG.base}events`);
    listen(source, 'open', () => { failures = 0; });
    listen(source, 'ended', (event) => {
      monitor.tell({ type: 'server', status: 'ended', reason: parsed(event).end_reason });
    });
    listen(source, 'restarting', () => monitor.tell({ type: 'server', status: 'restarting' }));
    listen(source, 'draining', (event) => onDraining(parsed(event).deadline));
    listen(source, 'error', async () => {
      if (source.readyState !== NATIVE.EventSource.CLOSED) return; // it tries again by itself
      const session = await askServer();
      if (session.status === 'gone' || monitor.streamState.isTaken) return;
      timer = later(open, EVENTS_RETRY_MS[Math.min(failures, EVENTS_RETRY_MS.length - 1)]);
      failures += 1;
    });
  }
  function close() {
    clearTimeout(timer);
    if (source) source.close();
  }

  async function askNowAndThen() {
    await askServer();
    if (monitor.streamState.phase !== 'ended') timer = later(askNowAndThen, ELSEWHERE_ASK_MS);
  }

  open();
  monitor.onChange((streamState) => {
    if (streamState.phase === 'ended') close();
    else if (streamState.reason === 'elsewhere') {
      // Who does not watch is no viewer: the event stream would keep the session.
      close();
      timer = later(askNowAndThen, ELSEWHERE_ASK_MS);
    }
  });
  listen(window, 'pagehide', close);
}
