//! The command line: arguments to a role or a command; exit codes; tables or JSON.
//!
//! stdout is data, stderr is talk. Exit codes: 0 ok, 1 failed, 2 usage, 69 peer unavailable
//! (`EX_UNAVAILABLE`), 78 bad configuration (`EX_CONFIG`).

mod args;
mod config;
mod doctor;
mod events;
mod listen;
mod redirect;
mod remote;
mod role;
mod sessions;
mod signals;
mod table;
mod trial;
mod update;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use self::args::{Cli, Command, ConfigCommand};
use crate::config::Role;
use crate::log as lines;
#[cfg(feature = "demo")]
use crate::{demo, descriptors};

/// sysexits(3): a service that is needed is not there.
pub(crate) const EX_UNAVAILABLE: u8 = 69;
/// sysexits(3): something is wrong with the configuration.
pub(crate) const EX_CONFIG: u8 = 78;

/// sysexits(3), `EX_TEMPFAIL`: start this program again, its binary was replaced.
pub(crate) const EX_RESTART: u8 = 75;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let raw: Vec<OsString> = std::env::args_os().collect();
    // The test card has the stream program's own command line.
    #[cfg(feature = "demo")]
    if raw
        .get(1)
        .is_some_and(|verb| verb == crate::session::stream_program::TESTCARD)
    {
        return demo::testcard::run(raw.into_iter().skip(2).collect());
    }
    let matches = match Cli::command().try_get_matches_from(&raw) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are data and succeed; the rest is usage.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => run(cli),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> ExitCode {
    let _flush = lines::FlushAtEnd;
    // Until a configuration says otherwise.
    lines::init(::log::LevelFilter::Info, lines::Format::Text);
    let config = cli.config.as_deref();
    match cli.command {
        Command::Controller => role::run(Role::Controller, config),
        Command::Worker { keep_sessions } => role::run_worker(config, keep_sessions),
        #[cfg(feature = "demo")]
        Command::Demo { json, port } => {
            descriptors::raise();
            demo::run(&demo::Options {
                json: json || cli.json,
                port,
            })
        }
        Command::IceServers { file } => match crate::worker::ice_servers::fresh(&file) {
            Ok(servers) => print(&servers),
            Err(why) => fail(&why, 1),
        },
        #[cfg(feature = "demo")]
        Command::DemoBody { address } => demo::run_body(address),
        Command::Doctor { body, unpair } => doctor::run(
            config,
            doctor::DoctorOptions {
                body,
                unpair,
                json: cli.json,
            },
        ),
        Command::Sessions { remote, command } => remote::run(config, &remote, |peer| {
            sessions::run(peer, command, cli.json)
        }),
        Command::Workers { remote, command } => remote::run(config, &remote, |peer| {
            workers::run(peer, command, cli.json)
        }),
        Command::Events {
            remote,
            follow,
            since,
        } => remote::run(config, &remote, |peer| {
            events::run(peer, since, follow, cli.json)
        }),
        Command::Config { command } => match command {
            ConfigCommand::Check { skip_secret_files } => {
                config::check(config, skip_secret_files, cli.json)
            }
            ConfigCommand::Show => config::show(config, cli.json),
            ConfigCommand::Example => print(&crate::config::example()),
            ConfigCommand::Reference => print(&crate::config::reference()),
        },
        Command::CheckUpdate => update::run(
            config,
            update::UpdateOptions {
                check: true,
                json: cli.json,
                no_restart: true,
            },
        ),
        Command::Update { no_restart } => update::run(
            config,
            update::UpdateOptions {
                check: false,
                json: cli.json,
                no_restart,
            },
        ),
        Command::Version if cli.json => {
            let version = serde_json::json!({ "version": crate::protocol::VERSION });
            print(&format!("{version}\n"))
        }
        Command::Version => print(&format!("hydraneckwebrtc {}\n", crate::protocol::VERSION)),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(
                shell,
                &mut command,
                "hydraneckwebrtc",
                &mut std::io::stdout(),
            );
            ExitCode::SUCCESS
        }
        Command::Man => {
            match clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.to_string(), 1),
            }
        }
    }
}

/// Data to stdout; a reader that went away is no failure of ours to report.
fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// One clear line to stderr, and the exit code.
fn fail(why: &str, code: u8) -> ExitCode {
    lines::say(&format!("hydraneckwebrtc: {why}"));
    ExitCode::from(code)
}
