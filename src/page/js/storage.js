// Storage: what must survive a reload of this tab (per session) and what the visitor chose (per
// browser). Storage may be forbidden; then it lasts as long as the page.

function createMemory(storage, key, initial) {
  const facts = { ...initial };
  try {
    Object.assign(facts, JSON.parse(storage().getItem(key) || '{}'));
  } catch {
    // Forbidden or garbage: start afresh.
  }
  return {
    facts,
    keep(changes) {
      Object.assign(facts, changes);
      try {
        storage().setItem(key, JSON.stringify(facts));
      } catch {
        // Forbidden or full: the page's own copy serves.
      }
    },
  };
}

const visit = createMemory(() => sessionStorage, `hydraneck:${CONFIG.session}`, {
  since: Date.now(),
  disconnects: 0,
  tries: 0,
  score: 0,
  candidate: '',
  resumeMic: false,
});

const wishes = createMemory(() => localStorage, 'hydraneck', {
  stats: false,
  pushToTalk: false,
  talkKey: 'Backquote',
});
