// A new session: every field of the API, and the address that comes back.

/** A worker may take its whole start time, and the next worker another. */
const CREATE_MS = 110000;

function createDialog() {
  const input = (name, properties = {}) => el('input', { type: 'text', name, autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', maxlength: '1024', ...properties });
  const fieldsOf = {
    body_ip: input('body_ip', { required: true, placeholder: '10.0.1.50', inputmode: 'decimal' }),
    experience: input('experience'),
    app: input('app', { placeholder: 'Desktop' }),
    district: input('district'),
    exe_path: input('exe_path', { placeholder: 'C:\\experiences\\cathedral\\cathedral.exe' }),
    sunshine_user: input('sunshine_user'),
    // As in the sign-in form: no field that a browser saves.
    sunshine_pass: input('sunshine_pass', { class: 'masked' }),
  };
  const wait = el('input', { type: 'checkbox', name: 'wait', id: 'field-wait', checked: true });
  const takeover = el('input', { type: 'checkbox', name: 'takeover', id: 'field-takeover' });
  const owner = el('label', { for: 'field-takeover' });
  const offer = el('div', { class: 'check', hidden: true }, takeover, owner);
  const { body_ip: body } = fieldsOf;
  // The same wish twice is one session: a new key for each change of the form.
  let key = randomKey();
  const box = dialog({
    title: 'New session', action: 'Create session', busyText: 'Creating…',
    content: [
      field('Body address', body, 'IP address of the machine that renders, inside bodies.allowed_networks.'),
      offer,
      field('Experience', fieldsOf.experience, 'Its name, kept for ratings and reports.'),
      el('details', {}, el('summary', {}, 'More'), el('div', {},
        field('App', fieldsOf.app, 'Title of the Sunshine app to stream. Left empty: the registered experience, else Desktop.'),
        field('Program', fieldsOf.exe_path, 'Windows path on the body, to register in Sunshine and start.'),
        field('District', fieldsOf.district, 'Kept for records and reports.'),
        field('Sunshine user', fieldsOf.sunshine_user, 'Left empty: as the worker is configured.'),
        field('Sunshine password', fieldsOf.sunshine_pass),
        el('div', { class: 'check' }, wait, el('label', { for: 'field-wait' }, 'Answer when the stream is ready')))),
    ],
    async act() {
      const request = { wait: wait.checked };
      if (takeover.checked) request.takeover = true;
      for (const [name, { value }] of Object.entries(fieldsOf)) {
        const text = name === 'sunshine_pass' ? value : value.trim();
        if (text) request[name] = text;
      }
      const answer = await call('POST', '/sessions', { body: request, headers: { 'idempotency-key': key }, within: CREATE_MS });
      // Nobody knows what became of it: the same key finds out. A refusal is final.
      if (!answer.ok) {
        if (answer.status && answer.status !== 504) key = randomKey();
        const has = answer.error?.owner;
        offer.hidden = !has;
        takeover.checked = false;
        if (has) {
          owner.replaceChildren(`End session ${shortId(has.session_id)} (${statusWord(has.status).toLowerCase()}) on `, foreign(has.worker_id), ' first');
          return { ...answer, error: { error: 'A session has this body.' } };
        }
        return answer;
      }
      refreshSoon();
      say(`Session ${shortId(answer.data.session_id)} is ${statusWord(answer.data.status).toLowerCase()}.`);
      box.close();
      created(answer.data, request);
      return undefined;
    },
  });
  listen(box.form, 'input', () => { key = randomKey(); });
}

function created(data, request) {
  dialog({
    title: 'Session created', cancel: 'Done',
    content: [
      el('p', {}, foreign(request.experience || 'The session'), ' runs on ', el('strong', {}, foreign(data.worker_id)), `, ${statusWord(data.status).toLowerCase()}.`),
      linkBox('Stream address', data.stream_url),
    ],
  });
}

function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
