// Push-to-talk: the option, its key, and the panel where both are chosen. The key is ours
// alone: the game does not see it.

function keyName(code) {
  return code.replace(/^(Key|Digit)/, '').replace(/^Backquote$/, '`').replace(/([a-z])([A-Z])/g, '$1 $2');
}

function createPushToTalk({ hold, isTalkable }) {
  let onChange = () => {};
  let isChoosing = false;
  let pressed = ''; // the key whose press talks, until it is released: another may be chosen meanwhile
  const check = make('input', { type: 'checkbox', id: 'ptt', checked: wishes.facts.pushToTalk });
  const key = make('button.key', { type: 'button', onclick: () => choose(!isChoosing) });
  // Holding the button talks, so it cannot also switch off.
  const off = make('button.key', { type: 'button', hidden: true, onclick: () => mic.stop() }, say('mic_turn_off'));
  const panel = make('div.panel', { id: 'talk', role: 'group', 'aria-label': say('mic_options'), hidden: true },
    make('label', { for: 'ptt' }, check, make('span', {}, say('ptt'))),
    make('p', {}, make('span', {}, say('ptt_key')), ' ', key),
    make('p.hint', {}, say('ptt_hint')), off);
  const button = make('button.tool', {
    type: 'button', 'aria-label': say('mic_options'), title: say('mic_options'),
    'aria-expanded': 'false', 'aria-controls': 'talk', onclick: () => open(panel.hidden),
  }, icon('M6 15l6-6 6 6'));

  function draw() {
    key.textContent = isChoosing ? say('ptt_press') : keyName(wishes.facts.talkKey);
    key.setAttribute('aria-label', `${say('ptt_key')} ${key.textContent}`);
    off.hidden = !isTalkable();
  }
  function choose(isOn) {
    isChoosing = isOn;
    draw();
  }
  function open(isOpen) {
    panel.hidden = !isOpen;
    button.setAttribute('aria-expanded', String(isOpen));
    choose(false);
  }
  function letGo() {
    pressed = '';
    hold(false);
  }
  function take(event) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  listen(check, 'change', () => {
    wishes.keep({ pushToTalk: check.checked });
    hold(false);
    onChange();
    draw();
  });
  listen(panel, 'keydown', (event) => {
    if (event.key !== 'Escape') return;
    open(false);
    button.focus();
  });
  listen(window, 'keydown', (event) => {
    if (isChoosing && event.code && event.code !== 'Tab') {
      take(event);
      if (event.code !== 'Escape') wishes.keep({ talkKey: event.code });
      choose(false);
    } else if (event.code === wishes.facts.talkKey && (isTalkable() || event.code === pressed)) {
      take(event);
      if (event.repeat) return; // held since before a dip or a reload: only a new press talks
      pressed = event.code;
      hold(true);
    }
  }, true);
  // A release lets go whatever the state is. With Meta held some systems tell of Meta's release only.
  listen(window, 'keyup', (event) => {
    if (!pressed || (event.code !== pressed && event.key !== 'Meta')) return;
    if (event.code === pressed) take(event);
    letGo();
  }, true);
  // The release is told to another window then.
  listen(window, 'blur', letGo);
  listen(document, 'visibilitychange', () => { if (document.hidden) letGo(); });
  draw();
  return { panel, button, draw, onChange: (act) => { onChange = act; } };
}
