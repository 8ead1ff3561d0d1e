//! Pages for when there is no stream: a dead link, and a server that does not answer.

use std::collections::HashMap;

use super::{asset, escape};

/// The page; `{names}` are filled in.
const PAGE: &str = include_str!("gone.html");
/// Languages we have words for; the first one serves everybody else.
const LANGUAGES: [&str; 4] = ["en", "nl", "fr", "de"];
/// Seconds until the page tries again: a restarted controller hears from its workers within one
/// heartbeat, five seconds by default.
const REFRESH_SECONDS: u32 = 5;

/// The 404 page for a session that is over or never was; it leads to `return_url`. The language
/// is the first known one of `Accept-Language`.
#[must_use]
pub(crate) fn gone(return_url: &str, accept_language: Option<&str>) -> String {
    let (language, words) = words(accept_language);
    fill(&[
        ("language", language),
        ("refresh", ""),
        ("title", word(&words, "gone_title")),
        ("text", word(&words, "gone_text")),
        ("href", &escape(web_address(return_url))),
        ("action", word(&words, "start_new")),
    ])
}

/// The page for 502, 503 and 504: it loads itself again, so that the visitor arrives as soon as
/// the worker answers.
#[must_use]
pub(crate) fn unavailable(accept_language: Option<&str>) -> String {
    let (language, words) = words(accept_language);
    fill(&[
        ("language", language),
        (
            "refresh",
            &format!("\n<meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">"),
        ),
        ("title", word(&words, "unavailable_title")),
        ("text", word(&words, "unavailable_text")),
        ("href", ""),
        ("action", word(&words, "try_again")),
    ])
}

/// One pass, so that a value is never read as a template.
fn fill(values: &[(&str, &str)]) -> String {
    let mut page = String::with_capacity(PAGE.len() + 512);
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once('{') {
        page.push_str(before);
        let known = values
            .iter()
            .find_map(|(name, value)| Some((value, after.strip_prefix(name)?.strip_prefix('}')?)));
        if let Some((value, after)) = known {
            page.push_str(value);
            rest = after;
        } else {
            page.push('{');
            rest = after;
        }
    }
    page.push_str(rest);
    page
}

/// Only http and https lead anywhere; anything else stays here.
fn web_address(text: &str) -> &str {
    let is_web = ["https://", "http://"].iter().any(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    if is_web { text } else { "/" }
}

fn words(accept_language: Option<&str>) -> (&'static str, HashMap<String, String>) {
    let language = preferred(accept_language.unwrap_or_default());
    let words = asset(&format!("lang/{language}.json"))
        .and_then(|file| serde_json::from_slice(file.bytes).ok())
        .unwrap_or_default();
    (language, words)
}

fn word<'a>(words: &'a HashMap<String, String>, key: &'a str) -> &'a str {
    words.get(key).map_or(key, String::as_str)
}

/// Browsers list languages best first, so the weights need no reading.
fn preferred(accept_language: &str) -> &'static str {
    accept_language
        .split(',')
        .filter_map(|entry| entry.split([';', '-']).next())
        .find_map(|wanted| {
            LANGUAGES
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(wanted.trim()))
        })
        .unwrap_or(LANGUAGES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_link_leads_to_the_return_address() {
        let page = gone("https://head.example/?a=1&b=2", None);
        assert!(
            page.contains("<a href=\"https://head.example/?a=1&amp;b=2\">Start new stream</a>")
        );
        assert!(page.contains("<html lang=\"en\">"));
        assert!(!page.contains("http-equiv"));
    }

    #[test]
    fn a_hostile_return_address_is_no_markup_and_no_script() {
        let page = gone("https://x/\"><script>alert(1)</script>{text}", None);
        assert!(!page.contains("<script"));
        assert!(page.contains("{text}\">"), "a value is no template");
        for hostile in [
            "javascript:alert(1)",
            " javascript:alert(1)",
            "data:text/html,x",
            "é",
            "",
        ] {
            assert!(gone(hostile, None).contains("<a href=\"/\">"), "{hostile}");
        }
    }

    #[test]
    fn an_unavailable_page_loads_itself_again() {
        let page = unavailable(Some("fr-BE,fr;q=0.9"));
        assert!(page.contains("http-equiv=\"refresh\" content=\"5\""));
        assert!(page.contains("<html lang=\"fr\">"));
        assert!(page.contains("<a href=\"\">Réessayer</a>"));
    }

    #[test]
    fn no_placeholder_is_left_over() {
        for page in [gone("https://x/", Some("nl")), unavailable(None)] {
            for name in ["language", "refresh", "title", "text", "href", "action"] {
                assert!(!page.contains(&format!("{{{name}}}")), "{name}");
            }
        }
    }

    #[test]
    fn the_first_known_language_is_taken() {
        for (header, language) in [
            ("", "en"),
            ("*", "en"),
            ("nl-BE,nl;q=0.9,en;q=0.8", "nl"),
            ("pt-BR, DE;q=0.5", "de"),
            ("xx;;;,,-", "en"),
        ] {
            assert_eq!(preferred(header), language, "{header}");
        }
    }
}
