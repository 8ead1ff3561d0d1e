//! The page's files. They are part of the program; a `static` directory is not looked at.

use crate::http::Reply;

struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const FILES: [File; 4] = [
    File {
        name: "index.html",
        content_type: "text/html; charset=utf-8",
        text: include_str!("static/index.html"),
    },
    File {
        name: "stream.html",
        content_type: "text/html; charset=utf-8",
        text: include_str!("static/stream.html"),
    },
    File {
        name: "stream.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("static/stream.js"),
    },
    File {
        name: "style.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("static/style.css"),
    },
];

/// The file at `path`, the part after the prefix; `known` is the request's `If-None-Match`.
pub(super) fn serve(path: &str, known: Option<&str>) -> Option<Reply> {
    let name = match path.strip_prefix('/').unwrap_or(path) {
        "" => "index.html",
        name => name,
    };
    let file = FILES.iter().find(|file| file.name == name)?;
    let tag = etag(file.text);
    let reply = match known {
        Some(known) if known == "*" || known.split(',').any(|k| k.trim() == tag) => {
            Reply::empty(304)
        }
        _ => Reply::text(200, file.content_type, file.text).header(
            "Content-Disposition",
            format!("inline; filename=\"{name}\""),
        ),
    };
    Some(reply.header("ETag", tag))
}

/// A strong tag: the length and the FNV-1a sum of the content.
fn etag(text: &str) -> String {
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{:x}-{sum:x}\"", text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_and_a_known_one_is_not_sent_again() {
        for path in [
            "",
            "/",
            "/index.html",
            "/stream.html",
            "/stream.js",
            "/style.css",
        ] {
            assert_eq!(serve(path, None).map(|r| r.status()), Some(200), "{path}");
        }
        for path in ["/../Cargo.toml", "/stream.html/", "/static/stream.js", "//"] {
            assert!(serve(path, None).is_none(), "{path}");
        }
        let known = etag(FILES[1].text);
        let again = serve("/stream.html", Some(&format!("\"x\", {known}")));
        assert_eq!(again.map(|r| r.status()), Some(304));
        assert_eq!(serve("/stream.html", Some("\"x\"")).unwrap().status(), 200);
    }

    #[test]
    fn the_page_has_the_elements_that_injected_scripts_look_for() {
        let (html, js) = (FILES[1].text, FILES[2].text);
        for id in [
            "modal-overlay",
            "modal-parent",
            "sidebar-root",
            "sidebar-button",
            "sidebar-parent",
            "error-list",
            "input",
            "root",
        ] {
            assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
        }
        assert!(!html.contains("<script>"), "no inline script");
        let style = html.find("stylesheet").unwrap();
        assert!(style < html.find("<script type=\"module\"").unwrap());
        let exit = js.find("[\"Exit\"").unwrap();
        assert!(
            js.find("[\"Stats\"").unwrap() < exit,
            "Exit is the last button"
        );
        assert!(js.contains("sidebar-stream-buttons") && js.contains("video-stream"));
    }
}
