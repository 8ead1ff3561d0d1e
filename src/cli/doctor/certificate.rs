//! When the certificates end: the configured one, or those in ACME's cache.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Finding;
use crate::clock;
use crate::config::Config;

const CHECK: &str = "certificate";
/// ACME renews with a third of 90 days left; below half of that something hinders it.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// DER's tags, as far as the way to the end date needs them.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    if let Some(files) = &config.server.tls {
        let findings = vec![of_file(&files.certificate)];
        return match crate::tls::server(&files.certificate, &files.private_key) {
            Ok(_) => findings,
            Err(error) => vec![Finding::fail(CHECK, error.to_string(), "")],
        };
    }
    if config.server.domain.is_none() || config.server.listen.is_some() {
        return Vec::new();
    }
    let cached = cached(&config.server.acme.cache_dir);
    if cached.is_empty() {
        return vec![Finding::warn(
            CHECK,
            format!("none cached in {}", config.server.acme.cache_dir.display()),
            "ACME gets one when the process runs and port 443 is reached from outside",
        )];
    }
    cached.iter().map(|path| of_file(path)).collect()
}

/// The cache's certificate files.
fn cached(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("cached_cert_")
        })
        .collect()
}

fn of_file(path: &Path) -> Finding {
    let shown = path.display();
    let certificate = match CertificateDer::from_pem_file(path) {
        Ok(certificate) => certificate,
        Err(error) => {
            let what = format!("{shown}: {error}");
            return Finding::fail(CHECK, what, "it must be a readable PEM file");
        }
    };
    let Some(end) = not_after(&certificate) else {
        return Finding::warn(CHECK, format!("{shown}: its end date cannot be read"), "");
    };
    let day = clock::rfc3339(end);
    match end.duration_since(clock::wall()) {
        Err(_) => Finding::fail(CHECK, format!("{shown} ended at {day}"), "renew it"),
        Ok(left) if left < SOON => Finding::warn(
            CHECK,
            format!("{shown} ends at {day}, in {}", clock::human(left)),
            "renew it",
        ),
        Ok(_) => Finding::ok(CHECK, format!("{shown} ends at {day}")),
    }
}

/// The end of a certificate's validity (RFC 5280, 4.1): the second time of the third or fourth
/// field after the serial number.
fn not_after(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if *rest.first()? == VERSION {
        rest = element(rest)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (tag, validity, _) = element(rest)?;
    if tag != SEQUENCE {
        return None;
    }
    let (_, _, second) = element(validity)?;
    let (tag, text, _) = element(second)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            (length, rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time(tag: u8, text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            // RFC 5280, 4.1.2.5.1: 50 and above are of the last century.
            let century = if &digits[..2] < "50" { "20" } else { "19" };
            (format!("{century}{}", &digits[..2]), &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (digits[..4].to_owned(), &digits[4..]),
        _ => return None,
    };
    let part = |n: usize| &rest[2 * n..2 * n + 2];
    let (month, day, hour, minute, second) = (part(0), part(1), part(2), part(3), part(4));
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    let at = humantime::parse_rfc3339(&text).ok()?;
    (at >= UNIX_EPOCH).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["neck.test".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem().into_bytes()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_off_its_der_in_both_forms() {
        for year in [2031, 2061] {
            let der = CertificateDer::from_pem_slice(&made(year)).unwrap();
            let end = clock::rfc3339(not_after(&der).unwrap());
            assert_eq!(end, format!("{year}-02-03T00:00:00Z"));
            for cut in 0..der.len().min(200) {
                let _ = not_after(&der[..cut]);
            }
        }
    }

    #[test]
    fn an_ended_certificate_fails() {
        let path = std::env::temp_dir().join(format!("neck-cert-{}", crate::ids::label()));
        std::fs::write(&path, made(2021)).unwrap();
        let finding = of_file(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.what.contains("2021-02-03"), "{finding}");
    }
}
