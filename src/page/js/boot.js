// Boot: what this page was told, what the browser offered before anyone changed it, and how our
// own mistakes stay ours. Runs before any script of the page.

const told = document.currentScript ? document.currentScript.dataset : {};

const CONFIG = Object.freeze({
  session: told.session || '',
  base: `/session/${told.session || ''}/`,
  returnUrl: webAddress(told.returnUrl),
  experience: told.experience || '',
  district: told.district || '',
  body: told.body || '',
  head: told.head || '',
  bodyIp: told.bodyIp || '',
  relayOnly: told.relayOnly !== 'false',
  mic: told.mic === 'true',
  isStreamPage: /\/stream(\.html)?$/.test(location.pathname),
});

const NATIVE = Object.freeze({
  PeerConnection: window.RTCPeerConnection || window.webkitRTCPeerConnection,
  WebSocket: window.WebSocket,
  EventSource: window.EventSource,
  fetch: window.fetch.bind(window),
});

/** Only http and https lead anywhere: a configured `javascript:` address must not run. */
function webAddress(text) {
  try {
    const url = new URL(text, location.href);
    return /^https?:$/.test(url.protocol) ? url.href : '/';
  } catch {
    return '/';
  }
}

/** The page shows every uncaught error in a popup of its own, so none of ours may get there. */
function mutter(error) {
  console.warn('[neck]', error);
}

function guard(act) {
  return (...args) => {
    try {
      const result = act(...args);
      return result instanceof Promise ? result.catch(mutter) : result;
    } catch (error) {
      mutter(error);
      return undefined;
    }
  };
}

function listen(target, type, act, options) {
  target.addEventListener(type, guard(act), options);
}

function later(act, ms) {
  return setTimeout(guard(act), ms);
}

function once(target, type) {
  return new Promise((done) => target.addEventListener(type, done, { once: true }));
}

/** Runs `act` when there is a body to put elements into. */
function whenBody(act) {
  if (document.body) guard(act)();
  else listen(document, 'DOMContentLoaded', act, { once: true });
}
