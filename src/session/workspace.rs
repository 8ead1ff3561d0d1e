//! A session's directory: what its stream program finds there, and its removal.
//!
//! `<sessions.dir>/<session id>/`, mode 0700, holds `server/config.json`, the `static` link, `tmp`
//! and the log. A file `owner` names the state directory of the worker that made it, so that two
//! workers may share `sessions.dir` without reaping each other's sessions.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::private_dir::{self, DirError};
use super::program_config::ProgramSettings;
use super::stream_program::StreamProgram;
use crate::atomic_file;
use crate::ids::SessionId;

/// Names the worker's state directory.
const OWNER_FILE: &str = "owner";
/// The only user who may enter.
const DIR_MODE: u32 = 0o700;
/// The only user who may read; the files hold keys and TURN credentials.
const FILE_MODE: u32 = 0o600;

/// Why a workspace cannot be made, filled or removed.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// `sessions.dir` cannot be used.
    #[error("sessions.dir: {0}")]
    Dir(#[source] DirError),
    /// Making, filling or removing failed.
    #[error("cannot {act} {}: {error}, check space and rights of sessions.dir", .path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What failed.
        #[source]
        error: io::Error,
    },
}

/// `sessions.dir`, as one worker sees it.
#[derive(Clone, Debug)]
pub(crate) struct SessionsDir {
    path: PathBuf,
    owner: PathBuf,
}

/// One session's directory. Dropping it keeps the directory: sessions outlive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workspace {
    id: SessionId,
    path: PathBuf,
}

impl SessionsDir {
    /// Opens `sessions.dir` for the worker whose state is in `state_dir`, making it when missing.
    ///
    /// # Errors
    /// When it is a symlink, somebody else's, or cannot be made.
    pub(crate) fn open(path: &Path, state_dir: &Path) -> Result<Self, WorkspaceError> {
        let path = private_dir::ensure(path).map_err(WorkspaceError::Dir)?;
        let owner = fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        Ok(Self { path, owner })
    }

    /// Where it is, absolute and without symlinks.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory of a new session; nothing is left of one that cannot be completed.
    ///
    /// # Errors
    /// When it exists or cannot be made.
    pub(crate) fn create(&self, id: &SessionId) -> Result<Workspace, WorkspaceError> {
        let workspace = self.of(id);
        // Made under another name and then renamed: a workspace always has its owner file.
        let fresh = self.path.join(format!(".new-{id}"));
        let fill = || {
            make_dir(&fresh)?;
            for inner in ["server", "tmp"] {
                make_dir(&fresh.join(inner))?;
            }
            let owner = self.owner.as_os_str().as_encoded_bytes();
            write(&fresh.join(OWNER_FILE), owner, FILE_MODE)?;
            fs::rename(&fresh, &workspace.path).map_err(failed("create", &workspace.path))
        };
        fill().inspect_err(|_| {
            let _ = fs::remove_dir_all(&fresh);
        })?;
        Ok(workspace)
    }

    /// The directory that the session has or would have.
    #[must_use]
    pub(crate) fn of(&self, id: &SessionId) -> Workspace {
        Workspace {
            id: id.clone(),
            path: self.path.join(id.as_str()),
        }
    }

    /// The workspaces that this worker's predecessors made and that are still there.
    #[must_use]
    pub(crate) fn leftovers(&self) -> Vec<Workspace> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| {
                let name = e.file_name().into_string().ok()?;
                let id = name.strip_prefix(".new-").unwrap_or(&name).parse().ok()?;
                Some(Workspace { id, path: e.path() })
            })
            .filter(|w| self.is_ours(w))
            .collect()
    }

    fn is_ours(&self, workspace: &Workspace) -> bool {
        fs::read(workspace.path.join(OWNER_FILE))
            .is_ok_and(|owner| owner == self.owner.as_os_str().as_encoded_bytes())
    }
}

impl Workspace {
    /// The directory that a ledger names, also after `sessions.dir` was changed. It must bear the
    /// session's id: whatever works in a workspace is killed, and the workspace is removed.
    #[must_use]
    pub(crate) fn recorded(path: &Path, id: &SessionId) -> Option<Self> {
        let named = path.file_name().is_some_and(|name| *name == *id.as_str());
        (named && path.is_absolute()).then(|| Self {
            id: id.clone(),
            path: path.to_owned(),
        })
    }

    /// Whose it is.
    #[must_use]
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    /// Where it is, absolute and without symlinks.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what `program` reads at its start. Repeated for a restart in place it keeps the
    /// program's own `data.json`, where the pairing is.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn configure(
        &self,
        program: &StreamProgram,
        settings: &ProgramSettings,
    ) -> Result<(), WorkspaceError> {
        let rendered = settings.render(program);
        let server = self.path.join("server");
        write_json(&server.join("config.json"), &rendered.config)?;
        let data = server.join("data.json");
        if let Some(content) = &rendered.data
            && !data.exists()
        {
            write_json(&data, content)?;
        }
        if let Some(target) = &program.static_dir {
            let link = self.path.join("static");
            match symlink(target, &link) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("link", &link)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a file of ours beside the program's, with that mode. Blocking.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_file(
        &self,
        name: &str,
        content: &str,
        mode: u32,
    ) -> Result<(), WorkspaceError> {
        write(&self.path.join(name), content.as_bytes(), mode)
    }

    /// Removes the directory with all that is in it; symlinks are removed, not followed. One that
    /// is gone already is no error. Blocking.
    ///
    /// # Errors
    /// When something of it stays.
    pub(crate) fn remove(&self) -> Result<(), WorkspaceError> {
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.path)(e)),
            _ => Ok(()),
        }
    }
}

fn failed(act: &'static str, path: &Path) -> impl Fn(io::Error) -> WorkspaceError {
    let path = path.to_owned();
    move |error| WorkspaceError::Io {
        act,
        path: path.clone(),
        error,
    }
}

fn make_dir(path: &Path) -> Result<(), WorkspaceError> {
    let made = DirBuilder::new().mode(DIR_MODE).create(path);
    made.map_err(failed("create", path))
}

fn write_json(path: &Path, value: &Value) -> Result<(), WorkspaceError> {
    write(path, format!("{value:#}\n").as_bytes(), FILE_MODE)
}

/// The stream program may read the file meanwhile. It needs none of them after a crash of the machine.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), WorkspaceError> {
    let draft = path.with_extension("draft");
    atomic_file::replace_unsynced(path, &draft, bytes, mode).map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::session::stream_program::ConfigFormat;
    use crate::session::testing::{self, Scratch};

    fn program(scratch: &Scratch, generation: ConfigFormat) -> StreamProgram {
        let static_dir = scratch.path().join("program-static");
        let _ = fs::create_dir(&static_dir);
        fs::write(static_dir.join("page.html"), "page").unwrap();
        StreamProgram {
            executable: "/opt/x/web-server".into(),
            args: Vec::new(),
            static_dir: Some(static_dir),
            streamer: "/opt/x/streamer".into(),
            generation,
        }
    }

    #[test]
    fn a_workspace_is_private_and_holds_what_the_program_reads() {
        let scratch = Scratch::new();
        let sessions = scratch.sessions();
        let settings = testing::settings(8_080);
        let workspace = sessions.create(&settings.id).unwrap();
        workspace
            .configure(&program(&scratch, ConfigFormat::Roles), &settings)
            .unwrap();
        let mode = |p: &str| fs::metadata(workspace.path().join(p)).unwrap().mode() & 0o777;
        assert_eq!(
            (mode("."), mode("server"), mode("tmp")),
            (0o700, 0o700, 0o700)
        );
        assert_eq!(
            (mode("server/config.json"), mode("server/data.json")),
            (0o600, 0o600)
        );
        let page = fs::read_to_string(workspace.path().join("static/page.html")).unwrap();
        assert_eq!(page, "page");
        let config = fs::read(workspace.path().join("server/config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["web_server"]["bind_address"], "127.0.0.1:8080");
    }

    #[test]
    fn configuring_again_keeps_the_programs_own_data() {
        let scratch = Scratch::new();
        let settings = testing::settings(8_080);
        let workspace = scratch.sessions().create(&settings.id).unwrap();
        let program = program(&scratch, ConfigFormat::Roles);
        workspace.configure(&program, &settings).unwrap();
        let data = workspace.path().join("server/data.json");
        fs::write(&data, "paired").unwrap();
        workspace.configure(&program, &settings).unwrap();
        assert_eq!(fs::read_to_string(&data).unwrap(), "paired");
    }

    #[test]
    fn removing_a_workspace_follows_no_symlink() {
        let scratch = Scratch::new();
        let settings = testing::settings(8_080);
        let workspace = scratch.sessions().create(&settings.id).unwrap();
        let program = program(&scratch, ConfigFormat::Fork);
        workspace.configure(&program, &settings).unwrap();
        let precious = scratch.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "kept").unwrap();
        symlink(&precious, workspace.path().join("tmp/escape")).unwrap();
        fs::create_dir_all(workspace.path().join("tmp/a/b/c")).unwrap();

        workspace.remove().unwrap();
        assert!(!workspace.path().exists());
        assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
        assert!(program.static_dir.unwrap().join("page.html").exists());
        workspace.remove().unwrap();
    }

    #[test]
    fn a_workspace_that_cannot_be_made_is_an_error_and_leaves_nothing() {
        let scratch = Scratch::new();
        let sessions = scratch.sessions();
        let id = SessionId::random().unwrap();
        let workspace = sessions.create(&id).unwrap();
        let text = sessions.create(&id).unwrap_err().to_string();
        assert!(text.contains(id.as_str()), "{text}");
        assert_eq!(fs::read_dir(&sessions.path).unwrap().count(), 1);
        workspace.remove().unwrap();

        fs::remove_dir(&sessions.path).unwrap();
        let text = sessions.create(&id).unwrap_err().to_string();
        assert!(text.contains("sessions.dir"), "{text}");
        let link = scratch.path().join("link");
        symlink(scratch.path(), &link).unwrap();
        assert!(matches!(
            SessionsDir::open(&link, scratch.path()),
            Err(WorkspaceError::Dir(DirError::NotADirectory { .. }))
        ));
    }

    #[test]
    fn a_ledger_cannot_name_a_directory_that_is_no_workspace() {
        let id = SessionId::random().unwrap();
        let moved = Path::new("/elsewhere").join(id.as_str());
        assert_eq!(Workspace::recorded(&moved, &id).unwrap().path(), moved);
        for wrong in [Path::new("/"), Path::new("/tmp"), Path::new(id.as_str())] {
            assert_eq!(Workspace::recorded(wrong, &id), None);
        }
        assert_eq!(Workspace::recorded(&moved.join(".."), &id), None);
    }

    #[test]
    fn another_workers_workspaces_are_no_leftovers() {
        let scratch = Scratch::new();
        let ours = scratch.sessions();
        let theirs_state = scratch.path().join("their-state");
        fs::create_dir(&theirs_state).unwrap();
        let theirs = SessionsDir::open(&ours.path, &theirs_state).unwrap();
        let (a, b) = (SessionId::random().unwrap(), SessionId::random().unwrap());
        let workspace = ours.create(&a).unwrap();
        theirs.create(&b).unwrap();
        fs::create_dir(ours.path.join("something-else")).unwrap();
        assert_eq!(ours.leftovers(), [workspace]);
    }
}
