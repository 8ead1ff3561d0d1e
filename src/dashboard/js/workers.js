// The fleet: who is there, how loaded, how long ago heard.

/** Silence that deserves a colour: two heartbeats of the usual five seconds are missing. */
const LATE_S = 15;

function workersPanel(changed) {
  const name = () => {
    const id = el('bdi', { class: 'name' });
    const url = el('bdi', { class: 'small soft cut' });
    return {
      node: el('div', { class: 'stack' }, id, url),
      show(row) {
        write(id, row.worker_id);
        write(url, row.url);
        mark(url, 'title', row.url);
      },
    };
  };
  const status = () => {
    const state = badge();
    const more = el('span', { class: 'small soft' });
    return {
      node: el('div', { class: 'stack' }, state.node, more),
      show(row) {
        state.show(row.status, statusWord(row.status));
        const notes = [];
        if (row.drain_deadline) notes.push(`ends ${clockTime(row.drain_deadline)}`);
        if (!row.wireguard) notes.push('no WireGuard');
        write(more, notes.join(' · '));
        show(more, notes.length);
      },
    };
  };
  const load = () => {
    const sessions = bar('Load');
    return { node: sessions.node, show: (row) => sessions.show(row.active_sessions, row.max_sessions) };
  };
  const heartbeat = () => {
    const node = el('span', { class: 'number' });
    return {
      node,
      show(row) {
        const age = ageOf(row.last_heartbeat);
        write(node, age < 2 ? 'now' : `${span(age)} ago`);
        mark(node, 'data-late', age > LATE_S ? 'yes' : undefined);
        mark(node, 'title', row.last_heartbeat);
      },
    };
  };
  const actions = () => {
    let row;
    const node = el('button', { type: 'button', class: 'button small', on: { click: () => (isDraining() ? undrain(row) : drain(row)) } });
    const isDraining = () => row.status === 'draining' || Boolean(row.drain_deadline);
    return {
      node,
      show(now) {
        row = now;
        write(node, isDraining() ? 'Undrain' : 'Drain');
        mark(node, 'aria-label', `${isDraining() ? 'Undrain' : 'Drain'} worker ${row.worker_id}`);
      },
    };
  };
  return tablePanel(byId('workers'), {
    id: 'workers', title: 'Workers', filterLabel: 'Filter workers by name, district, version or address', changed, firstOrder: 'name',
    keyOf: (row) => row.worker_id,
    columns: [
      { title: 'Worker', order: 'name', cell: name, class: 'first' },
      { title: 'Status', order: 'status', cell: status, class: 'state' },
      { title: 'Sessions', order: 'load', cell: load, class: 'load' },
      { title: 'Heartbeat', order: 'heartbeat', cell: heartbeat },
      { title: 'Version', order: 'version', cell: textCell((row) => row.version || NONE, { class: 'cut' }) },
      { title: 'District', order: 'district', cell: textCell((row) => row.district || NONE, { class: 'cut' }) },
      { title: 'Actions', isHidden: true, cell: actions, class: 'actions' },
    ],
  });
}

const workerPath = ({ worker_id: id }) => `/workers/${encodeURIComponent(id)}/drain`;

function drain(row) {
  const other = el('input', { type: 'text', name: 'other', placeholder: '45m', autocomplete: 'off', spellcheck: 'false', maxlength: '64' });
  const when = el('select', { name: 'deadline', on: { change: () => show(otherField, when.value === 'other') } },
    ...[['', 'When their visitors leave'], ['15m', 'In 15 minutes'], ['1h', 'In 1 hour'], ['4h', 'In 4 hours'], ['other', 'At another time…']]
      .map(([value, text]) => el('option', { value }, text)));
  const otherField = field('Time', other, 'A span from now, such as 45m or 2h30m, or a time such as 2026-03-01T22:00:00Z.');
  otherField.hidden = true;
  dialog({
    title: 'Drain worker', action: 'Drain', busyText: 'Draining…',
    content: [
      el('p', {}, el('strong', {}, foreign(row.worker_id)), ' takes no new sessions from now on. ',
        row.active_sessions ? `${plural(row.active_sessions, 'session')} on it ${row.active_sessions === 1 ? 'goes' : 'go'} on.` : 'It has no session.'),
      field('Its sessions end', when), otherField,
    ],
    async act() {
      const deadline = when.value === 'other' ? other.value.trim() : when.value;
      if (when.value === 'other' && !deadline) return { error: { error: 'Say when the sessions end.' } };
      const answer = await call('POST', workerPath(row), { body: deadline ? { deadline } : {} });
      if (!answer.ok) return answer;
      say(`Worker ${row.worker_id} drains.`);
      refreshSoon();
      return true;
    },
  });
}

function undrain(row) {
  dialog({
    title: 'Undrain worker', action: 'Undrain', busyText: 'Undraining…',
    content: [el('p', {}, el('strong', {}, foreign(row.worker_id)), ' takes new sessions again, and the deadline of its drain is forgotten.')],
    async act() {
      const answer = await call('DELETE', workerPath(row));
      if (!answer.ok) return answer;
      say(`Worker ${row.worker_id} takes sessions again.`);
      refreshSoon();
      return true;
    },
  });
}
