//! Offers of browsers, and everything that must be refused.

use super::super::error::MicError;
use super::*;
use proptest::prelude::*;

pub(crate) const BROWSER: &str = "v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    a=group:BUNDLE 0\r\na=msid-semantic: WMS\r\n\
    m=audio 50001 UDP/TLS/RTP/SAVPF 111 63 0\r\nc=IN IP4 203.0.113.9\r\n\
    a=rtcp:50002 IN IP4 203.0.113.9\r\n\
    a=candidate:1 1 udp 2122260223 203.0.113.9 50001 typ host\r\n\
    a=candidate:2 1 udp 2122260222 abc.local 50003 typ host\r\na=end-of-candidates\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=ice-options:trickle\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:\
    66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=rtpmap:63 red/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=ssrc:1234 cname:x\r\n";

pub(crate) fn body(kind: &str, sdp: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({"type": kind, "sdp": sdp})).unwrap()
}

#[test]
fn a_browsers_offer_is_accepted_without_its_addresses() {
    for sdp in [BROWSER.to_owned(), BROWSER.replace("\r\n", "\n")] {
        let offer = SdpOffer::parse(&body("offer", &sdp)).unwrap();
        assert_eq!(offer.opus, [111]);
        let stripped = without_addresses(&sdp).unwrap();
        for gone in ["candidate", "a=rtcp:", "abc.local", "203.0.113.9"] {
            assert!(!stripped.contains(gone), "{gone} is left");
        }
        assert!(stripped.contains("a=rtcp-mux\r\n"));
    }
}

#[test]
fn recorded_offers_of_chromium_and_firefox_are_accepted_with_their_payload_types() {
    for (recorded, opus) in [
        (include_str!("../../tests/fuzz/offers/chromium.json"), 111),
        (include_str!("../../tests/fuzz/offers/firefox.json"), 109),
    ] {
        let offer = SdpOffer::parse(recorded.as_bytes()).unwrap();
        assert_eq!(offer.opus, [opus]);
    }
}

#[test]
fn session_attributes_apply_unless_the_section_has_its_own() {
    let ours = format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":"));
    let for_all = format!("a=group:BUNDLE 0\r\na=ice-ufrag:session\r\n{ours}\r\n");
    let with_both = BROWSER.replace("a=group:BUNDLE 0\r\n", &for_all);
    let offer = SdpOffer::parse(&body("offer", &with_both)).unwrap();
    assert_eq!(
        (offer.ufrag.as_str(), offer.fingerprints[0][1]),
        ("abcd", 0x11)
    );
    let kept = |line: &&str| *line == ours || !line.starts_with("a=fingerprint");
    let alone: Vec<&str> = with_both.lines().filter(kept).collect();
    let alone = alone.join("\r\n").replace("a=ice-ufrag:abcd\r\n", "") + "\r\n";
    let offer = SdpOffer::parse(&body("offer", &alone)).unwrap();
    assert_eq!(
        (offer.ufrag.as_str(), &offer.fingerprints[..]),
        ("session", &[[0xab; 32]][..])
    );
}

#[test]
fn fingerprints_of_other_hashes_are_ignored() {
    let more = "a=fingerprint:sha-1 00:11\r\na=fingerprint:sha-256";
    let offer = SdpOffer::parse(&body(
        "offer",
        &BROWSER.replace("a=fingerprint:sha-256", more),
    ));
    assert_eq!(offer.unwrap().fingerprints.len(), 1);
}

#[test]
fn anything_but_an_offer_of_one_opus_track_is_refused_with_its_reason() {
    let without = |part: &str| {
        let lines: Vec<&str> = BROWSER.lines().filter(|l| !l.contains(part)).collect();
        body("offer", &(lines.join("\r\n") + "\r\n"))
    };
    let swap = |from: &str, to: &str| body("offer", &BROWSER.replace(from, to));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "bad_request"),
        ("binary", vec![0xff; 40], "bad_request"),
        ("array", b"[]".to_vec(), "bad_request"),
        ("no sdp", br#"{"type":"offer"}"#.to_vec(), "bad_request"),
        (
            "null sdp",
            br#"{"type":"offer","sdp":null}"#.to_vec(),
            "bad_request",
        ),
        (
            "more fields",
            br#"{"type":"offer","sdp":"","x":1}"#.to_vec(),
            "bad_request",
        ),
        ("answer", body("answer", BROWSER), "not_an_offer"),
        ("rollback", body("rollback", ""), "not_an_offer"),
        ("empty sdp", body("offer", ""), "bad_sdp"),
        (
            "garbage sdp",
            body("offer", "hello\r\nworld\r\n"),
            "bad_sdp",
        ),
        (
            "hidden line",
            swap("a=mid:0\r\n", "a=mid:0\ra=candidate:1\r\n"),
            "bad_sdp",
        ),
        ("nul", swap("s=-", "s=\0"), "bad_sdp"),
        (
            "no section",
            body("offer", "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"),
            "no_audio",
        ),
        ("video only", swap("m=audio", "m=video"), "no_audio"),
        (
            "refused section",
            swap("m=audio 50001", "m=audio 0"),
            "no_audio",
        ),
        (
            "data beside",
            body(
                "offer",
                &format!(
                    "{BROWSER}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n"
                ),
            ),
            "not_only_audio",
        ),
        (
            "a hundred tracks",
            {
                let section = &BROWSER[BROWSER.find("m=audio").unwrap()..];
                body("offer", &format!("{BROWSER}{}", section.repeat(99)))
            },
            "not_only_audio",
        ),
        ("no opus", swap("opus/48000/2", "speex/48000/2"), "no_opus"),
        ("receives", swap("a=sendonly", "a=recvonly"), "not_sending"),
        ("inactive", swap("a=sendonly", "a=inactive"), "not_sending"),
        ("no ufrag", without("ice-ufrag"), "no_credentials"),
        ("no password", without("ice-pwd"), "no_credentials"),
        ("no fingerprint", without("fingerprint"), "no_credentials"),
        (
            "short password",
            swap("a=ice-pwd:0", "a=ice-pwd:"),
            "bad_sdp",
        ),
        (
            "bad character",
            swap("ufrag:abcd", "ufrag:ab cd"),
            "bad_sdp",
        ),
        ("sha-1 only", swap("sha-256", "sha-1"), "bad_sdp"),
        ("half a fingerprint", swap("EE:FF\r\n", "EE\r\n"), "bad_sdp"),
        ("no rtcp-mux", without("rtcp-mux"), "bad_sdp"),
        ("passive", swap("actpass", "passive"), "bad_sdp"),
        ("plain RTP", swap("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "bad_sdp"),
        ("no mid", without("a=mid"), "bad_sdp"),
        ("mid is no token", swap("a=mid:0", "a=mid:<0>"), "bad_sdp"),
        (
            "stereo at 4.8 kHz",
            swap("opus/48000/2", "opus/4800/2"),
            "no_opus",
        ),
        ("opus unlisted", swap("SAVPF 111", "SAVPF 112"), "no_opus"),
        (
            "opus among RTCP",
            body(
                "offer",
                &BROWSER
                    .replace(" 111 63", " 72 63")
                    .replace(":111 ", ":72 "),
            ),
            "no_opus",
        ),
        ("64 KiB and one", vec![b' '; OFFER_MAX + 1], "too_large"),
        ("5 MB", body("offer", &BROWSER.repeat(6_000)), "too_large"),
    ];
    for (name, body, reason) in cases {
        let error = SdpOffer::parse(&body).err().map(MicError::from);
        assert_eq!(
            error.as_ref().map(MicError::reason),
            Some(reason),
            "{name}: {error:?}"
        );
        let status = if reason == "too_large" { 413 } else { 400 };
        assert_eq!(error.map(|e| e.status()), Some(status), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_body_is_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = SdpOffer::parse(&bytes);
    }

    #[test]
    fn a_mutated_offer_is_parsed_without_a_panic_and_keeps_no_address(
        cuts in proptest::collection::vec((0_usize..2000, 0_usize..40, "[ -~\r\n]{0,24}"), 0..6),
    ) {
        let mut sdp = BROWSER.to_owned();
        for (at, length, with) in cuts {
            let at = at.min(sdp.len());
            let to = (at + length).min(sdp.len());
            sdp.replace_range(at..to, &with);
        }
        let _ = SdpOffer::parse(&body("offer", &sdp));
        if let Ok(stripped) = without_addresses(&sdp) {
            let key = |line: &str| line.strip_prefix("a=").map(|a| a.split(':').next().unwrap_or(a).to_owned());
            let left: Vec<_> = stripped.lines().filter_map(key).collect();
            prop_assert!(!left.iter().any(|key| STRIPPED.contains(&key.as_str())), "{left:?}");
        }
    }
}
