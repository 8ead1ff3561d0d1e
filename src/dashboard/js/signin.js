// Asks for the token, once: the answer is a cookie that scripts cannot read.
(() => {
  'use strict';
  // A strict cookie does not come along from another site: whoever is signed in is, once asked
  // from here.
  if (document.querySelector('meta[name=neck-again]').content === 'yes') {
    location.replace('/admin');
    return;
  }
  const byId = (id) => document.getElementById(id);
  const [form, token, problem] = ['signin', 'token', 'problem'].map(byId);
  const button = form.querySelector('button');

  function say(text) {
    problem.textContent = text;
    problem.hidden = !text;
    token.setAttribute('aria-invalid', String(Boolean(text)));
  }

  async function signIn() {
    const answer = await fetch('/admin/api/session', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token: token.value.trim() }),
    });
    if (answer.ok) {
      token.value = '';
      location.replace('/admin');
      return;
    }
    const wait = answer.headers.get('retry-after');
    if (answer.status === 401) say('This is not the token.');
    else if (answer.status === 429) say(`Too many wrong tokens. Try again in ${wait} seconds.`);
    else say((await answer.json()).error);
    token.select();
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    button.disabled = true;
    say('');
    signIn()
      .catch(() => say('The controller does not answer. Try again in a moment.'))
      .finally(() => { button.disabled = false; });
  });
  byId('plain').hidden = window.isSecureContext;
  if (location.search === '?ended') say('You are signed out. Sign in again.');
  token.focus();
})();
