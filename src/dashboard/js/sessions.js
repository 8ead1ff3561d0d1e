// Sessions: what runs where, for how long, how well.

/** Round trips from which a visitor feels the distance, in milliseconds. */
const RTT_WARN_MS = 80, RTT_BAD_MS = 150;

const rttLevel = (rtt) => (rtt >= RTT_BAD_MS ? 'bad' : rtt >= RTT_WARN_MS ? 'warn' : undefined);

function sessionsPanel(changed) {
  const status = () => {
    const state = badge();
    const more = el('span', { class: 'small soft' });
    return {
      node: el('div', { class: 'stack' }, state.node, more),
      show(row) {
        state.show(row.status, statusWord(row.status));
        write(more, row.phase && row.status === 'starting' ? row.phase : '');
        show(more, more.textContent);
      },
    };
  };
  const what = () => {
    let row;
    const title = el('bdi', { class: 'name cut' });
    const id = el('span', { class: 'small soft mono' });
    const open = el('button', { type: 'button', class: 'plain', on: { click: () => details(row) } }, title);
    return {
      node: el('div', { class: 'stack' }, open, id),
      show(now) {
        row = now;
        write(title, row.experience || 'No name');
        mark(title, 'title', row.experience);
        mark(title, 'data-none', row.experience ? undefined : 'yes');
        write(id, shortId(row.id));
        mark(open, 'aria-label', `Details of session ${shortId(row.id)}, ${row.experience || 'no name'}`);
      },
    };
  };
  const age = () => {
    const node = el('span', { class: 'number' });
    return { node, show: (row) => { write(node, span(ageOf(row.created_at))); mark(node, 'title', row.created_at); } };
  };
  const rtt = () => {
    const node = el('span', { class: 'number' });
    return { node, show: (row) => { write(node, millis(row.stats?.rtt_ms)); mark(node, 'data-level', rttLevel(row.stats?.rtt_ms)); } };
  };
  const viewers = () => {
    const count = el('span', { class: 'number' });
    const mic = el('span', { class: 'tag' }, 'mic');
    return { node: el('span', { class: 'line' }, count, mic), show: (row) => { write(count, String(row.viewers)); show(mic, row.mic); } };
  };
  const actions = () => {
    let row;
    const node = el('button', { type: 'button', class: 'button small quiet-danger', on: { click: () => end(row) } }, 'End');
    return {
      node,
      show(now) {
        row = now;
        mark(node, 'aria-label', `End session ${shortId(row.id)}, ${row.experience || 'no name'}`);
        node.disabled = row.status === 'ending';
      },
    };
  };
  const wanted = el('select', { id: 'sessions-status', 'aria-label': 'Show sessions in state', on: { change: () => changed({ status: wanted.value, page: 0 }) } },
    el('option', { value: '' }, 'All states'), ...PARTS.map((name) => el('option', { value: name }, statusWord(name))));
  return tablePanel(byId('sessions'), {
    id: 'sessions', title: 'Sessions', filterLabel: 'Filter sessions by experience, id, body, worker or district', changed, firstOrder: 'age',
    extra: [wanted], keyOf: (row) => row.id,
    columns: [
      { title: 'Status', order: 'status', cell: status, class: 'state' },
      { title: 'Experience', order: 'experience', cell: what, class: 'first' },
      { title: 'Body', order: 'body', cell: textCell((row) => row.body_ip, { class: 'number' }) },
      { title: 'Worker', order: 'worker', cell: textCell((row) => row.worker_id, { class: 'cut' }) },
      { title: 'Age', order: 'age', cell: age },
      { title: 'RTT', order: 'rtt', cell: rtt },
      { title: 'Path', order: 'path', cell: textCell((row) => row.stats?.ice_candidate_type || NONE) },
      { title: 'Viewers', order: 'viewers', cell: viewers },
      { title: 'Actions', isHidden: true, cell: actions, class: 'actions' },
    ],
  });
}

function end(row, onEnd) {
  dialog({
    title: 'End session', action: 'End session', isDangerous: true, busyText: 'Ending…',
    content: [
      el('p', {}, el('strong', {}, foreign(row.experience || 'A session without a name')), ' on ', foreign(row.worker_id), ` (${shortId(row.id)}, ${span(ageOf(row.created_at))} old) ends now.`),
      el('p', { class: row.viewers ? 'warn-text' : 'soft' }, row.viewers ? `${plural(row.viewers, 'viewer')} will see that the stream has ended.` : 'Nobody is watching.'),
    ],
    async act() {
      const answer = await call('DELETE', `/sessions/${encodeURIComponent(row.id)}`, { within: 20000 });
      // Somebody else was faster: it is what was wanted.
      if (!answer.ok && answer.status !== 404) return answer;
      say(`Session ${shortId(row.id)} has ended.`);
      refreshSoon();
      onEnd?.();
      return true;
    },
  });
}

/** The session whose details are open, kept up to date by `showDetails`. */
let detailed;

function details(row) {
  const list = el('dl', { class: 'facts' });
  const box = dialog({
    title: row.experience ? foreign(row.experience) : 'Session', cancel: 'Close', onClose: () => { detailed = undefined; },
    content: [list, ...(row.stream_url ? [linkBox('Stream address', row.stream_url, 'Whoever has it has the session.')] : [])],
  });
  const stop = el('button', { type: 'button', class: 'button danger', on: { click: () => end(row, box.close) } }, 'End session');
  box.buttons.append(stop);
  detailed = { id: row.id, workerId: row.worker_id, list, stop };
  showFacts(list, row);
}

function showFacts(list, row) {
  const stats = row.stats ?? {};
  const rate = (value, unit, digits = 0) => (Number.isFinite(value) ? `${value.toFixed(digits)} ${unit}` : undefined);
  const facts = {
    Status: [statusWord(row.status), row.phase].filter(Boolean).join(', '),
    Session: row.id,
    Worker: row.worker_id,
    Body: row.body_ip,
    District: row.district,
    Created: clockTime(row.created_at),
    Ready: row.ready_at && clockTime(row.ready_at),
    Viewers: `${row.viewers}, ${plural(row.disconnect_count, 'disconnect')} so far`,
    Microphone: row.mic ? 'on' : 'off',
    Connection: [stats.connection_state, stats.ice_candidate_type].filter(Boolean).join(', '),
    'Round trip': Number.isFinite(stats.rtt_ms) ? millis(stats.rtt_ms) : undefined,
    Bitrate: rate(stats.bitrate_kbps / 1000, 'Mbit/s', 1),
    Frames: rate(stats.fps, 'a second'),
    'Packets lost': Number.isFinite(stats.packets_lost) ? number(stats.packets_lost) : undefined,
    Rating: row.rating && `${row.rating} of 10`,
    Ended: row.end_reason && (END_WORDS[row.end_reason] ?? row.end_reason),
    Detail: row.detail,
  };
  const said = Object.entries(facts).filter(([, value]) => value);
  const text = JSON.stringify(said);
  if (list.dataset.said === text) return;
  list.dataset.said = text;
  list.replaceChildren(...said.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, foreign(String(value)))]));
}

/** The open details as they are now. */
async function refreshDetails() {
  const open = detailed;
  if (!open) return;
  const answer = await call('GET', `/sessions/${encodeURIComponent(open.id)}`);
  if (detailed !== open) return;
  if (answer.ok) showFacts(open.list, answer.data);
  else if (answer.status === 404) {
    open.stop.disabled = true;
    if (!open.list.dataset.over) {
      open.list.dataset.over = 'yes';
      open.list.before(el('p', { class: 'note warn', role: 'status' }, 'This session has ended.'));
    }
  }
}
