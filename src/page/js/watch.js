// Watch: feeds the verdict with events and waking time, and tells everyone when it changes.

const TICK_MS = 500; // two looks a second: a dip is shown at most half a second late
const TICK_CREDIT_MS = 2000; // a tick after sleep or background throttling counts at most this

function createWatch() {
  let awake = 0;
  let last = performance.now();
  const verdict = createVerdict(0);
  const observers = [];

  function now() {
    const at = performance.now();
    awake += Math.min(at - last, TICK_CREDIT_MS);
    last = at;
    return awake;
  }
  function tell(event) {
    const { phase: before, reason } = verdict;
    verdict.step(event, now());
    if (verdict.phase === before && verdict.reason === reason) return;
    for (const observer of observers) observer(verdict, before);
  }

  // Elsewhere than on the stream page nothing connects; there only the server's word counts.
  if (CONFIG.isStreamPage) setInterval(guard(() => tell({ type: 'tick' })), TICK_MS);
  return {
    verdict,
    tell: guard(tell),
    /** Tells every change from now on, and at once what has changed already. */
    onChange(observer) {
      observers.push(guard(observer));
      if (verdict.phase !== 'connecting') guard(observer)(verdict, 'connecting');
    },
  };
}

const watch = createWatch();
