// Stream monitor: feeds the stream's state with events and waking time, and tells everyone when it changes.

const TICK_MS = 500; // two looks a second: a dip is shown at most half a second late
const TICK_CREDIT_MS = 2000; // a tick after sleep or background throttling counts at most this

function createMonitor() {
  let awake = 0;
  let last = performance.now();
  const streamState = createStreamState(0);
  const observers = [];

  function now() {
    const at = performance.now();
    awake += Math.min(at - last, TICK_CREDIT_MS);
    last = at;
    return awake;
  }
  function tell(event) {
    const { phase: before, reason } = streamState;
    streamState.step(event, now());
    if (streamState.phase === before && streamState.reason === reason) return;
    for (const observer of observers) observer(streamState, before);
  }

  // On other pages nothing connects: there only the server says what happened.
  if (CONFIG.isStreamPage) setInterval(guard(() => tell({ type: 'tick' })), TICK_MS);
  return {
    streamState,
    tell: guard(tell),
    /** Tells every change from now on, and at once what has changed already. */
    onChange(observer) {
      observers.push(guard(observer));
      if (streamState.phase !== 'connecting') guard(observer)(streamState, 'connecting');
    },
  };
}

const monitor = createMonitor();
