// Rating: five stars in half steps, 1 to 10 points; by touch, mouse and keyboard; may be changed.

const STAR = 'M12 2.6l2.9 5.9 6.5.9-4.7 4.6 1.1 6.5L12 17.4l-5.8 3.1 1.1-6.5L2.6 9.4l6.5-.9z';
const SEND_AFTER_MS = 700; // the arrow keys pass over scores that nobody means
const RETRY_MS = 2000; // after the rate limit's refusal, when it names no time

function createStars() {
  let score = visit.facts.score;
  let timer = null;
  const stars = [1, 2, 3, 4, 5].map(() => make('span.star', {}, icon(STAR), icon(STAR)));
  const thanks = make('p.thanks', { role: 'status' });
  const slider = make('div.stars', {
    role: 'slider', tabIndex: 0, 'aria-label': say('rate'), 'aria-valuemin': 0, 'aria-valuemax': 10,
  }, ...stars);

  function show(points) {
    stars.forEach((star, at) => star.style.setProperty('--full', `${Math.min(2, Math.max(0, points - 2 * at)) * 50}%`));
  }
  function settle() {
    show(score);
    slider.setAttribute('aria-valuenow', score);
    slider.setAttribute('aria-valuetext', score ? say('stars', { stars: number(score / 2, score % 2) }) : say('not_rated'));
  }
  async function send(isRetry) {
    const sent = score;
    const answer = await post('rating', { score: sent }, { keepalive: true }).catch(() => null);
    if (sent !== score) return;
    if (answer && answer.status === 429 && !isRetry) {
      timer = later(() => send(true), 1000 * Number(answer.headers.get('Retry-After')) || RETRY_MS);
      return;
    }
    thanks.textContent = say(answer && answer.ok ? 'thanks' : 'rating_failed');
  }
  function rate(points, delay) {
    score = Math.min(10, Math.max(1, points));
    visit.keep({ score });
    settle();
    clearTimeout(timer);
    timer = later(send, delay);
  }
  function pointed(event) {
    const box = slider.getBoundingClientRect();
    return Math.min(10, Math.max(1, Math.ceil((10 * (event.clientX - box.left)) / box.width)));
  }

  listen(slider, 'pointermove', (event) => show(pointed(event)));
  listen(slider, 'pointerleave', settle);
  listen(slider, 'pointerdown', (event) => slider.setPointerCapture(event.pointerId));
  listen(slider, 'pointerup', (event) => rate(pointed(event), 0));
  listen(slider, 'keydown', (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 2, PageDown: -2 }[event.key];
    const points = { Home: 1, End: 10 }[event.key] || (step && score + step);
    if (points === undefined) return;
    event.preventDefault();
    rate(points, SEND_AFTER_MS);
  });
  settle();
  if (score) thanks.textContent = say('thanks');
  return make('div.rating', {}, make('p.ask', {}, say('rate')), slider, thanks);
}
