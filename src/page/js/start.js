// Start: wraps what must be wrapped before any module of the page runs, then builds our corner.

wrapPeerConnection();
wrapWebSocket();
interceptExit();
const wordsAreThere = Promise.race([
  loadWords().catch(() => {}),
  new Promise((done) => setTimeout(done, WORDS_MS)),
]);

// The one global: for support, and to see that we are there.
Object.defineProperty(window, 'hydraneck', {
  value: Object.freeze({
    session: CONFIG.session,
    get phase() { return monitor.streamState.phase; },
    get reason() { return monitor.streamState.reason; },
  }),
});

whenBody(async () => {
  await wordsAreThere;
  root.begin();
  followConnection();
  followEvents(announceDrain);
  if (!CONFIG.isStreamPage) return;
  const row = make('div.row', { role: 'toolbar', 'aria-label': say('tools') }, ...createStats());
  const dock = make('div.dock', {}, row);
  root.add(dock);
  monitor.onChange((streamState) => { dock.hidden = streamState.phase === 'ended'; });
  if (!CONFIG.mic) return;
  const micButton = createMicButton();
  row.append(micButton.group);
  dock.prepend(...micButton.above);
  followMic();
  if (!visit.facts.resumeMic) return;
  visit.keep({ resumeMic: false });
  if (!card) mic.start(true); // it was wanted before we reloaded the page ourselves
});
