// Elements. Whatever comes from the fleet is put into text, never into markup.

/**
 * An element. `properties` are attributes, but for `on` (listeners by event); `children` are nodes
 * and texts.
 */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'on') {
      for (const [event, act] of Object.entries(value)) listen(element, event, act);
    } else if (value === true) {
      element.setAttribute(name, '');
    } else if (value !== false && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** Text of the fleet: names may run right to left, and must not turn round what follows. */
const foreign = (text = '') => el('bdi', {}, text);

/** A listener whose errors, now or later, end in the console and nowhere else. */
function listen(target, event, act) {
  target.addEventListener(event, (happened) => {
    Promise.resolve().then(() => act(happened)).catch((error) => console.error('[neck]', error));
  });
}

/** As `listen`, at once, for what must be said before the event is over. */
function listenNow(target, event, act) {
  target.addEventListener(event, act);
}

const byId = (id) => document.getElementById(id);

/** Writes only what changed: readers and selections are left in peace. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, value) {
  if (value === undefined || value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function show(node, is) {
  if (node.hidden === Boolean(is)) node.hidden = !is;
}

/** A badge: a dot in the state's colour, and the word. */
function badge() {
  const word = el('span');
  const node = el('span', { class: 'badge' }, el('span', { class: 'dot', 'aria-hidden': 'true' }), word);
  return {
    node,
    show(state, text) {
      mark(node, 'data-state', state);
      write(word, text);
    },
  };
}

/** A bar that is full at 1, and the numbers beside it. */
function bar(label, words = (whole, part) => `${number(part)} of ${number(whole)}`) {
  const fill = el('span', { class: 'fill' });
  const track = el('span', { class: 'track', role: 'meter', 'aria-label': label, 'aria-valuemin': '0' }, fill);
  const text = el('span', { class: 'of' });
  const node = el('span', { class: 'bar' }, track, text);
  return {
    node,
    show(part, whole) {
      const share = whole > 0 ? Math.min(part / whole, 1) : (part > 0 ? 1 : 0);
      fill.style.width = `${share * 100}%`;
      mark(track, 'data-level', share >= 1 ? 'full' : share >= 0.8 ? 'high' : 'fine');
      mark(track, 'aria-valuenow', part);
      mark(track, 'aria-valuemax', Math.max(whole, part));
      mark(track, 'aria-valuetext', `${part} of ${whole}`);
      write(text, words(whole, part));
    },
  };
}

let saidTimer;
/** Says how something went: on screen for a while, and to who listens. */
function say(text) {
  const said = byId('said');
  write(said, '');
  write(said, text);
  mark(said, 'data-shown', 'yes');
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => mark(said, 'data-shown', undefined), 6000);
}
