//! The stream program: where it is, and which generation's ways it has.
//!
//! `sessions.web_server` names it, with `streamer` and `static` beside it as its releases lay them
//! out; the word `testcard` means the program built into this binary. What differs between
//! generations is asked of [`ConfigFormat`], so that nobody else compares version numbers.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_process::{Command, Stdio};

use crate::clock;

/// The value of `sessions.web_server` that means the built-in program.
pub(crate) const TESTCARD: &str = "testcard";
/// How long `--version` may take; it prints one line and ends.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);
/// Most bytes of `--version` that are looked at.
const VERSION_BYTES: usize = 256;

/// How a stream program wants to be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigFormat {
    /// The fork, and upstream before 2.7: settings in `config.json`, users without roles.
    Fork,
    /// Upstream 2.7 and later 2.x: settings and roles in `data.json`, no `relay_only`.
    Roles,
}

impl ConfigFormat {
    /// `web-server 2.6.0` -> the generation that this version belongs to.
    fn of_version(text: &str) -> Result<Option<Self>, String> {
        let version = text.split_whitespace().nth(1).unwrap_or_default();
        let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(_))) if major >= 3 => Err(version.to_owned()),
            (Some(Ok(2)), Some(Ok(minor))) if minor >= 7 => Ok(Some(Self::Roles)),
            (Some(Ok(_)), Some(Ok(_))) => Ok(Some(Self::Fork)),
            _ => Ok(None),
        }
    }
}

/// A stream program that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamProgram {
    /// The program, absolute.
    pub executable: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its static files, absolute; the built-in program has none.
    pub static_dir: Option<PathBuf>,
    /// What it starts for each stream, absolute.
    pub streamer: PathBuf,
    /// Its ways.
    pub generation: ConfigFormat,
}

/// Why a program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StreamProgramError {
    /// It is not there or cannot be executed.
    #[error("cannot run stream program {}: {error}, set sessions.web_server to an executable moonlight-web-stream web-server or to {TESTCARD}", .path.display(), TESTCARD = TESTCARD)]
    Unusable {
        /// The program.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: io::Error,
    },
    /// A part of its release is not there.
    #[error("no {name} beside stream program {}, install the whole release", .path.display())]
    Incomplete {
        /// The program.
        path: PathBuf,
        /// What is missing.
        name: &'static str,
    },
    /// `testcard`, in a build without it.
    #[error("sessions.web_server is {TESTCARD}, which only the demo build has: set it to moonlight-web-stream's web-server, or install the demo build", TESTCARD = TESTCARD)]
    NoTestCard,
    /// A version that speaks otherwise.
    #[error("stream program {} is version {version}, which streams without a streamer process: install a 2.x release", .path.display())]
    Unsupported {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

impl StreamProgram {
    /// The program that `sessions.web_server` names.
    ///
    /// # Errors
    /// When it is not executable or of an unsupported version. A program that does not tell its
    /// version is taken for the fork, with a warning.
    pub(crate) async fn locate(web_server: &Path) -> Result<Self, StreamProgramError> {
        if web_server.as_os_str() == TESTCARD {
            return Self::testcard();
        }
        let unusable = |error| StreamProgramError::Unusable {
            path: web_server.to_owned(),
            error,
        };
        let executable = std::path::absolute(web_server).map_err(unusable)?;
        is_executable(&executable).map_err(unusable)?;
        let part = |name| {
            beside(&executable, name).ok_or_else(|| StreamProgramError::Incomplete {
                path: executable.clone(),
                name,
            })
        };
        let (streamer, static_dir) = (part("streamer")?, part("static")?);
        let generation = match version(&executable).await.map_err(unusable)? {
            Some(text) => ConfigFormat::of_version(&text).map_err(|version| {
                StreamProgramError::Unsupported {
                    path: executable.clone(),
                    version,
                }
            })?,
            None => None,
        };
        let shown = executable.display();
        let generation = generation.unwrap_or_else(|| {
            log::warn!(target: "worker", "{shown} does not tell its version, taking it for the fork");
            ConfigFormat::Fork
        });
        Ok(Self {
            args: Vec::new(),
            static_dir: Some(static_dir),
            streamer,
            executable,
            generation,
        })
    }

    /// The program built into this binary.
    fn testcard() -> Result<Self, StreamProgramError> {
        if !cfg!(feature = "demo") {
            return Err(StreamProgramError::NoTestCard);
        }
        let unusable = |error| StreamProgramError::Unusable {
            path: PathBuf::from(TESTCARD),
            error,
        };
        let executable = own().map_err(unusable)?;
        Ok(Self {
            args: vec![TESTCARD.into()],
            static_dir: None,
            streamer: executable.clone(),
            executable,
            generation: ConfigFormat::Fork,
        })
    }
}

/// Where this very program is, also after an update: the kernel shows a replaced binary with a mark,
/// and its successor has its place.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn own() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(
        match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
            Some(replaced) => PathBuf::from(replaced),
            None => path,
        },
    )
}

/// What tells whether a program was replaced: its own file's identity and those of its parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProgramStamp([Option<FileStamp>; 3]);

/// Device, inode, mode, and when it was changed.
type FileStamp = (u64, u64, u32, (i64, i64));

impl ProgramStamp {
    /// Of the program that `sessions.web_server` names; the built-in one has none. Blocking.
    pub(crate) fn of(web_server: &Path) -> Self {
        if web_server.as_os_str() == TESTCARD {
            return Self::default();
        }
        let parts = [
            Some(web_server.to_owned()),
            beside(web_server, "streamer"),
            beside(web_server, "static"),
        ];
        Self(parts.map(|path| {
            let found = fs::metadata(path?).ok()?;
            let changed = (found.ctime(), found.ctime_nsec());
            Some((found.dev(), found.ino(), found.mode(), changed))
        }))
    }
}

/// Whether the path is a file that can be executed.
pub(super) fn is_executable(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::other("it is not executable"));
    }
    Ok(())
}

/// `name` in the directory of the program, or of what a symlink to it points to.
fn beside(executable: &Path, name: &str) -> Option<PathBuf> {
    let resolved = fs::canonicalize(executable).ok();
    [Some(executable), resolved.as_deref()]
        .into_iter()
        .flatten()
        .map(|program| program.with_file_name(name))
        .find(|path| path.exists())
}

/// The first bytes that `--version` prints; `None` when it prints nothing in time.
async fn version(executable: &Path) -> io::Result<Option<String>> {
    use smol::io::AsyncReadExt as _;
    let mut command = Command::new(executable);
    command
        .arg("--version")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(None);
    };
    let mut text = vec![0; VERSION_BYTES];
    let read = async {
        let mut n = 0;
        while n < text.len() && !text[..n].contains(&b'\n') {
            match stdout.read(&mut text[n..]).await {
                Ok(0) | Err(_) => break,
                Ok(more) => n += more,
            }
        }
        n
    };
    let n = clock::by(clock::now() + VERSION_DEADLINE, read).await;
    Ok(n.ok()
        .filter(|n| *n > 0)
        .map(|n| String::from_utf8_lossy(&text[..n]).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec;
    use crate::session::testing::Scratch;

    #[test]
    fn the_version_tells_the_generation() {
        for (text, generation) in [
            ("web-server 2.6.0\n", Ok(Some(ConfigFormat::Fork))),
            ("web-server 2.7.0\n", Ok(Some(ConfigFormat::Roles))),
            ("web-server 2.10.0-beta.1", Ok(Some(ConfigFormat::Roles))),
            ("web-server 1.9.0", Ok(Some(ConfigFormat::Fork))),
            (
                "web-server 3.0.0-prerelease.4",
                Err("3.0.0-prerelease.4".to_owned()),
            ),
            ("web-server", Ok(None)),
            ("usage: x", Ok(None)),
            ("", Ok(None)),
        ] {
            assert_eq!(ConfigFormat::of_version(text), generation, "{text}");
        }
    }

    #[test]
    fn a_release_is_found_through_a_symlink() {
        let scratch = Scratch::new();
        let program = scratch.script("release/web-server", "echo web-server 2.8.1");
        scratch.script("release/streamer", "");
        fs::create_dir(scratch.path().join("release/static")).unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        let found = exec::block_on(StreamProgram::locate(&link)).unwrap();
        assert_eq!(found.executable, link);
        assert_eq!(found.generation, ConfigFormat::Roles);
        assert_eq!(found.streamer, program.with_file_name("streamer"));
        assert_eq!(found.static_dir, Some(program.with_file_name("static")));
    }

    #[test]
    fn a_program_without_a_version_is_taken_for_the_fork() {
        let scratch = Scratch::new();
        let program = scratch.script("web-server", "exit 3");
        scratch.script("streamer", "");
        fs::create_dir(scratch.path().join("static")).unwrap();
        let found = exec::block_on(StreamProgram::locate(&program)).unwrap();
        assert_eq!(found.generation, ConfigFormat::Fork);
    }

    #[test]
    fn a_release_without_one_of_its_parts_is_refused_and_its_stamp_tells_when_it_comes() {
        let scratch = Scratch::new();
        let program = scratch.script("web-server", "exit 3");
        for name in ["streamer", "static"] {
            let error = exec::block_on(StreamProgram::locate(&program)).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            let before = ProgramStamp::of(&program);
            fs::create_dir(scratch.path().join(name)).unwrap();
            assert_ne!(ProgramStamp::of(&program), before, "{name}");
        }
        assert_eq!(ProgramStamp::of(&program), ProgramStamp::of(&program));
    }

    #[test]
    fn programs_that_cannot_run_are_refused_with_the_remedy() {
        let scratch = Scratch::new();
        let plain = scratch.path().join("plain");
        fs::write(&plain, "").unwrap();
        let third = scratch.script("third", "echo web-server 3.1.0");
        scratch.script("streamer", "");
        fs::create_dir(scratch.path().join("static")).unwrap();
        let missing = scratch.path().join("missing");
        for (path, word) in [
            (&plain, "not executable"),
            (&missing, "sessions.web_server"),
            (&third, "2.x"),
        ] {
            let error = exec::block_on(StreamProgram::locate(path)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(word), "{text}");
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
    }

    #[test]
    fn testcard_is_this_very_binary() {
        let found = exec::block_on(StreamProgram::locate(Path::new(TESTCARD))).unwrap();
        assert_eq!(found.executable, std::env::current_exe().unwrap());
        assert_eq!(found.args, [TESTCARD]);
        assert_eq!(found.static_dir, None);
    }
}
