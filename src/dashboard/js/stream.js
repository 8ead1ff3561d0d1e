// The event stream (WHATWG HTML 9.2), read by hand: EventSource cannot send our proof.

/** First and longest pause before another try. */
const PAUSE_MS = 500, PAUSE_MAX_MS = 5000;
/** Silence after which the stream counts as dead: a sign of life comes every 15 s. */
const SILENCE_MS = 40000;
/** Longest line: an event has some hundred bytes. */
const LINE_MAX = 65536;

const RESTART = 'restart';
const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** Cuts a stream's text into events: `{id, name, data}`. */
function eventReader(tell) {
  let rest = '';
  let event = { name: 'message', data: [] };
  return (text) => {
    rest += text;
    const lines = rest.split('\n');
    rest = lines.pop();
    if (rest.length > LINE_MAX) throw new Error('a line without an end');
    for (const line of lines) {
      const [, field, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line);
      if (line === '') {
        if (event.data.length) tell({ id: event.id, name: event.name, data: event.data.join('\n') });
        event = { name: 'message', data: [] };
      } else if (field === 'id') event.id = value;
      else if (field === 'event') event.name = value;
      else if (field === 'data') event.data.push(value);
    }
  };
}

/**
 * Follows the events for as long as the page lives. `on.open` when the stream stands, `on.lost`
 * when it does not, `on.event` for each event. `restart()` begins at the oldest event that is kept.
 */
function follow(on) {
  let last = '0';
  let wait = PAUSE_MS;
  let cut;

  async function once() {
    cut = new AbortController();
    let watchdog = setTimeout(() => cut.abort(), ANSWER_MS);
    try {
      const answer = await fetch(`${API}/events`, { headers: fields({ 'last-event-id': last }), signal: cut.signal });
      if (answer.status === 401) return signedOut();
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      wait = PAUSE_MS;
      on.open();
      const take = eventReader((event) => {
        if (event.id) last = event.id;
        on.event(event);
      });
      const decoder = new TextDecoder();
      const reader = answer.body.getReader();
      for (;;) {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => cut.abort(), SILENCE_MS);
        const { done, value } = await reader.read();
        if (done) return undefined;
        take(decoder.decode(value, { stream: true }));
      }
    } finally {
      clearTimeout(watchdog);
      cut.abort();
    }
  }

  (async () => {
    for (;;) {
      const began = performance.now();
      try {
        await once();
        // A stream lasts a minute, then it is asked for anew; one that ends at once is in trouble.
        if (performance.now() - began < PAUSE_MAX_MS) await pause(PAUSE_MS);
      } catch {
        // Cut by `restart`, not lost.
        if (last === '0' && cut.signal.reason === RESTART) continue;
        on.lost();
        // Pages that lost the same controller do not come back all at once.
        await pause(wait * (0.75 + Math.random() / 2));
        wait = Math.min(wait * 2, PAUSE_MAX_MS);
      }
    }
  })();
  return {
    restart() {
      last = '0';
      cut.abort(RESTART);
    },
  };
}
