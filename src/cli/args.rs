//! The shape of the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The neck between browsers and GPU bodies.
#[derive(Debug, Parser)]
#[command(name = "hydraneckwebrtc", version, about, propagate_version = false)]
pub(super) struct Cli {
    /// Configuration file [default: ~/.hydraneckwebrtc/config.yaml]
    #[arg(
        long,
        short,
        global = true,
        env = "HYDRANECKWEBRTC_CONFIG",
        value_name = "FILE"
    )]
    pub(super) config: Option<PathBuf>,
    /// Print JSON for scripts in place of text for people
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Route session requests to workers
    Controller,
    /// Run sessions on this machine
    Worker {
        /// Leave sessions running when this process is stopped, or end them; overrides
        /// sessions.keep_on_shutdown
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        keep_sessions: Option<bool>,
    },
    /// See it run: controller, worker and a demo body on this machine
    #[cfg(feature = "demo")]
    Demo {
        /// Print one JSON line when the first session is ready
        #[arg(long)]
        json: bool,
        /// Port of the demo's controller; another one is taken when it is in use
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Print a session's ICE servers with fresh TURN credentials, for its stream program
    #[command(hide = true)]
    IceServers {
        /// What the worker wrote for it
        file: PathBuf,
    },
    /// Serve a double of a body, for tests
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoBody {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1")]
        address: IpAddr,
    },
    /// Say what is wrong with this machine, and the remedy; one line a check
    Doctor {
        /// Look at this body too: reachable, credentials accepted
        #[arg(long, value_name = "IP")]
        body: Option<IpAddr>,
        /// Remove every pairing of this worker from the body; only while nobody uses it
        #[arg(long, requires = "body")]
        unpair: bool,
    },
    /// List, show, create and end sessions
    Sessions {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: SessionsCommand,
    },
    /// List workers, drain and undrain them
    Workers {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        command: WorkersCommand,
    },
    /// Print what happened lately; with --follow, what happens
    Events {
        #[command(flatten)]
        remote: Remote,
        /// Go on until stopped, over restarts of the server
        #[arg(long, short)]
        follow: bool,
        /// Start after the event with this id
        #[arg(long, value_name = "ID")]
        since: Option<u64>,
    },
    /// Check, show or explain the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Say whether there is a newer release
    CheckUpdate,
    /// Install the newest release and restart the service; a build with the demo refuses it
    Update {
        /// Leave the running service as it is
        #[arg(long)]
        no_restart: bool,
    },
    /// Print the version
    Version,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every problem of the configuration, with line, key and remedy
    Check {
        /// Do not read secret files: they are elsewhere or not there yet
        #[arg(long)]
        skip_secret_files: bool,
    },
    /// Print the effective configuration, secrets masked
    Show,
    /// Print an example with every key, its default and what it means
    Example,
    /// Print the reference of all keys as Markdown
    Reference,
}

/// Which controller or worker is spoken to.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Remote {
    /// The controller or worker to speak to [default: the configuration's]
    #[arg(long, global = true, env = "HYDRANECKWEBRTC_URL", value_name = "URL")]
    pub(super) url: Option<String>,
    /// Its bearer token; in the environment it is not seen by other users [default: the
    /// configuration's]
    #[arg(
        long,
        global = true,
        env = "HYDRANECKWEBRTC_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(super) token: Option<String>,
    /// Trust the authority in this PEM file [default: controller.ca_file, else the public ones]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// Every session, with its worker
    List,
    /// One session
    Get {
        /// Its id
        id: String,
    },
    /// Make a session and print where the visitor's browser goes
    Create(Box<CreateOptions>),
    /// End a session; answers when nothing of it is left
    End {
        /// Its id
        id: String,
    },
}

/// A session to make.
#[derive(Debug, Args)]
pub(super) struct CreateOptions {
    /// Address of the body that renders
    pub(super) body_ip: IpAddr,
    /// Sunshine user [default: the worker's configuration]
    #[arg(long, value_name = "USER")]
    pub(super) sunshine_user: Option<String>,
    /// Sunshine password [default: the worker's configuration]
    #[arg(
        long,
        env = "HYDRANECKWEBRTC_SUNSHINE_PASS",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub(super) sunshine_pass: Option<String>,
    /// Experience, kept for ratings and reports
    #[arg(long, value_name = "NAME")]
    pub(super) experience: Option<String>,
    /// Windows path on the body to register in Sunshine and launch
    #[arg(long, value_name = "PATH")]
    pub(super) exe_path: Option<String>,
    /// District, kept for records and reports; its workers come first
    #[arg(long, value_name = "NAME")]
    pub(super) district: Option<String>,
    /// Title of the Sunshine app to stream
    #[arg(long, value_name = "TITLE")]
    pub(super) app: Option<String>,
    /// Answer at once, not when the stream is ready
    #[arg(long)]
    pub(super) no_wait: bool,
    /// End the session that has the body, if there is one
    #[arg(long)]
    pub(super) takeover: bool,
    /// The same key gets the same session for 24 hours
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum WorkersCommand {
    /// Every worker the controller knows
    List,
    /// Give a worker no new sessions
    Drain {
        /// Its name; without one, the worker that is spoken to drains
        worker: Option<String>,
        /// When its remaining sessions end: RFC 3339, or a span as 30m [default: when they end by
        /// themselves]
        #[arg(long, value_name = "WHEN")]
        deadline: Option<String>,
    },
    /// Give it sessions again
    Undrain {
        /// Its name; without one, the worker that is spoken to
        worker: Option<String>,
    },
}
