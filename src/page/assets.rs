//! The files of the page, served below `/session/<id>/_neck/`. All of them are in the binary.
//!
//! `page.js` is the concatenation of small files inside one function, so that they share names
//! with each other and none with the page. The browser tests' fixture reads the order from here.

/// The script as the browser gets it.
const PAGE: &str = concat!(
    "(() => {\n'use strict';\nif (window.hydraneck) return;\n",
    "const ENGLISH = ",
    include_str!("lang/en.json"),
    ";\n",
    include_str!("js/boot.js"),
    include_str!("js/storage.js"),
    include_str!("js/i18n.js"),
    include_str!("js/stream_state.js"),
    include_str!("js/stream_monitor.js"),
    include_str!("js/server.js"),
    include_str!("js/peer.js"),
    include_str!("js/socket.js"),
    include_str!("js/elements.js"),
    include_str!("js/banner.js"),
    include_str!("js/rating.js"),
    include_str!("js/report.js"),
    include_str!("js/card.js"),
    include_str!("js/exit.js"),
    include_str!("js/reconnect.js"),
    include_str!("js/stats.js"),
    include_str!("js/mic_webrtc.js"),
    include_str!("js/mic.js"),
    include_str!("js/push_to_talk.js"),
    include_str!("js/mic_button.js"),
    include_str!("js/start.js"),
    "})();\n",
);

/// Changes whenever the script does; part of its address, so that no browser runs an old one.
pub(super) const PAGE_TAG: u64 = fingerprint(PAGE.as_bytes());

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const WORDS: &str = "application/json";

/// Every file: name below `_neck/`, type, content.
const FILES: [(&str, &str, &str); 6] = [
    ("page.js", SCRIPT, PAGE),
    ("style.css", STYLE, include_str!("style.css")),
    ("lang/de.json", WORDS, include_str!("lang/de.json")),
    ("lang/en.json", WORDS, include_str!("lang/en.json")),
    ("lang/fr.json", WORDS, include_str!("lang/fr.json")),
    ("lang/nl.json", WORDS, include_str!("lang/nl.json")),
];

/// One file of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageFile {
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub bytes: &'static [u8],
    /// Value of `ETag`, quotes included; strong.
    pub etag: String,
}

/// The file `name` (`page.js`, `style.css`, `lang/nl.json`, ...), if there is one. A query is no
/// part of the name.
#[must_use]
pub(crate) fn asset(name: &str) -> Option<PageFile> {
    let (_, content_type, text) = FILES.iter().find(|(known, ..)| *known == name)?;
    Some(PageFile {
        content_type,
        bytes: text.as_bytes(),
        etag: format!("\"{:016x}\"", fingerprint(text.as_bytes())),
    })
}

/// FNV-1a, 64 bits: tells versions of our own files apart, protects nothing.
const fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The script delays the page's first module, so it has a budget.
    const PAGE_MAX_BYTES: usize = 64 * 1024;

    fn words(language: &str) -> BTreeMap<String, String> {
        let file = asset(&format!("lang/{language}.json")).unwrap();
        serde_json::from_slice(file.bytes).unwrap()
    }

    fn placeholders(text: &str) -> Vec<&str> {
        let mut names: Vec<_> = text
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_language_says_everything_with_the_same_placeholders() {
        let english = words("en");
        for language in ["nl", "fr", "de"] {
            let other = words(language);
            assert!(english.keys().eq(other.keys()), "{language}");
            for (key, text) in &english {
                assert!(!other[key].trim().is_empty(), "{language} {key}");
                assert_eq!(
                    placeholders(text),
                    placeholders(&other[key]),
                    "{language} {key}"
                );
            }
        }
    }

    #[test]
    fn every_end_reason_of_the_api_has_its_words() {
        use crate::protocol::EndReason as R;
        let english = words("en");
        for reason in [
            R::Deleted,
            R::Disconnected,
            R::Drained,
            R::MaxDuration,
            R::NeverConnected,
            R::ProcessExited,
            R::Quit,
            R::StartFailed,
            R::WorkerShutdown,
        ] {
            assert!(english.contains_key(&format!("why_{reason}")), "{reason}");
        }
    }

    #[test]
    fn every_word_the_script_says_exists() {
        let english = words("en");
        let mut said = 0;
        for call in PAGE.split("say('").skip(1) {
            let key = call.split('\'').next().unwrap();
            assert!(english.contains_key(key), "say('{key}')");
            said += 1;
        }
        assert!(said > 20);
    }

    #[test]
    fn files_are_found_by_their_name_alone_and_tagged_by_their_content() {
        let page = asset("page.js").unwrap();
        assert_eq!(page.content_type, SCRIPT);
        assert_eq!(page.etag, format!("\"{PAGE_TAG:016x}\""));
        assert_ne!(page.etag, asset("style.css").unwrap().etag);
        for unknown in [
            "",
            "/page.js",
            "page.js?v=1",
            "../mod.rs",
            "lang/xx.json",
            "lang",
        ] {
            assert_eq!(asset(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_script_keeps_to_its_budget() {
        assert!(PAGE.len() <= PAGE_MAX_BYTES, "{} bytes", PAGE.len());
    }
}
