// Calls to the controller.

const API = '/admin/api/v1';
/** Time for an answer that needs no work. */
const ANSWER_MS = 10000;

// The half of our pass that only this document was given. It goes with every call; it is taken out
// of the document so that it lies about nowhere else.
const proof = (() => {
  const meta = document.querySelector('meta[name=neck-proof]');
  const { content } = meta;
  meta.remove();
  return content;
})();

const fields = (more) => ({ 'x-neck-proof': proof, ...more });

/** The pass is no longer good. */
function signedOut() {
  location.replace('/admin?ended');
}

/**
 * One call. Never throws: `ok` says whether it was granted, `error` holds the words of a refusal,
 * `isAway` that nobody answered.
 */
async function call(method, path, { body, headers, within = ANSWER_MS } = {}) {
  let answer;
  try {
    answer = await fetch(API + path, {
      method,
      headers: fields({ ...(body && { 'content-type': 'application/json' }), ...headers }),
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(within),
    });
    const text = await answer.text();
    const data = text ? JSON.parse(text) : undefined;
    if (answer.ok) return { ok: true, status: answer.status, data };
    if (answer.status === 401) signedOut();
    return { ok: false, status: answer.status, error: data, wait: answer.headers.get('retry-after') };
  } catch (error) {
    const isLate = error.name === 'TimeoutError';
    return {
      ok: false,
      isAway: !answer,
      error: { error: isLate ? 'The controller did not answer in time.' : 'The controller does not answer.' },
    };
  }
}
