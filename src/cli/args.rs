//! The shape of the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
    Demo {
        /// Print one JSON line when the first session is ready
        #[arg(long)]
        json: bool,
        /// Port of the demo's controller; another one is taken when it is in use
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Serve a body that is none, for tests
    #[command(hide = true)]
    DemoBody {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1")]
        address: IpAddr,
    },
    /// Check, show or explain the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
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
