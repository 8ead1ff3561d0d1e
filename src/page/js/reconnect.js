// Reconnect: brings the stream back by reloading the page within the session's window. A reload
// is tried only when the worker answers, so that the visitor never sees the browser's error page.

const TRIES_MAX = 10; // reloads in a row without a picture
const BACK_OFF_MS = [500, 1000, 2000, 4000, 8000]; // before each try, the last one for all later ones
const ASK_EVERY_MS = [1000, 2000, 4000]; // while the worker is silent or still starting
const STEADY_MS = 20000; // a picture this long makes the next dip a new one

const pick = (steps, at) => steps[Math.min(at, steps.length - 1)];

function reloadPage() {
  visit.keep({ tries: visit.facts.tries + 1, resumeMic: visit.facts.resumeMic || mic.isWanted() });
  location.reload();
}

/** The visitor's own wish, so it counts as a fresh start. */
function tryAgain() {
  visit.keep({ tries: 0, until: 0 });
  location.reload();
}

const reconnect = (() => {
  let timer = null;
  let isRunning = false;
  let asks = 0;

  function wait(act, ms) {
    clearTimeout(timer);
    timer = later(act, ms);
  }
  function stop() {
    clearTimeout(timer);
    isRunning = false;
    pill.hide();
  }
  async function attempt() {
    if (!isRunning) return;
    const session = await askServer();
    if (!isRunning) return;
    if (session.status === 'silent' || session.status === 'starting') {
      const word = session.status === 'starting' ? 'restarting' : navigator.onLine ? 'server_silent' : 'offline';
      pill.show(say(word), { isBusy: true });
      wait(attempt, pick(ASK_EVERY_MS, asks));
      asks += 1;
    } else if (visit.facts.tries >= TRIES_MAX) {
      watch.tell({ type: 'given-up' });
    } else {
      pill.show(say('reconnecting_try', { try: visit.facts.tries + 1, tries: TRIES_MAX }), { isBusy: true });
      wait(reloadPage, pick(BACK_OFF_MS, visit.facts.tries));
    }
  }
  return {
    begin() {
      if (isRunning || isLeaving) return;
      isRunning = true;
      asks = 0;
      pill.show(say('reconnecting'), { isBusy: true });
      attempt();
    },
    /** The network or the visitor came back: no need to wait any longer. */
    hurry() {
      watch.tell({ type: 'back' });
      if (isRunning) attempt();
      else if (current && /^(disconnected|failed)$/.test(current.connectionState)) askServer();
    },
    stop,
  };
})();

function followConnection() {
  let steady = null;
  watch.onChange((verdict, before) => {
    clearTimeout(steady);
    if (verdict.phase === 'live') {
      reconnect.stop();
      hideCard();
      steady = later(() => visit.keep({ tries: 0 }), STEADY_MS);
    }
    if (before === 'live' && verdict.phase !== 'ended' && verdict.reason !== 'elsewhere') visit.keep({ disconnects: visit.facts.disconnects + 1 });
    if (verdict.phase === 'dipped') pill.show(say('reconnecting'), { isBusy: true });
    if (verdict.phase === 'reconnecting') {
      hideCard();
      reconnect.begin();
    }
    if (verdict.reason === 'elsewhere') {
      reconnect.stop();
      showCard({ title: say('elsewhere_title'), reason: verdict.reason, again: say('watch_here') });
    } else if (verdict.phase === 'stuck') {
      if (visit.facts.tries > 0) reconnect.begin(); // in a row of tries the visitor need not press a button
      else {
        pill.hide();
        showCard({ title: say('stuck_title'), reason: verdict.reason, detail: verdict.detail, mayRun: true });
      }
    }
    if (verdict.phase === 'ended') {
      reconnect.stop();
      visit.keep({ until: Date.now() });
      if (isLeaving) return;
      const mayRun = verdict.reason === 'stream_stopped' || verdict.reason === 'connection_lost';
      showCard({ title: say('ended_title'), reason: verdict.reason, mayRun, hasRating: true });
    }
  });
  listen(window, 'online', () => reconnect.hurry());
  listen(document, 'visibilitychange', () => { if (!document.hidden) reconnect.hurry(); });
  // Brought back whole from the browser's memory: every connection of it is dead.
  listen(window, 'pageshow', (event) => { if (event.persisted) location.reload(); });
}
