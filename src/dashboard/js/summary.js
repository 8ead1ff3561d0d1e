// The whole fleet at a glance.

const PARTS = ['connected', 'ready', 'starting', 'lingering', 'ending'];

const summary = (() => {
  const verdict = badge();
  const since = el('span', { class: 'soft small' });
  const problems = el('ul', { class: 'problems' });
  const calm = el('p', { class: 'soft' }, 'Every worker is heard and has its tunnel.');
  const slots = bar('Sessions that hold a slot', (whole) => `of ${number(whole)}`);
  const slotsBig = el('strong', { class: 'big' });
  const partOf = (name) => {
    const count = el('b');
    const dot = el('span', { class: 'dot', 'aria-hidden': 'true' });
    return { name, count, node: el('li', { 'data-state': name }, dot, count, ` ${statusWord(name).toLowerCase()}`) };
  };
  const showParts = (all, counts) => {
    for (const { name, count, node } of all) {
      write(count, number(counts[name]));
      mark(node, 'data-none', counts[name] ? undefined : 'yes');
    }
  };
  const parts = PARTS.map(partOf);
  const workers = el('strong', { class: 'big' });
  const workerParts = ['healthy', 'draining', 'unhealthy'].map(partOf);
  const viewers = el('strong', { class: 'big' });
  const watching = el('span', { class: 'soft' });
  const mics = el('li');
  const tile = (title, ...inner) => el('div', { class: 'tile' }, el('h2', {}, title), ...inner);
  byId('summary').append(
    el('div', { class: 'tile health' }, el('h2', {}, 'Health'), el('div', { class: 'line' }, verdict.node, since), calm, problems),
    tile('Sessions', el('div', { class: 'line' }, slotsBig, el('span', { class: 'grow' }, slots.node)), el('ul', { class: 'parts' }, ...parts.map(({ node }) => node))),
    tile('Workers', el('div', { class: 'line' }, workers), el('ul', { class: 'parts' }, ...workerParts.map(({ node }) => node))),
    tile('Visitors', el('div', { class: 'line' }, viewers, watching), el('ul', { class: 'parts' }, mics)),
  );

  return {
    show({ health, counts, problem_count: problemCount, workers: page }) {
      const isOk = health.status === 'ok';
      verdict.show(isOk ? 'healthy' : 'degraded', isOk ? 'All is well' : 'Degraded');
      write(since, `up ${span(health.uptime_seconds)}`);
      const lines = health.extra.problems.map(withLocalTimes);
      if (problemCount > lines.length) lines.push(`and ${number(problemCount - lines.length)} more`);
      if (health.uptime_seconds < 30 && page.total === 0) lines.unshift('the controller has just started: its workers report within seconds');
      if (lines.join('\n') !== problems.dataset.said) {
        problems.dataset.said = lines.join('\n');
        show(calm, lines.length === 0);
        problems.replaceChildren(...lines.map((line) => el('li', {}, foreign(CAPITAL(line)))));
      }
      const { active_sessions: active, max_sessions: max } = health.extra;
      write(slotsBig, number(active));
      slots.show(active, max);
      showParts(parts, counts.sessions);
      write(workers, number(page.total));
      showParts(workerParts, counts);
      write(viewers, number(counts.viewers));
      write(watching, counts.viewers === 1 ? 'viewer' : 'viewers');
      write(mics, `${plural(counts.mics, 'microphone')} on`);
      mark(mics, 'data-none', counts.mics ? undefined : 'yes');
      write(byId('where'), [health.district, `v${health.version}`].filter(Boolean).join(' · '));
      document.title = `${isOk ? '' : '⚠ '}${number(active)} / ${number(max)} – hydraneckwebrtc`;
    },
  };
})();
