//! Puts a snippet right after `<head>`, in one pass and constant memory.
//!
//! lol_html reads tags as a browser would (comments, scripts, attributes). Once the place is
//! found the rest of the document passes raw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lol_html::errors::RewritingError;
use lol_html::html_content::ContentType;
use lol_html::send::HtmlRewriter;
use lol_html::{MemorySettings, OutputSink, Settings, element};

use crate::sync::Mutex;
use crate::wire::ResponseHead;

/// Memory the tokeniser may hold: the longest tag it can step over.
const MEMORY_MAX: usize = 1024 * 1024;

/// Bytes shown to the tokeniser at once: `<head>` stands near the beginning, and what comes with
/// it would be tokenised for nothing.
const STEP: usize = 256;

/// The document could not be tokenised.
#[derive(Debug)]
pub struct CannotInject(String);

impl std::fmt::Display for CannotInject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot put the snippet into the document: {}", self.0)
    }
}

impl std::error::Error for CannotInject {}

/// One document on its way.
pub struct Injector {
    /// The first byte, until the second is there.
    first: Option<Vec<u8>>,
    rewriter: Option<HtmlRewriter<'static, Sink>>,
    out: Arc<Mutex<Vec<u8>>>,
    placed: Arc<AtomicBool>,
    snippet: Arc<str>,
}

impl std::fmt::Debug for Injector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Injector")
            .field("placed", &self.placed)
            .finish_non_exhaustive()
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Sink {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.lock().extend_from_slice(chunk);
    }
}

impl Injector {
    /// Injects `snippet`, which is HTML in ASCII.
    #[must_use]
    pub fn new(snippet: Arc<str>) -> Self {
        let out = Arc::new(Mutex::new(Vec::new()));
        let placed = Arc::new(AtomicBool::new(false));
        let (flag, text) = (Arc::clone(&placed), Arc::clone(&snippet));
        let handler = element!("*", move |element| {
            let name = element.tag_name();
            if name == "html" || flag.swap(true, Ordering::Relaxed) {
                return Ok(());
            }
            if name == "head" {
                element.prepend(&text, ContentType::Html);
            } else {
                // A document without <head>: browsers imply one here.
                element.before(&text, ContentType::Html);
            }
            Ok(())
        });
        let mut settings = Settings::new_send().append_element_content_handler(handler);
        settings = settings.with_strict(false).with_memory_settings(
            // A document that needs more goes on as it is, without the snippet.
            MemorySettings::new()
                .with_max_allowed_memory_usage(MEMORY_MAX)
                .with_graceful_bail_out_on_memory_limit_exceeded(true),
        );
        let rewriter = HtmlRewriter::new(settings, Sink(Arc::clone(&out)));
        Self {
            first: Some(Vec::new()),
            rewriter: Some(rewriter),
            out,
            placed,
            snippet,
        }
    }

    /// Takes a piece of the document and gives back what may be sent on.
    ///
    /// # Errors
    /// [`CannotInject`]; the document is lost then.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, CannotInject> {
        let Some(mut begun) = self.first.take() else {
            return self.rewrite(piece);
        };
        begun.extend_from_slice(piece);
        if begun.len() < 2 {
            self.first = Some(begun);
            return Ok(Vec::new());
        }
        if begun.starts_with(b"\xff\xfe") || begun.starts_with(b"\xfe\xff") {
            // UTF-16, whatever the field says: ASCII would be rubbish in it.
            self.rewriter = None;
            return Ok(begun);
        }
        self.rewrite(&begun)
    }

    fn rewrite(&mut self, piece: &[u8]) -> Result<Vec<u8>, CannotInject> {
        let mut rest = piece;
        while !rest.is_empty()
            && let Some(mut rewriter) = self.rewriter.take()
        {
            let (step, later) = rest.split_at(rest.len().min(STEP));
            rest = later;
            match rewriter.write(step) {
                Ok(()) if self.placed.load(Ordering::Relaxed) => {
                    rewriter.end().map_err(|e| CannotInject(e.to_string()))?;
                }
                Ok(()) => self.rewriter = Some(rewriter),
                Err(RewritingError::MemoryLimitExceeded(_)) => {
                    log::warn!(target: "proxy", "a tag longer than {MEMORY_MAX} bytes before <head>; nothing is injected");
                }
                Err(error) => return Err(CannotInject(error.to_string())),
            }
        }
        let mut out = self.taken();
        out.extend_from_slice(rest);
        Ok(out)
    }

    /// Ends the document. One that had no element gets the snippet at its end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self) -> Result<Vec<u8>, CannotInject> {
        let mut rest = match self.first.take() {
            Some(begun) => self.rewrite(&begun)?,
            None => Vec::new(),
        };
        let Some(rewriter) = self.rewriter.take() else {
            return Ok(rest);
        };
        rewriter.end().map_err(|e| CannotInject(e.to_string()))?;
        rest.extend(self.taken());
        if !self.placed.load(Ordering::Relaxed) {
            rest.extend_from_slice(self.snippet.as_bytes());
        }
        Ok(rest)
    }

    /// Whether everything from here on passes unchanged.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        self.rewriter.is_none()
    }

    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut *self.out.lock())
    }
}

/// Whether a response is a whole HTML document that a snippet can go into.
#[must_use]
pub(crate) fn is_document(head: &ResponseHead) -> bool {
    let kind = head.fields.text("content-type").unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let charset = kind.to_ascii_lowercase();
    head.status == 200
        && essence.eq_ignore_ascii_case("text/html")
        && !charset.contains("utf-16")
        && !head
            .fields
            .members("content-disposition")
            .any(|m| m.starts_with(b"attachment"))
}

/// Whether the document is compressed although identity was asked for.
#[must_use]
pub(crate) fn is_compressed(head: &ResponseHead) -> bool {
    head.fields
        .members("content-encoding")
        .any(|m| !m.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNIPPET: &str = "<script src=\"/x.js\"></script>";

    fn inject(pieces: &[&[u8]]) -> String {
        let mut injector = Injector::new(SNIPPET.into());
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(injector.push(piece).unwrap());
        }
        out.extend(injector.finish().unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_snippet_stands_right_after_head_as_a_browser_sees_it() {
        for (page, want) in [
            (
                "<!doctype html><html><head><title>t</title></head>x",
                "<!doctype html><html><head>@<title>t</title></head>x",
            ),
            (
                "<!-- <head> --><HEAD data-x='>'><p>",
                "<!-- <head> --><HEAD data-x='>'>@<p>",
            ),
            (
                "<!doctype html><title>t</title><p>x",
                "<!doctype html>@<title>t</title><p>x",
            ),
            (
                "<html><body>x</body></html>",
                "<html>@<body>x</body></html>",
            ),
            ("plain", "plain@"),
            ("", "@"),
            ("x", "x@"),
        ] {
            assert_eq!(
                inject(&[page.as_bytes()]),
                want.replace('@', SNIPPET),
                "{page}"
            );
        }
    }

    #[test]
    fn a_document_in_utf_16_passes_byte_for_byte_in_every_split() {
        for page in [&b"\xff\xfe<\0h\0e\0a\0d\0>\0"[..], b"\xfe\xff\0<\0p\0>"] {
            for cut in 0..=page.len() {
                let mut injector = Injector::new(SNIPPET.into());
                let mut out = injector.push(&page[..cut]).unwrap();
                out.extend(injector.push(&page[cut..]).unwrap());
                out.extend(injector.finish().unwrap());
                assert_eq!(out, page, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_tag_longer_than_the_memory_passes_whole() {
        let page = format!(
            "<html data-x='{}'><head></head>",
            "y".repeat(2 * MEMORY_MAX)
        );
        let pieces: Vec<&[u8]> = page.as_bytes().chunks(65_536).collect();
        assert_eq!(inject(&pieces), page);
    }

    #[test]
    fn every_split_of_the_input_gives_the_same_output() {
        let page = "<!doctype html><!-- <head> --><html lang=en><head data-a='<head>'><meta charset=utf-8><script>var a='<head>';</script></head><body>é</body></html>".as_bytes();
        let whole = inject(&[page]);
        assert_eq!(whole.matches(SNIPPET).count(), 1);
        for a in 0..page.len() {
            for b in a..page.len() {
                assert_eq!(
                    inject(&[&page[..a], &page[a..b], &page[b..]]),
                    whole,
                    "split at {a}, {b}"
                );
            }
        }
    }

    #[test]
    fn a_document_that_asks_for_too_much_memory_passes_unchanged() {
        let page = format!(
            "<!doctype html><html data-x='{}'><head></head>",
            "y".repeat(3 << 20)
        );
        let pieces: Vec<&[u8]> = page.as_bytes().chunks(65_536).collect();
        assert!(inject(&pieces) == page);
    }
}
