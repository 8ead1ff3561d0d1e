//! Whatever the text, the loader answers.

use proptest::prelude::*;

use super::*;
use crate::config::render::all_keys;

/// Fragments that real files are made of, so that random documents get past the parser.
fn fragment() -> impl Strategy<Value = String> {
    let keys: Vec<String> = all_keys().iter().map(|e| e.name().to_owned()).collect();
    let key = proptest::sample::select(keys);
    let odd = prop_oneof![
        Just("~"),
        Just("[]"),
        Just("{}"),
        Just("0x1F"),
        Just("-1"),
        Just("1e999"),
        Just("!t x"),
        Just("&a 5"),
        Just("*a"),
        Just("99999999999h"),
        Just("\"\\u0000\""),
        Just("|\n   x"),
        Just("[1, [2], {a: 3}]"),
        Just(":0"),
        Just("turn:"),
        Just("65535"),
        Just("10.0.0.0/0"),
    ];
    prop_oneof![
        4 => (0_usize..3, key, odd).prop_map(|(n, k, v)| format!("{}{k}: {v}\n", "  ".repeat(n))),
        1 => "[ \\-:#\\[\\]{},&*!|>'\"%@`a-z0-9\\n\\t]{0,20}",
        1 => "\\PC{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics_the_loader(parts in proptest::collection::vec(fragment(), 0..12)) {
        let text = parts.concat();
        for role in [None, Some(Role::Worker)] {
            match parse(&text, role) {
                Ok(loaded) => prop_assert!(parse(&show(&loaded), None).is_ok()),
                Err(problems) => prop_assert!(!problems.list.is_empty()),
            }
        }
    }

    #[test]
    fn no_bytes_panic_the_loader(text in "(?s).{0,200}") {
        let _ = parse(&text, None).map_err(|e| e.to_string());
    }
}
