// What happens, as it happens.

/** Events that are listed; more would only make the page slow. */
const FEED_MAX = 200;
/** Time in which events are gathered before they are shown. */
const GATHER_MS = 150;

const feed = (() => {
  let isPaused = false;
  let waiting = [];
  let skipped = 0;
  let timer;
  const list = el('ol', { class: 'events' });
  // Not read out as it comes, which would be without end; scrolled and read by who wants to.
  const log = el('div', { class: 'log', role: 'log', tabindex: '0', 'aria-live': 'off', 'aria-labelledby': 'events-title', hidden: true }, list);
  const empty = el('div', { class: 'empty' }, 'Nothing has happened yet.');
  const button = el('button', { type: 'button', class: 'button small', 'aria-pressed': 'false', on: { click: toggle } }, 'Pause');
  const held = el('span', { class: 'soft small' });
  byId('events').append(
    el('div', { class: 'panel-head' }, el('h2', { id: 'events-title' }, 'Events'), held, el('div', { class: 'tools' }, button)),
    log, empty,
  );

  function toggle() {
    isPaused = !isPaused;
    mark(button, 'aria-pressed', isPaused);
    write(button, isPaused ? 'Resume' : 'Pause');
    flush();
  }

  function flush() {
    timer = undefined;
    write(held, isPaused ? `paused${waiting.length ? `, ${number(waiting.length + skipped)} new` : ''}` : '');
    if (isPaused || !waiting.length) return;
    if (skipped) waiting.unshift(noteItem(`${plural(skipped, 'event')} not shown`, 'warn'));
    list.prepend(...waiting.reverse());
    waiting = [];
    skipped = 0;
    while (list.children.length > FEED_MAX) list.lastChild.remove();
    show(empty, false);
    show(log, true);
  }

  function put(item) {
    waiting.push(item);
    if (waiting.length > FEED_MAX) {
      waiting.shift();
      skipped += 1;
    }
    timer ??= setTimeout(flush, GATHER_MS);
  }

  function item(mood, at, ...inner) {
    return el('li', { 'data-mood': mood },
      el('time', { datetime: at, title: at }, clockTime(at)), el('div', { class: 'stack' }, ...inner));
  }

  const noteItem = (text, mood) => item(mood, new Date().toISOString(), el('span', { class: 'name' }, text));

  return {
    /** One event of the controller. */
    event({ name, data }) {
      let told;
      try {
        told = JSON.parse(data);
      } catch {
        return;
      }
      const reason = told.end_reason && (END_WORDS[told.end_reason] ?? told.end_reason);
      const whose = [told.session_id && shortId(told.session_id), told.worker_id].filter(Boolean).join(' on ');
      put(item(EVENT_MOODS[name], told.timestamp ?? '',
        el('span', {}, el('span', { class: 'name' }, foreign(EVENT_WORDS[name] ?? name)), ...(reason ? [': ', foreign(reason)] : [])),
        el('span', { class: 'small soft cut' }, foreign(whose))));
    },
    /** Something that this page noticed. */
    note: (text, mood = 'warn') => put(noteItem(text, mood)),
  };
})();
