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
    banner.hide();
  }
  async function attempt() {
    if (!isRunning) return;
    const session = await askServer();
    if (!isRunning) return;
    if (session.status === 'silent' || session.status === 'starting') {
      const word = session.status === 'starting' ? 'restarting' : navigator.onLine ? 'server_silent' : 'offline';
      banner.show(say(word), { isBusy: true });
      wait(attempt, pick(ASK_EVERY_MS, asks));
      asks += 1;
    } else if (visit.facts.tries >= TRIES_MAX) {
      monitor.tell({ type: 'given-up' });
    } else {
      banner.show(say('reconnecting_try', { try: visit.facts.tries + 1, tries: TRIES_MAX }), { isBusy: true });
      wait(reloadPage, pick(BACK_OFF_MS, visit.facts.tries));
    }
  }
  return {
    begin() {
      if (isRunning || isLeaving) return;
      isRunning = true;
      asks = 0;
      banner.show(say('reconnecting'), { isBusy: true });
      attempt();
    },
    /** The network or the visitor came back: no need to wait any longer. */
    hurry() {
      monitor.tell({ type: 'back' });
      if (isRunning) attempt();
      else if (current && /^(disconnected|failed)$/.test(current.connectionState)) askServer();
    },
    stop,
  };
})();

function followConnection() {
  let steady = null;
  monitor.onChange((streamState, before) => {
    clearTimeout(steady);
    if (streamState.phase === 'live') {
      reconnect.stop();
      hideCard();
      steady = later(() => visit.keep({ tries: 0 }), STEADY_MS);
    }
    if (before === 'live' && streamState.phase !== 'ended' && streamState.reason !== 'elsewhere') visit.keep({ disconnects: visit.facts.disconnects + 1 });
    if (streamState.phase === 'dipped') banner.show(say('reconnecting'), { isBusy: true });
    if (streamState.phase === 'reconnecting') {
      hideCard();
      reconnect.begin();
    }
    if (streamState.reason === 'elsewhere') {
      reconnect.stop();
      showCard({ title: say('elsewhere_title'), reason: streamState.reason, again: say('watch_here') });
    } else if (streamState.phase === 'stuck') {
      if (visit.facts.tries > 0) reconnect.begin(); // in a row of tries the visitor need not press a button
      else {
        banner.hide();
        showCard({ title: say('stuck_title'), reason: streamState.reason, detail: streamState.detail, mayRun: true });
      }
    }
    if (streamState.phase === 'ended') {
      reconnect.stop();
      visit.keep({ until: Date.now() });
      if (isLeaving) return;
      const mayRun = streamState.reason === 'stream_stopped' || streamState.reason === 'connection_lost';
      showCard({ title: say('ended_title'), reason: streamState.reason, mayRun, hasRating: true });
    }
  });
  listen(window, 'online', () => reconnect.hurry());
  listen(document, 'visibilitychange', () => { if (!document.hidden) reconnect.hurry(); });
  // Brought back whole from the browser's memory: every connection of it is dead.
  listen(window, 'pageshow', (event) => { if (event.persisted) location.reload(); });
}
