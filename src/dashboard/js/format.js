// Formats words and numbers for people.

const NONE = '–';

const EVENT_WORDS = {
  session_connected: 'Visitor connected',
  session_created: 'Session created',
  session_ended: 'Session ended',
  session_found: 'Session found again',
  session_lingering: 'Visitor left', session_taken_over: 'Body taken over',
  session_lost: 'Session lost with its worker',
  session_ready: 'Session ready',
  worker_down: 'Worker silent',
  worker_draining: 'Worker draining',
  worker_up: 'Worker up',
  worker_undrained: 'Worker takes sessions again',
};

const EVENT_MOODS = {
  session_connected: 'good', session_ready: 'good', worker_up: 'good', worker_undrained: 'good',
  session_lingering: 'warn', worker_draining: 'warn', session_lost: 'bad', worker_down: 'bad',
};

const END_WORDS = {
  deleted: 'ended by an operator', disconnected: 'the visitor did not come back',
  drained: 'drain deadline', max_duration: 'longest time reached', never_connected: 'nobody came',
  process_exited: 'stream process died', quit: 'the visitor left', start_failed: 'could not start',
  worker_shutdown: 'worker stopped', taken_over: 'body taken over',
};

const STATUS_WORDS = {
  starting: 'Starting', ready: 'Ready', connected: 'Connected', lingering: 'Lingering', ending: 'Ending',
  healthy: 'Healthy', draining: 'Draining', unhealthy: 'Silent',
};

const CAPITAL = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const statusWord = (status) => STATUS_WORDS[status] ?? String(status);
const shortId = (id) => String(id).slice(0, 8);
const number = (value) => Number(value).toLocaleString('en');
const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** `8 s`, `12 min`, `3 h 5 min`, `2 d 4 h`. */
function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (!Number.isFinite(s)) return NONE;
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

const isTime = (at) => Number.isFinite(Date.parse(at));
/** Local time of day, with the date when that is another one. */
function clockTime(at) {
  if (!isTime(at)) return NONE;
  const date = new Date(at);
  const time = date.toLocaleTimeString('en-GB');
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString('en-CA')} ${time}`;
}

/** A sentence of the controller, its times as clocks here show them. */
const withLocalTimes = (text) => text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, clockTime);

const millis = (value) => (Number.isFinite(value) ? `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` : NONE);

/** Only http and https lead anywhere. */
function webAddress(text) {
  try {
    const url = new URL(text, location.origin);
    return ['http:', 'https:'].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}
