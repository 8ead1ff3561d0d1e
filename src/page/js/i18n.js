// Translation: English is built in; another language is fetched when the browser prefers it.

const LANGUAGES = ['en', 'nl', 'fr', 'de'];
let words = ENGLISH;
let language = 'en';

function preferredLanguage() {
  const wanted = navigator.languages && navigator.languages.length ? navigator.languages : [navigator.language || 'en'];
  for (const tag of wanted) {
    const short = tag.toLowerCase().split('-')[0];
    if (LANGUAGES.includes(short)) return short;
  }
  return 'en';
}

const WORDS_MS = 1000; // a late language is worse than English at once

async function loadWords() {
  const wanted = preferredLanguage();
  if (wanted === 'en') return;
  let isTooLate = false;
  later(() => { isTooLate = true; }, WORDS_MS);
  const answer = await NATIVE.fetch(`${CONFIG.base}_neck/lang/${wanted}.json`);
  if (!answer.ok) return;
  const translated = await answer.json();
  if (isTooLate) return; // half a page in each language helps nobody
  words = { ...ENGLISH, ...translated };
  language = wanted;
}

/** The words for `key`, with `{name}` filled in; an unknown key shows itself. */
function say(key, values = {}) {
  const text = words[key] || ENGLISH[key] || key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** A number as this language writes it. */
function number(value, digits = 0) {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
