// SPDX-License-Identifier: GPL-2.0
//! What can be asked of `pmigctl`: the one definition from which help, man page, completions and parsing come.
#![forbid(unsafe_code)]

mod exit;
mod output;
mod progress;

pub use exit::ExitStatus;
pub use output::print_failure;
pub use output::print_json;
pub use output::Document;
pub use output::SCHEMA;
pub use progress::Progress;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use pmig_core::phase::Fault;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The TCP port on which agents listen.
pub const DEFAULT_PORT: u16 = 7788;
/// Where the agent of this host takes requests.
pub const DEFAULT_SOCKET: &str = "/run/pmig/agent.sock";
/// Where an agent keeps its journal.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/pmig";

/// Move running, unmodified processes between Linux hosts.
#[derive(Parser, Debug)]
#[command(
    name = "pmigctl",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = exit::HELP,
    max_term_width = 100
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// Print the result as one JSON document with a schema number
    #[arg(long, global = true)]
    pub json: bool,
    /// Print more about what happens; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Socket of this host's agent
    #[arg(long, global = true, value_name = "PATH", env = "PMIG_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Move a process to another host
    Migrate(MigrateArgs),
    /// Run the agent of this host
    Agent(AgentArgs),
    /// List everything that keeps a process from being moved, without touching it
    Explain(ExplainArgs),
    /// Show the migrations and the sessions of this host, and what is in doubt
    Status,
    /// Decide by hand where the process of a migration in doubt runs
    Resolve(ResolveArgs),
    /// Check what this host, or this host together with a peer, lacks
    Doctor(DoctorArgs),
    /// Move everything movable away from this host
    Drain(DrainArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// Wait in a system call
    #[command(hide = true, name = crate::agent::WAIT_VERB)]
    WaitInCall {
        /// The call
        call: WaitCall,
    },
}

/// A system call to wait in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WaitCall {
    /// `pause`
    Pause,
    /// `clock_nanosleep`
    Nanosleep,
    /// `futex` with a time
    Futex,
    /// `poll` with a time
    Poll,
}

/// Arguments of `migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// The process
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: u32,
    /// The destination: a name or address, with `:PORT` if it is not the default
    pub host: String,
    /// Port of the destination's agent
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    pub to_port: u16,
    /// Do everything up to the freeze, print the obstacles, and move nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Give up, and let the process go on here, if it is not moved after this time (`30`, `500ms`, `2m`)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `agent`.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Talk to other agents over plain TCP: anyone who can reach the port can start programs on this host as any user
    #[arg(long)]
    pub insecure: bool,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)))]
    pub listen: SocketAddr,
    /// Where the journal is kept
    #[arg(long, value_name = "DIR", env = "PMIG_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Migrations that may go on at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub max_migrations: u32,
    /// A peer that says nothing for so long is lost, and a migration that may be undone is undone (`5`, `1m`)
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = parse_peer_timeout)]
    pub peer_timeout: Duration,
    /// Do something wrong at a point of a migration, for tests: `source:commit:end:kill`, `destination:rebuild:error`
    #[arg(long, value_name = "SIDE:PHASE[:EDGE]:ACTION", hide = true)]
    pub fault: Vec<Fault>,
}

/// Arguments of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The process
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: u32,
    /// Ask this host too what it lacks for the process
    #[arg(long, value_name = "HOST")]
    pub to: Option<String>,
    /// Port of that host's agent
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    pub to_port: u16,
}

/// Arguments of `resolve`.
#[derive(Args, Clone, Debug)]
pub struct ResolveArgs {
    /// The migration, as `status` shows it
    pub migration: String,
    /// What becomes of the copy on this host.
    #[command(flatten)]
    pub decision: DecisionArgs,
}

/// What `resolve` decides.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct DecisionArgs {
    /// Let the copy on this host run. The other host's copy must be known to be dead
    #[arg(long)]
    pub run_here: bool,
    /// Kill the copy on this host
    #[arg(long)]
    pub kill_here: bool,
}

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Compare with this host
    #[arg(long, value_name = "HOST")]
    pub peer: Option<String>,
    /// Port of that host's agent
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    pub to_port: u16,
}

/// Arguments of `drain`.
#[derive(Args, Clone, Debug)]
pub struct DrainArgs {
    /// The destination
    #[arg(long, value_name = "HOST")]
    pub to: String,
    /// Port of the destination's agent
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    pub to_port: u16,
    /// Show the plan and move nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only processes of this user, a name or number; may be given several times
    #[arg(long, value_name = "USER")]
    pub user: Vec<String>,
    /// Only this process; may be given several times
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Only processes in this control group or below, as in /proc/PID/cgroup; may be given several times
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Also consider system daemons
    #[arg(long)]
    pub system: bool,
    /// Give up on one process after this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// Arguments of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Reads a time: a number with `ms`, `s`, `m` or `h`; seconds without a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is not a time"))?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(format!("`{unit}` is not a unit of time: use ms, s, m or h")),
    };
    milliseconds
        .filter(|milliseconds| *milliseconds > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a usable time"))
}

/// The same, for the silence of a peer: one that is well says something every second.
fn parse_peer_timeout(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_secs(3);
    match parse_duration(text)? {
        time if time < SHORTEST => Err(format!("less than {} s", SHORTEST.as_secs())),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in [
            "",
            "0",
            "-1",
            "1d",
            "x",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_peer_timeout("3"), Ok(Duration::from_secs(3)));
        assert!(parse_peer_timeout("2999ms").is_err());
    }
}
