//! The one script tag that the proxy injects.

use std::fmt::Write;
use std::net::IpAddr;

use super::assets::PAGE_TAG;
use super::escape;
use crate::ids::SessionId;

/// Characters of a free text (experience, district, ...) that reach the page: issue forms and
/// screens have no use for more.
const TEXT_MAX: usize = 300;

/// What the script is told, as `data-` attributes of its tag.
#[derive(Clone, Debug)]
pub(crate) struct PageConfig<'a> {
    /// The session of this page.
    pub session: &'a SessionId,
    /// Where "Start new stream" and Exit lead.
    pub return_url: &'a str,
    /// Experience name, for reports.
    pub experience: Option<&'a str>,
    /// District, for reports.
    pub district: Option<&'a str>,
    /// Name of the body, for reports.
    pub body: Option<&'a str>,
    /// Name of the head that sent the visitor, for reports.
    pub head: Option<&'a str>,
    /// Address of the body, for reports.
    pub body_ip: Option<IpAddr>,
    /// Whether media is forced through the relay; off for development only.
    pub relay_only: bool,
    /// Whether the microphone is offered.
    pub mic: bool,
}

/// The tag to put right after `<head>`: a blocking classic script of the same origin, so that it
/// runs before every module and passes a `script-src 'self'` policy.
#[must_use]
pub(crate) fn snippet(config: &PageConfig<'_>) -> String {
    let mut tag = format!(
        "<script src=\"/session/{id}/_neck/page.js?v={PAGE_TAG:016x}\" data-session=\"{id}\"",
        id = config.session
    );
    let body_ip = config.body_ip.map(|ip| ip.to_string());
    let texts = [
        ("return-url", Some(config.return_url)),
        ("experience", config.experience),
        ("district", config.district),
        ("body", config.body),
        ("head", config.head),
        ("body-ip", body_ip.as_deref()),
    ];
    for (name, value) in texts {
        // An address cut short leads elsewhere; everything else is only shown.
        let value = match (name, value) {
            (_, None) => continue,
            ("return-url", Some(value)) => value,
            (_, Some(value)) => shortened(value),
        };
        let _ = write!(tag, " data-{name}=\"{}\"", escape(value));
    }
    let _ = write!(
        tag,
        " data-relay-only=\"{}\" data-mic=\"{}\"></script>",
        config.relay_only, config.mic
    );
    tag
}

fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(TEXT_MAX).map(|(at, _)| at);
    end.map_or(text, |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config<'a>(session: &'a SessionId, experience: &'a str) -> PageConfig<'a> {
        PageConfig {
            session,
            return_url: "https://head.example/start?a=1&b=2",
            experience: Some(experience),
            district: Some("bxl1"),
            body: None,
            head: None,
            body_ip: Some(IpAddr::from([10, 0, 1, 50])),
            relay_only: true,
            mic: true,
        }
    }

    fn session() -> SessionId {
        "0123456789abcdef0123456789abcdef".parse().unwrap()
    }

    /// The browser tests' fixture builds its tag from this file, as the proxy does from here.
    #[test]
    fn the_tag_is_the_one_the_browser_tests_inject() {
        let template = include_str!("../../tests/browser/fixture/snippet.html");
        let id = session();
        let expected = template
            .trim()
            .replace("{session}", id.as_str())
            .replace("{version}", &format!("{PAGE_TAG:016x}"))
            .replace("{return_url}", "https://head.example/start?a=1&amp;b=2")
            .replace("{experience}", "Atlantis")
            .replace("{district}", "bxl1")
            .replace("{body_ip}", "10.0.1.50")
            .replace("{relay_only}", "true")
            .replace("{mic}", "true");
        assert_eq!(snippet(&config(&id, "Atlantis")), expected);
    }

    #[test]
    fn hostile_names_stay_inside_their_attribute() {
        let id = session();
        let clean = snippet(&config(&id, "x"));
        let hostile = [
            "\"></script><script>alert(1)</script>",
            "' onload='alert(1)",
            "\" onload=\"alert(1)",
            "</script >",
            "<!--",
            "&quot;><img src=x>",
            "a\r\n\0b\tc\u{7f}\u{85}",
            "`${alert(1)}`",
        ];
        for name in hostile {
            let tag = snippet(&config(&id, name));
            for special in ['"', '<', '>'] {
                let count = |text: &str| text.matches(special).count();
                assert_eq!(count(&tag), count(&clean), "{special} in {tag}");
            }
            assert!(!tag.contains('\''), "{tag}");
            assert!(!tag.chars().any(char::is_control), "{tag:?}");
        }
        // What is escaped already is data too, not markup.
        assert!(snippet(&config(&id, "&quot;")).contains("data-experience=\"&amp;quot;\""));
    }

    #[test]
    fn a_long_name_is_cut_between_characters_and_an_address_is_not() {
        let id = session();
        let tag = snippet(&config(&id, &"é".repeat(5000)));
        assert_eq!(tag.matches('é').count(), TEXT_MAX);
        let long = format!("https://head.example/{}", "a".repeat(2000));
        let tag = snippet(&PageConfig {
            return_url: &long,
            ..config(&id, "x")
        });
        assert!(tag.contains(&long));
    }
}
