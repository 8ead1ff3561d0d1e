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
    get phase() { return watch.verdict.phase; },
    get reason() { return watch.verdict.reason; },
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
  watch.onChange((verdict) => { dock.hidden = verdict.phase === 'ended'; });
  if (!CONFIG.mic) return;
  const voice = createVoice();
  row.append(voice.group);
  dock.prepend(...voice.above);
  followMic();
  if (!visit.facts.resumeMic) return;
  visit.keep({ resumeMic: false });
  if (!card) mic.start(true); // it was wanted before we reloaded the page ourselves
});
