//! Finding files: the configuration and its secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::config::loader::find;

#[test]
fn a_secret_comes_from_its_file_and_only_from_one_place() {
    let dir = Scratch::new("secret");
    let file = dir.write("token", "hunter2\n", 0o600);
    let text = format!("server: {{admin_token_file: {}}}", file.display());
    let loaded = load(&text);
    assert!(loaded.config.server.admin_token.matches(b"hunter2"));
    assert!(loaded.warnings.is_empty());
    assert!(!show(&loaded).contains("hunter2"));

    let both = format!(
        "server: {{admin_token: a, admin_token_file: {}}}",
        file.display()
    );
    assert!(only(&both).contains("is set beside admin_token; keep one of the two"));
    let missing = only("server: {admin_token_file: /nowhere/token}");
    assert!(
        missing.contains("cannot read secret file /nowhere/token"),
        "{missing}"
    );
    let credential = only("server: {admin_token_file: token}");
    assert!(
        credential.contains("$CREDENTIALS_DIRECTORY is not set"),
        "{credential}"
    );

    let open = dir.write("open", "hunter2\n", 0o644);
    let text = format!("server: {{admin_token_file: {}}}", open.display());
    assert!(load(&text).warnings[0].what.contains("open to every user"));
}

#[test]
fn a_systemd_credential_is_found_by_its_bare_name() {
    let dir = Scratch::new("credential");
    dir.write("token", "hunter2", 0o400);
    let environment = Environment {
        credentials: Some(dir.0.clone()),
        ..environment()
    };
    let text = "server: {admin_token_file: token, listen: \":1\"}";
    let (loaded, _) = read(text, Some(Role::Controller), &environment).unwrap();
    assert!(loaded.config.server.admin_token.matches(b"hunter2"));
}

#[test]
fn a_check_on_another_machine_leaves_secret_files_alone() {
    let environment = Environment {
        files: SecretFiles::Skip,
        ..environment()
    };
    for file in ["/nowhere/token", "token"] {
        let text = format!("server: {{admin_token_file: {file}, listen: \":1\"}}");
        assert!(read(&text, Some(Role::Controller), &environment).is_ok());
    }
}

#[test]
fn the_file_is_found_or_the_remedy_is_told() {
    let dir = Scratch::new("file");
    let path = dir.write("config.yaml", DEV, 0o640);
    let loaded = Config::load(Some(&path), Some(Role::Controller)).unwrap();
    assert_eq!(loaded.path.as_deref(), Some(path.as_path()));
    assert!(
        loaded.warnings[0]
            .what
            .contains("holds secrets and can be read by others")
    );
    let path = dir.write("closed.yaml", DEV, 0o600);
    let loaded = Config::load(Some(&path), Some(Role::Controller)).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);

    let missing = Config::load(Some(&dir.0.join("none")), None)
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("hydraneckwebrtc config example >"),
        "{missing}"
    );
    let path = dir.write("latin1", "", 0o600);
    std::fs::write(&path, b"mode: worker\ndistrict: caf\xe9\n").unwrap();
    let latin = Config::load(Some(&path), None).unwrap_err().to_string();
    assert!(
        latin.ends_with("line 2: is not UTF-8 text; save the file as UTF-8"),
        "{latin}"
    );
    assert!(
        Config::load(Some(&dir.0), None)
            .unwrap_err()
            .to_string()
            .contains("cannot read")
    );
}

#[test]
fn the_file_is_looked_for_in_the_documented_order() {
    let home = Some(Path::new("/h"));
    let named = Some(Path::new("/named"));
    for (path, variable, home, expected) in [
        (named, Some("/v"), home, "/named"),
        (None, Some("/v"), home, "/v"),
        (None, Some(""), home, "/h/.hydraneckwebrtc/config.yaml"),
        (None, None, home, "/h/.hydraneckwebrtc/config.yaml"),
    ] {
        let found = find(path, variable.map(Into::into), home).unwrap();
        assert_eq!(found, Path::new(expected));
    }
    assert!(find(None, None, None).is_err());
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let unique = format!("neck-config-{name}-{}", crate::ids::label());
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
