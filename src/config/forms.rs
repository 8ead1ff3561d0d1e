//! The kinds of values a section can be asked for.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::kinds;
use super::registry::{Shape, Usual, quoted};
use super::section::Section;

impl Section<'_> {
    /// A whole number within bounds.
    pub(super) fn count<N>(
        &self,
        key: &'static str,
        default: N,
        range: RangeInclusive<N>,
        doc: &'static str,
    ) -> N
    where
        N: Copy + Display + FromStr + PartialOrd,
    {
        let span = format!("{} to {}", range.start(), range.end());
        let remedy = format!("use a whole number from {span}");
        self.with_default(key, (&span, &remedy), default, doc, N::to_string, |text| {
            in_range(text, &range)
        })
    }

    /// A whole number within bounds, or nothing.
    pub(super) fn count_if_any<N>(
        &self,
        key: &'static str,
        range: RangeInclusive<N>,
        usual: Usual,
        doc: &'static str,
    ) -> Option<N>
    where
        N: Copy + Display + FromStr + PartialOrd,
    {
        let span = format!("{} to {}", range.start(), range.end());
        let remedy = format!("use a whole number from {span}");
        let parse = |text: &str| in_range(text, &range);
        self.optional(key, (&span, &remedy), usual, doc, N::to_string, parse)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str, default: bool, doc: &'static str) -> bool {
        self.with_default(
            key,
            ("true or false", "write true or false"),
            default,
            doc,
            bool::to_string,
            |text| match text {
                "true" => Ok(true),
                "false" => Ok(false),
                other => Err(format!("{other:?} is neither true nor false")),
            },
        )
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
        doc: &'static str,
    ) -> Duration {
        let show = |d: &Duration| humantime::format_duration(*d).to_string().replace(' ', "");
        let span = format!("{} to {}", show(range.start()), show(range.end()));
        let kind = format!("duration, {span}");
        let remedy = format!("use a duration from {span}, written as `90s`, `5m`, `1h30m`");
        self.with_default(key, (&kind, &remedy), default, doc, show, |text| {
            let value = kinds::duration(text)?;
            if range.contains(&value) {
                Ok(value)
            } else {
                Err(format!("{text:?} is out of bounds"))
            }
        })
    }

    /// A size in bytes within bounds.
    pub(super) fn size(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        doc: &'static str,
    ) -> u64 {
        let show = |n: &u64| kinds::size_text(*n);
        let span = format!("{} to {}", show(range.start()), show(range.end()));
        let kind = format!("size, {span}");
        let remedy = format!("use a size from {span}");
        self.with_default(key, (&kind, &remedy), default, doc, show, |text| {
            in_size(text, &range)
        })
    }

    /// A size in bytes within bounds, or none.
    pub(super) fn size_if_any(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        usual: Usual,
        doc: &'static str,
    ) -> Option<u64> {
        let show = |n: &u64| kinds::size_text(*n);
        let span = format!("{} to {}", show(range.start()), show(range.end()));
        let kind = format!("size, {span}");
        let remedy = format!("use a size from {span}");
        self.optional(key, (&kind, &remedy), usual, doc, show, |text| {
            in_size(text, &range)
        })
    }

    /// One word of a few.
    pub(super) fn choice<T: Copy + PartialEq>(
        &self,
        key: &'static str,
        default: T,
        words: &[(&'static str, T)],
        doc: &'static str,
    ) -> T {
        let names: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        let kind = names.join(", ");
        let remedy = format!("use one of {kind}");
        let show = |value: &T| {
            let word = words.iter().find(|(_, v)| v == value);
            word.map_or_else(|| "null".to_owned(), |(w, _)| quoted(w))
        };
        self.with_default(key, (&kind, &remedy), default, doc, show, |text| {
            let word = words.iter().find(|(w, _)| *w == text);
            word.map(|(_, v)| *v)
                .ok_or_else(|| format!("{text:?} is not known"))
        })
    }

    /// A text of some form, with a default.
    pub(super) fn form<T>(
        &self,
        key: &'static str,
        (kind, remedy): (&str, &str),
        default: T,
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T
    where
        T: Clone + Display,
    {
        let show = |value: &T| quoted(&value.to_string());
        self.with_default(key, (kind, remedy), default, doc, show, parse)
    }

    /// A text of some form that may be absent.
    pub(super) fn form_if_any<T: Display>(
        &self,
        key: &'static str,
        (kind, remedy): (&str, &str),
        usual: Usual,
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let show = |value: &T| quoted(&value.to_string());
        self.optional(key, (kind, remedy), usual, doc, show, parse)
    }

    /// A text of some form; when it is absent, what was found out instead.
    pub(super) fn form_or<T: Display>(
        &self,
        key: &'static str,
        (kind, remedy): (&str, &str),
        (found, usual): (Option<T>, Usual),
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.parsed(key, remedy, parse).or(found);
        let shown = value.as_ref().map(|v| quoted(&v.to_string()));
        let shape = Shape::Value {
            kind: kind.to_owned(),
            default: usual,
            effective: shown.unwrap_or_else(|| "null".to_owned()),
        };
        self.register(key, doc, shape);
        value
    }

    /// A directory or program, with a default.
    pub(super) fn path(
        &self,
        key: &'static str,
        default: PathBuf,
        usual: Usual,
        doc: &'static str,
    ) -> PathBuf {
        let remedy = "write an absolute path, or one under `~/`";
        let around = self.reader.around;
        let value = self.parsed(key, remedy, |text| around.path(text));
        let value = value.unwrap_or(default);
        let shape = Shape::Value {
            kind: "path".to_owned(),
            default: usual,
            effective: quoted(&value.display().to_string()),
        };
        self.register(key, doc, shape);
        value
    }

    /// A file that may be absent; a bare name is looked up among systemd's credentials.
    pub(super) fn file(
        &self,
        key: &'static str,
        usual: Usual,
        doc: &'static str,
    ) -> Option<PathBuf> {
        let remedy = "write an absolute path, one under `~/`, or the name of a systemd credential";
        let around = self.reader.around;
        let value = self.parsed(key, remedy, |text| around.credential(text));
        let shape = Shape::Value {
            kind: "path".to_owned(),
            default: usual,
            effective: value
                .as_ref()
                .map_or_else(|| "null".to_owned(), |p| quoted(&p.display().to_string())),
        };
        self.register(key, doc, shape);
        value
    }

    /// A list of single values; one value alone counts as a list of one.
    pub(super) fn list<T: Display>(
        &self,
        key: &'static str,
        (kind, remedy): (&str, &str),
        usual: Usual,
        doc: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let node = self.node(key);
        let values = node.map(|node| self.list_of(key, node, remedy, parse));
        let effective = values.as_ref().map_or_else(
            || "null".to_owned(),
            |list| {
                let shown: Vec<String> = list.iter().map(|v| quoted(&v.to_string())).collect();
                format!("[{}]", shown.join(", "))
            },
        );
        let shape = Shape::Value {
            kind: format!("list: {kind}"),
            default: usual,
            effective,
        };
        self.register(key, doc, shape);
        values
    }
}

fn in_range<N>(text: &str, range: &RangeInclusive<N>) -> Result<N, String>
where
    N: Display + FromStr + PartialOrd,
{
    // Sign and leading zeros are no whole number to people; `010` is 8 to some.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    match text.parse::<N>() {
        Ok(n) if digits && !padded && range.contains(&n) => Ok(n),
        _ if digits && !padded => Err(format!("{text} is out of bounds")),
        _ => Err(format!("{text:?} is no whole number")),
    }
}

fn in_size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = kinds::size(text)?;
    if range.contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("{text:?} is out of bounds"))
    }
}
