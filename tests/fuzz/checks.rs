//! What must hold for any bytes, shared by the bounded run and the coverage-guided targets.

use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::time::Duration;

use hydraneckwebrtc::testing::clock;
use hydraneckwebrtc::testing::config::Config;
use hydraneckwebrtc::testing::ids::SessionId;
use hydraneckwebrtc::testing::mic::rtp_rewriter::{Rewrite, RtpHeader, RtpRewriter};
use hydraneckwebrtc::testing::mic::sdp_offer::{SdpOffer, without_addresses};
use hydraneckwebrtc::testing::mic::{MicSettings, Microphones};
use hydraneckwebrtc::testing::proxy::inject::Injector;
use webrtc_util::marshal::{Marshal as _, MarshalSize as _, Unmarshal as _};

const SNIPPET: &str = "<script src=\"/neck-fuzz.js\"></script>";
/// Longest wait for a microphone's end.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a stream under test goes out as.
const SSRC: u32 = 7;

/// Two places to cut, then the document: the output is the document with the snippet in at most
/// one place, wherever it was cut.
pub(crate) fn inject(data: &[u8]) {
    let [a, b, page @ ..] = data else { return };
    let mut cuts = [usize::from(*a), usize::from(*b)].map(|n| n.min(page.len()));
    cuts.sort_unstable();
    let run = |pieces: &[&[u8]]| {
        let mut injector = Injector::new(SNIPPET.into());
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(injector.push(piece).unwrap());
        }
        out.extend(injector.finish().unwrap());
        out
    };
    let whole = run(&[page]);
    let cut = run(&[&page[..cuts[0]], &page[cuts[0]..cuts[1]], &page[cuts[1]..]]);
    assert_eq!(whole, cut, "cut at {cuts:?}");
    let added = whole.len() - page.len();
    assert!(
        added == 0 || added == SNIPPET.len(),
        "{added} bytes came in"
    );
    let at = (0..=page.len())
        .find(|at| whole.starts_with(&page[..*at]) && whole[*at + added..] == page[*at..]);
    assert!(at.is_some(), "the document itself was changed");
}

/// A configuration is read or its problems are named.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(problems) = Config::parse(&text, None) {
        assert!(!problems.to_string().is_empty());
    }
}

/// An offer is parsed without a panic, and no address is left in the description that is parsed.
pub(crate) fn offer(data: &[u8]) {
    let _ = SdpOffer::parse(data);
    // The description inside the JSON text, as far as line ends are concerned.
    let sdp = String::from_utf8_lossy(data).replace("\\r\\n", "\r\n");
    if let Ok(sdp) = without_addresses(&sdp) {
        assert_eq!(candidates(&sdp).count(), 0, "{sdp}");
        let mut connections = sdp.lines().filter(|line| line.starts_with("c="));
        assert!(connections.all(|line| line == "c=IN IP4 0.0.0.0"), "{sdp}");
    }
}

/// The candidate lines of a description. The same words inside another line, such as a `mid` of a
/// stranger's choice, are text to every parser.
fn candidates(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.lines().filter(|line| line.starts_with("a=candidate:"))
}

/// An offer is refused as the browser's fault, or answered with the one address of ours; when its
/// session has ended nothing is open.
pub(crate) fn answer(data: &[u8]) {
    static MICROPHONES: OnceLock<Microphones> = OnceLock::new();
    let here = Ipv4Addr::LOCALHOST;
    let microphones =
        MICROPHONES.get_or_init(|| Microphones::new(MicSettings::on(here.into()), |_, _| {}));
    let session = SessionId::random().unwrap();
    match microphones.offer(&session, (here, 9).into(), data) {
        Ok(answer) => {
            let candidates: Vec<&str> = candidates(&answer.sdp).collect();
            assert_eq!(candidates.len(), 1, "{}", answer.sdp);
            assert!(candidates[0].contains(" 127.0.0.1 "), "{}", answer.sdp);
        }
        Err(error) => assert!((400..500).contains(&error.status()), "{error}"),
    }
    microphones.end(&session);
    let deadline = clock::now() + PATIENCE;
    while microphones.open() > 0 {
        assert!(clock::now() < deadline, "a microphone is left open");
        std::thread::yield_now();
    }
}

/// A packet that is read is the same when it was written and is read again; whatever a browser
/// numbers its packets, one stream goes out.
pub(crate) fn rtp(data: &[u8]) {
    if let Ok(packet) = rtp::packet::Packet::unmarshal(&mut &*data)
        && let Ok(bytes) = packet.marshal()
    {
        assert_eq!(bytes.len(), packet.marshal_size());
        let again = rtp::packet::Packet::unmarshal(&mut &*bytes);
        assert_eq!(again.ok().as_ref(), Some(&packet));
    }
    let mut rewriter = RtpRewriter::new(SSRC);
    let mut now = clock::now();
    for bytes in data.chunks_exact(8) {
        now += Duration::from_millis(u64::from(bytes[7]));
        let packet = RtpHeader {
            ssrc: u32::from(bytes[0] & 3),
            sequence: u16::from_be_bytes([bytes[1], bytes[2]]),
            timestamp: u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]),
            marker: bytes[0] & 4 > 0,
        };
        if bytes[0] & 0x80 > 0 {
            rewriter.end_input();
        }
        if let Rewrite::Forward { header, missing } = rewriter.rewrite(packet, now) {
            assert_eq!(header.ssrc, SSRC);
            assert!(missing >= -1);
            assert_eq!(rewriter.rewrite(packet, now), Rewrite::Duplicate);
        }
    }
}
