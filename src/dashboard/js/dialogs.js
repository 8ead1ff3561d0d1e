// Dialogs: the browser's own, which keep focus inside and give it back.

/** What a refusal says, as the API says it. */
function refusal({ error, wait }) {
  const rows = [el('p', {}, foreign(CAPITAL(error?.error ?? 'The controller refused.')))];
  if (error?.detail) rows.push(el('p', { class: 'detail' }, foreign(error.detail)));
  const small = [error?.reason, wait && `try again in ${wait} s`, error?.request_id && `request ${error.request_id}`];
  const line = small.filter(Boolean).join(' · ');
  if (line) rows.push(el('p', { class: 'small soft' }, foreign(line)));
  return rows;
}

/**
 * A dialog with a form. `act()` runs on submit: it gives true to close the dialog, the refused
 * call to say why not.
 */
function dialog({ title, content = [], action, isDangerous, busyText = 'Working…', act, cancel = 'Cancel', onClose }) {
  const id = `dialog-${Math.random().toString(36).slice(2)}`;
  const problem = el('div', { class: 'problem', role: 'alert', hidden: true });
  const close = el('button', { type: 'button', class: 'button', on: { click: () => node.close() } }, cancel);
  const submit = action && el('button', { type: 'submit', class: `button ${isDangerous ? 'danger' : 'primary'}` }, action);
  const buttons = el('div', { class: 'buttons' }, close, submit);
  const form = el('form', {}, el('h2', { id, tabindex: '-1', autofocus: !action }, title), ...content, problem, buttons);
  const node = el('dialog', { 'aria-labelledby': id }, form);

  const tell = (refused) => {
    problem.replaceChildren(...(refused ? refusal(refused) : []));
    show(problem, refused);
    // The buttons stay in sight, the words above them might not.
    if (refused) node.scrollTop = node.scrollHeight;
  };
  listenNow(form, 'submit', (event) => {
    event.preventDefault();
    if (submit.disabled) return;
    submit.disabled = true;
    write(submit, busyText);
    tell();
    Promise.resolve().then(act).then((outcome) => {
      if (outcome === true) node.close();
      else if (outcome) tell(outcome);
    }).catch((error) => {
      console.error('[neck]', error);
      tell({ error: { error: 'The page made a mistake. Load it again.' } });
    }).finally(() => {
      submit.disabled = false;
      write(submit, action);
    });
  });
  listen(node, 'close', () => {
    node.remove();
    onClose?.();
  });
  document.body.append(node);
  node.showModal();
  return { node, form, buttons, close: () => node.close() };
}

/** A field with its label and a hint. */
function field(label, input, hint) {
  const id = `field-${input.getAttribute('name')}`;
  input.id = id;
  if (hint) input.setAttribute('aria-describedby', `${id}-hint`);
  return el('div', { class: 'field' }, el('label', { for: id }, label), input, hint && el('p', { id: `${id}-hint`, class: 'hint' }, hint));
}

/** A link that can be opened and copied. */
function linkBox(label, address, hint) {
  const href = webAddress(address);
  const input = el('input', { type: 'text', readonly: true, name: 'link', on: { focus: () => input.select() } });
  input.value = address;
  const copy = el('button', { type: 'button', class: 'button', on: { click: copyIt } }, 'Copy');
  async function copyIt() {
    input.focus();
    input.select();
    // The clipboard's own interface is there under HTTPS only.
    try {
      await navigator.clipboard.writeText(address);
    } catch {
      document.execCommand('copy');
    }
    say('The address is copied.');
  }
  const open = href && el('a', { class: 'button', href, target: '_blank', rel: 'noopener noreferrer' }, 'Open');
  return el('div', { class: 'linkbox' }, field(label, input), el('div', { class: 'buttons' }, copy, open || undefined), hint && el('p', { class: 'hint' }, hint));
}
