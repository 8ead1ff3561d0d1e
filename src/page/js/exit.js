// Exit: the stream page's own Exit button ends the session and leads back. It has no id, its
// label is translated, and its sidebar stops bubbling clicks: so we look in the capture phase.

const EXIT_LABELS = ['Exit', 'Quitter', 'Sair', 'Beenden', 'Verlassen', 'Afsluiten', 'Salir', 'Esci', '退出', '나가기', '종료', '終了'];
const QUIT_PATIENCE_MS = 1500; // longer than any answer needs; the request outlives the page anyway

const hasExitLabel = (button) => EXIT_LABELS.includes(button.textContent.trim());

function isExit(button) {
  const bar = button.closest('.sidebar-stream-buttons');
  if (!bar) return Boolean(button.closest('#sidebar-root')) && hasExitLabel(button);
  const buttons = [...bar.querySelectorAll('button')];
  return button === (buttons.find(hasExitLabel) || buttons[buttons.length - 1]);
}

let isLeaving = false;
async function quit() {
  if (isLeaving) return;
  isLeaving = true;
  banner.show(say('leaving'), { isBusy: true });
  const told = post('quit', {}, { keepalive: true }).catch(() => navigator.sendBeacon(`${CONFIG.base}quit`));
  await Promise.race([told, new Promise((done) => setTimeout(done, QUIT_PATIENCE_MS))]);
  // Going back must not lead to the dead stream.
  location.replace(CONFIG.returnUrl);
}

function interceptExit() {
  listen(window, 'click', (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const button = target && target.closest('button');
    if (!button || !isExit(button)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    quit();
  }, true);
}
