// Elements: our corner of the page. Everything lives in one shadow root on top of the page; what
// happens inside never reaches the game, and while a card is open nothing else does either.

const GUEST_EVENTS = [
  'click', 'dblclick', 'auxclick', 'contextmenu', 'wheel',
  'mousedown', 'mouseup', 'mousemove',
  'pointerdown', 'pointerup', 'pointermove', 'pointercancel',
  'touchstart', 'touchmove', 'touchend', 'touchcancel',
  'keydown', 'keyup', 'keypress', 'beforeinput', 'input', 'paste', 'copy', 'cut',
];
const SVG = 'http://www.w3.org/2000/svg';

/** `make('button.primary', {type: 'button', onclick: act}, 'words', child)` */
function make(selector, properties = {}, ...children) {
  const [name, ...classes] = selector.split('.');
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(' ');
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith('on')) listen(element, key.slice(2), value);
    else if (key in element && !key.startsWith('aria')) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function icon(...paths) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  for (const d of paths) {
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}

const root = (() => {
  const host = document.createElement('div');
  host.id = 'hydraneck';
  const shadow = host.attachShadow({ mode: 'open' });
  const ours = { host, shadow, isModal: false };
  host.hidden = true; // until there is style: unstyled words on a game are worse than none for a moment

  function mount() {
    const full = document.fullscreenElement;
    // Only what is inside the full-screen element is seen; a bare video can hold nothing.
    const parent = full && full !== document.documentElement && !(full instanceof HTMLMediaElement) ? full : document.body;
    if (host.parentNode !== parent) parent.append(host);
  }
  ours.begin = () => {
    const style = make('link', { rel: 'stylesheet', href: `${CONFIG.base}_neck/style.css` });
    const show = () => { host.hidden = false; };
    listen(style, 'load', show);
    listen(style, 'error', show);
    shadow.append(style);
    host.lang = language;
    mount();
    listen(document, 'fullscreenchange', mount);
    for (const type of GUEST_EVENTS) host.addEventListener(type, (event) => event.stopPropagation());
  };
  ours.add = (...elements) => shadow.append(...elements);

  // A card is up: the page underneath gets no input, so that keys reach our buttons only.
  const shield = (event) => {
    if (ours.isModal && !event.composedPath().includes(host)) event.stopImmediatePropagation();
  };
  for (const type of GUEST_EVENTS) window.addEventListener(type, shield, true);
  return ours;
})();
