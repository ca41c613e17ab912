//! Commands to the daemon, and about this program.

use std::time::Duration;

/// A command for one bridge or all.
#[derive(clap::Args, Debug)]
pub struct MaybeBridge {
    /// Name of the bridge; without it all
    #[arg(value_name = "BR")]
    pub bridge: Option<String>,
}

const TRACE_HELP: &str = "\
Nothing is sent and nothing learned, unless --generate asks for it.

Example:
  tapctl trace br0 in_port=pod1,tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_dst=80";

/// `trace`.
#[derive(clap::Args, Debug)]
#[command(after_help = TRACE_HELP)]
pub struct Trace {
    /// Name of the bridge
    #[arg(value_name = "BR")]
    pub bridge: String,
    /// The packet, as a match
    #[arg(value_name = "FLOW")]
    pub flow: String,
    /// The frame in hexadecimal digits, if it matters
    #[arg(value_name = "FRAME")]
    pub frame: Option<String>,
    /// Really do it: learn, count, send
    #[arg(long)]
    pub generate: bool,
}

/// `log`.
#[derive(clap::Args, Debug)]
pub struct Log {
    /// Levels to set, as MODULE:DESTINATION:LEVEL (see ovs-appctl(8)); without any they are listed
    #[arg(value_name = "SPEC")]
    pub specs: Vec<String>,
}

/// `exit`.
#[derive(clap::Args, Debug)]
pub struct Exit {
    /// Remove the devices that the daemon made
    #[arg(long)]
    pub cleanup: bool,
}

/// `appctl`.
#[derive(clap::Args, Debug)]
pub struct Appctl {
    /// The command; list-commands lists them
    #[arg(value_name = "CMD")]
    pub command: String,
    /// Its arguments
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// `top`.
#[derive(clap::Args, Debug)]
pub struct Top {
    /// Seconds between two looks
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_interval)]
    pub interval: Duration,
    /// Print once, after one interval, and end
    #[arg(long)]
    pub once: bool,
}

/// The shortest interval; looking costs the daemon something.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = super::parse_seconds(text)?;
    if interval < INTERVAL_MIN { Err("at least 0.05 seconds".to_owned()) } else { Ok(interval) }
}

const COMPLETIONS_HELP: &str = "\
Examples:
  tapctl completions bash > /etc/bash_completion.d/tapctl
  tapctl completions zsh > \"${fpath[1]}/_tapctl\"
  tapctl completions fish > ~/.config/fish/completions/tapctl.fish";

/// `completions`.
#[derive(clap::Args, Debug)]
#[command(after_help = COMPLETIONS_HELP)]
pub struct Completions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
