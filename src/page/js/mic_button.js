// Microphone button: the button, the level meter and push-to-talk, in the dock.

const MIC_PATHS = ['M12 15a3.5 3.5 0 0 0 3.5-3.5v-5a3.5 3.5 0 0 0-7 0v5A3.5 3.5 0 0 0 12 15z', 'M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3.5'];
const SLASH = 'M4 4l16 16';
const LOUD = 0.25; // root mean square of a loud voice: a full meter
const BARS = 5;

/** Tells the level of `stream`, 0 to 1, once per animation frame until it is closed. */
function listenTo(stream, onLevel) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 512 });
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let frame = 0;
  const look = guard(() => {
    analyser.getFloatTimeDomainData(samples);
    const square = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    onLevel(Math.min(1, Math.sqrt(square) / LOUD));
    frame = requestAnimationFrame(look);
  });
  look();
  return () => {
    cancelAnimationFrame(frame);
    context.close().catch(() => {});
  };
}

function createMicButton() {
  const words = make('span.words', {});
  const meter = make('span.meter', { 'aria-hidden': 'true' }, ...Array.from({ length: BARS }, () => make('i')));
  const slash = icon(...MIC_PATHS, SLASH);
  const plain = icon(...MIC_PATHS);
  const button = make('button.mic', { type: 'button' }, plain, slash, words, meter);
  const note = make('p.note', { role: 'status', hidden: true });
  let state = 'off';
  let stream = null;
  let isHeld = false;
  let closeMeter = null;

  function label() {
    if (state !== 'on') return say(`mic_${state}`);
    if (!wishes.facts.pushToTalk) return say('mic_on');
    return say(isHeld ? 'mic_talking' : 'mic_hold');
  }
  function draw() {
    words.textContent = label();
    button.dataset.state = state === 'on' && wishes.facts.pushToTalk && !isHeld ? 'quiet' : state;
    button.setAttribute('aria-pressed', String(state === 'on'));
    // A disabled track keeps its place and sends silence.
    if (stream) for (const track of stream.getAudioTracks()) track.enabled = state === 'on' && (!wishes.facts.pushToTalk || isHeld);
  }
  function level(value) {
    const lit = isHeld || !wishes.facts.pushToTalk ? Math.ceil(value * BARS - 0.25) : 0;
    meter.dataset.level = lit;
    [...meter.children].forEach((bar, at) => bar.classList.toggle('lit', at < lit));
  }
  function hold(isDown) {
    if (isHeld === (isDown && isTalkable())) return;
    isHeld = !isHeld;
    draw();
  }

  mic.onChange((next, reason, source) => {
    if (source !== stream && closeMeter) {
      closeMeter();
      closeMeter = null;
      level(0);
    }
    state = next;
    stream = source;
    if (stream && !closeMeter) closeMeter = listenTo(stream, level);
    if (state !== 'on') isHeld = false;
    const isTold = Boolean(reason) && state !== 'asking';
    note.hidden = !isTold;
    note.textContent = isTold ? say(reason) : '';
    button.title = reason ? say(reason) : '';
    draw();
  });

  // With push-to-talk the button is held; its other ways stay: a key press toggles.
  const isTalkable = () => state === 'on' && wishes.facts.pushToTalk;
  let isPressed = false; // the click after it is a release, whatever has become of the state
  listen(button, 'pointerdown', (event) => {
    isPressed = isTalkable();
    if (!isPressed) return;
    hold(true);
    button.setPointerCapture(event.pointerId);
  });
  for (const type of ['pointerup', 'pointercancel', 'lostpointercapture', 'blur']) listen(button, type, () => hold(false));
  listen(button, 'click', (event) => { if (!isPressed || event.detail === 0) mic.toggle(); });
  draw();

  const pushToTalk = createPushToTalk({ hold, isTalkable });
  mic.onChange(pushToTalk.draw);
  pushToTalk.onChange(draw);
  return { above: [note, pushToTalk.panel], group: make('div.group', {}, button, pushToTalk.button) };
}
