//! `SHA256SUMS`, and the signature over it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

/// A SHA-256.
pub(super) type Sum = [u8; 32];

/// The sum of exactly that file; lines are `hash  name`, a star before the name for binary mode.
pub(super) fn of(sums: &str, name: &str) -> Option<Sum> {
    sums.lines().find_map(|line| {
        let (hash, file) = line.trim().split_once(char::is_whitespace)?;
        let file = file.trim_start().trim_start_matches('*');
        (file == name).then(|| read(hash)).flatten()
    })
}

fn read(hex: &str) -> Option<Sum> {
    let mut sum = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (i, byte) in sum.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(sum)
}

/// Whether `signature` (64 bytes, or their base64) is `key`'s over `sums`.
pub(super) fn is_signed(key: &str, sums: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = STANDARD.decode(key) else {
        return false;
    };
    let decoded;
    let signature = if signature.len() == 64 {
        signature
    } else {
        decoded = STANDARD.decode(signature.trim_ascii()).unwrap_or_default();
        &decoded
    };
    let key = UnparsedPublicKey::new(&ED25519, key);
    key.verify(sums, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_found_by_the_exact_name() {
        let hash = "ab".repeat(32);
        let text = format!(
            "{}  app-linux-amd64.sig\n{hash}  app-linux-amd64\n",
            "cd".repeat(32)
        );
        assert_eq!(of(&text, "app-linux-amd64"), Some([0xab; 32]));
        assert_eq!(of(&text, "app-linux"), None);
        assert_eq!(of(&format!("{hash} *a\n"), "a"), Some([0xab; 32]));
        for bad in ["", "xyz  a", &format!("{}  a", "ab".repeat(31)), "é  a"] {
            assert_eq!(of(bad, "a"), None, "{bad}");
        }
    }
}
