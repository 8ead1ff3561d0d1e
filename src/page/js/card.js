// Card: the one modal thing we show. It says that the stream ended, or that it will not start,
// why, and what can be done about it.

const FOCUSABLE = 'a[href], button:not([disabled]), [tabindex="0"]';
const KNOWN_REASONS = Object.keys(ENGLISH).filter((key) => key.startsWith('why_'));

let card = null;

function why(reason) {
  return say(KNOWN_REASONS.includes(`why_${reason}`) ? `why_${reason}` : 'why_unknown');
}

/** Leaves for a new stream; a session that may still run is ended on the way. */
function leave(mayRun) {
  if (mayRun && !monitor.streamState.isTaken) post('quit', {}, { keepalive: true }).catch(mutter);
}

function keepFocus(box, event) {
  if (event.key !== 'Tab') return;
  const stops = [...box.querySelectorAll(FOCUSABLE)];
  const at = stops.indexOf(root.shadow.activeElement);
  const next = event.shiftKey ? at - 1 : at + 1;
  if (at >= 0 && next >= 0 && next < stops.length) return;
  event.preventDefault();
  stops[event.shiftKey ? stops.length - 1 : 0].focus();
}

/**
 * `mayRun`: nobody said that the session is over, so trying again may bring it back. `again` names
 * the button for a stream that is not ours to end.
 */
function showCard({ title, reason, detail, mayRun, hasRating, again }) {
  hideCard();
  // The card covers the microphone's button. Another tab's stream may have its microphone: the
  // worker's is left alone then.
  if (reason === 'elsewhere') mic.leave();
  else mic.stop();
  const report = make('a.report', {
    href: reportAddress(reason), target: '_blank', rel: 'noopener noreferrer',
    // Counters may have moved since the card came up.
    onpointerdown: () => { report.href = reportAddress(reason); },
    onfocus: () => { report.href = reportAddress(reason); },
  }, say('report'));
  const box = make('section.card', {
    role: 'dialog', 'aria-modal': 'true', 'aria-labelledby': 'title', 'aria-describedby': 'why', tabIndex: -1,
    onkeydown: (event) => keepFocus(box, event),
  }, make('h1', { id: 'title' }, title), make('p', { id: 'why' }, why(reason)));
  if (detail) box.append(make('p.detail', {}, detail));
  if (hasRating) box.append(createStars());
  const actions = make('div.actions');
  const start = make('a.button', { href: CONFIG.returnUrl, onclick: () => leave(mayRun) }, say('start_new'));
  const retry = make('button.button', { type: 'button', onclick: () => tryAgain() }, again || say('try_again'));
  if (mayRun || again) actions.append(retry, start);
  else actions.append(start);
  actions.firstChild.classList.add('primary');
  box.append(actions, report);
  card = make('div.veil', {}, box);

  root.isModal = true;
  if (document.pointerLockElement) document.exitPointerLock();
  if (navigator.keyboard && navigator.keyboard.unlock) navigator.keyboard.unlock();
  root.add(card);
  // Not on a button: a key meant for the game must not press it.
  box.focus({ preventScroll: true });
}

function hideCard() {
  if (!card) return;
  card.remove();
  card = null;
  root.isModal = false;
}

// The page puts the focus back on its input now and then.
listen(window, 'focusin', (event) => {
  if (card && !event.composedPath().includes(root.host)) card.firstChild.focus({ preventScroll: true });
});
