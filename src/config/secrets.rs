//! Reading secrets: in the configuration itself, or in a file of their own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::registry::{Shape, Usual, quoted};
use super::section::Section;
use super::surroundings::SecretFiles;
use crate::secret::Secret;

impl Section<'_> {
    /// A secret: in the file under `key`, or in a file of its own named under `key_file`.
    pub(super) fn secret(
        &self,
        key: &'static str,
        key_file: &'static str,
        doc: &'static str,
    ) -> Option<Secret> {
        let has_both = self.node(key).is_some() && self.node(key_file).is_some();
        let inline = self.parsed(key, "", |text| Ok(Secret::new(text)));
        if inline.is_some() {
            self.reader.holds_secrets.replace(true);
        }
        let around = self.reader.around;
        let remedy = "write an absolute path, one under `~/`, or the name of a systemd credential";
        let file = self.parsed(key_file, remedy, |text| around.credential(text));
        if has_both {
            let what = format!("is set beside {key}");
            self.complain(key_file, &what, "keep one of the two");
        }
        let shown = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
        let unset = |example| Usual::Unset { example };
        let shape = Shape::Value {
            kind: "secret".to_owned(),
            default: unset("<secret>"),
            effective: shown(inline.as_ref().map(|_| "\"***\"".to_owned())),
        };
        self.register(key, doc, shape);
        let shape = Shape::Value {
            kind: "path of a secret".to_owned(),
            default: unset("/etc/hydraneckwebrtc/secret"),
            effective: shown(file.as_ref().map(|p| quoted(&p.display().to_string()))),
        };
        let doc = "The same secret in a file of its own, instead: absolute, under `~/`, or a bare \
                   name in systemd's `$CREDENTIALS_DIRECTORY`.";
        self.register(key_file, doc, shape);
        match (inline, file) {
            (Some(secret), _) => Some(secret),
            (None, Some(file)) => self.secret_in(key_file, &file),
            (None, None) => None,
        }
    }

    fn secret_in(&self, key_file: &'static str, file: &Path) -> Option<Secret> {
        if self.reader.around.files == SecretFiles::Skip {
            return Some(Secret::new("(not read)"));
        }
        let path = self.at(key_file);
        match Secret::from_file(file) {
            Ok(secret) => {
                let mode = std::fs::metadata(file).map_or(0, |m| m.permissions().mode());
                if mode & 0o007 != 0 {
                    let what = format!("{} is open to every user", file.display());
                    let remedy = format!("chmod o= {}", file.display());
                    self.reader.warn(&path, &what, &remedy);
                }
                Some(secret)
            }
            Err(what) => {
                self.reader
                    .complain(&path, &what, "name a file that this user can read");
                None
            }
        }
    }
}
