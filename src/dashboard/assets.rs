//! The files of the dashboard. All of them are in the binary.
//!
//! `dashboard.js` is the concatenation of small files inside one function, so that they share names
//! with each other and none with the window.

use crate::http::Reply;

/// The page for who is signed in; `{nonce}` and `{proof}` are filled in.
pub(super) const BOARD: &str = include_str!("board.html");
/// The page that asks for the token; `{nonce}` and `{again}` are filled in.
pub(super) const SIGN_IN: &str = include_str!("signin.html");

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file.
#[derive(Debug)]
pub(super) struct DashboardFile {
    /// Path below the dashboard's.
    pub(super) path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

impl DashboardFile {
    pub(super) fn reply(&self) -> Reply {
        Reply::text(200, self.content_type, self.text)
    }
}

/// Every file.
pub(super) static ASSETS: [DashboardFile; 4] = [
    DashboardFile {
        path: "/dashboard.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("style.css"),
    },
    DashboardFile {
        path: "/dashboard.js",
        content_type: SCRIPT,
        text: concat!(
            "(() => {\n'use strict';\n",
            include_str!("js/elements.js"),
            include_str!("js/format.js"),
            include_str!("js/server.js"),
            include_str!("js/stream.js"),
            include_str!("js/table.js"),
            include_str!("js/dialogs.js"),
            include_str!("js/summary.js"),
            include_str!("js/workers.js"),
            include_str!("js/sessions.js"),
            include_str!("js/create.js"),
            include_str!("js/feed.js"),
            include_str!("js/main.js"),
            "})();\n",
        ),
    },
    DashboardFile {
        path: "/icon.svg",
        content_type: "image/svg+xml",
        text: include_str!("icon.svg"),
    },
    DashboardFile {
        path: "/signin.js",
        content_type: SCRIPT,
        text: include_str!("js/signin.js"),
    },
];
