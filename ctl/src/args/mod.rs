//! The command line: options, commands and their help.
//!
//! Everything that `--help` says stands here and nowhere else; `GROUPS` only says under which heading a command is listed.

mod conntrack;
mod daemon;
mod database;
mod openflow;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::StyledStr;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub use conntrack::*;
pub use daemon::*;
pub use database::*;
pub use openflow::*;

const EXAMPLES: &str = "\
Examples:
  tapctl add-br br0
  tapctl add-port br0 pod1 --type internal          a TAP that can be moved into a namespace
  tapctl add-port br0 pod2 --type tap --netns pod2 --tag 10
  tapctl add-flow br0 'priority=100,tcp,nw_dst=10.0.0.2,tp_dst=80,actions=output:pod2'
  tapctl dump-flows br0 table=0 --names
  tapctl trace br0 in_port=pod1,tcp,nw_dst=10.0.0.2,tp_dst=80
  tapctl top
  tapctl --json show | jq .bridges[].name

Flows are written as for ovs-ofctl, names of ports included. `tapctl COMMAND --help` says more about each command.
Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Controls Tapestry, the virtual switch: bridges and ports, flows, and the daemon itself
///
/// Speaks to the running daemon (vswitchd) over the sockets in its run directory, the same that ovs-vsctl, ovs-ofctl and
/// ovs-appctl use. The configuration is kept by the daemon's database and outlives restarts.
#[derive(Parser, Debug)]
#[command(name = "tapctl", version, max_term_width = 110, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Options for every command")]
pub struct Global {
    /// Directory with the daemon's sockets [default: $OVS_RUNDIR, or else /run/tapestry]
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub rundir: Option<PathBuf>,
    /// The database's socket, a path or unix:PATH [default: db.sock in the run directory]
    #[arg(long, global = true, value_name = "SOCKET", value_hint = clap::ValueHint::FilePath)]
    pub db: Option<String>,
    /// How long to wait for answers; 0 waits for ever
    #[arg(long, global = true, value_name = "SECS", default_value = "10", value_parser = parse_seconds)]
    pub timeout: Duration,
    /// Print JSON instead of text; errors too, as an object on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// When to colour the output; NO_COLOR in the environment turns `auto` off
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: When,
}

/// When to use colours.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// On a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// The longest time that can be asked for: about 30 years.
const SECONDS_MAX: f64 = 1e9;

/// Reads a number of seconds, a fraction maybe.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds".to_owned()),
    }
}

/// The commands. The first line of each comment is its line in the list, the rest its help.
#[derive(Subcommand, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// Print the bridges with their ports: types, VLANs, numbers, links, errors
    Show,
    /// Create a bridge
    AddBr(AddBridge),
    /// Remove a bridge with all its ports and flows
    DelBr(DeleteBridge),
    /// List the bridges
    ListBr,
    /// Add a port to a bridge
    AddPort(AddPort),
    /// Remove a port
    DelPort(DeletePort),
    /// List the ports of a bridge, except its own
    ListPorts(ListPorts),
    /// Set columns of a database record
    Set(SetColumns),
    /// Print columns of a database record
    Get(GetColumns),

    /// Add a flow
    AddFlow(AddFlow),
    /// Add, change and delete flows from a file: all of them or none
    AddFlows(AddFlows),
    /// Change the actions of flows
    ModFlows(ModFlows),
    /// Delete flows
    DelFlows(DeleteFlows),
    /// Print flows with their counters
    DumpFlows(DumpFlows),
    /// Print the tables in use with their counters
    Tables(BridgeName),
    /// Print the ports as OpenFlow sees them, with their settings
    ShowPorts(BridgeName),
    /// Print the counters of ports
    DumpPorts(DumpPorts),
    /// Change a port's settings: up, down, flood, …
    ModPort(ModPort),
    /// Send a frame through the switch
    PacketOut(PacketOut),
    /// Print the frames that flows send to the controller
    Monitor(Monitor),

    /// Show the path of a made-up packet through the flow tables
    Trace(Trace),
    /// Print the learned MAC addresses of a bridge
    Fdb(BridgeName),
    /// Forget learned MAC addresses
    FdbFlush(MaybeBridge),
    /// Print the cached flows
    Cache(MaybeBridge),
    /// Look at tracked connections, end them, and limit them
    Conntrack(Conntrack),
    /// Print why frames were dropped, by port
    Drops,
    /// Watch packet rates, drops and the flow cache
    Top(Top),
    /// Print or set log levels
    Log(Log),
    /// Print the versions of this program and of the daemon
    Version,
    /// End the daemon
    Exit(Exit),
    /// Run any command of the daemon, as ovs-appctl does
    Appctl(Appctl),

    /// Print a script that makes a shell complete this program's commands and options
    Completions(Completions),
}

/// The headings under which the commands are listed.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Bridges and ports (kept in the database)",
        &["show", "add-br", "del-br", "list-br", "add-port", "del-port", "list-ports", "set", "get"],
    ),
    (
        "Flows (OpenFlow)",
        &[
            "add-flow",
            "add-flows",
            "mod-flows",
            "del-flows",
            "dump-flows",
            "tables",
            "show-ports",
            "dump-ports",
            "mod-port",
            "packet-out",
            "monitor",
        ],
    ),
    (
        "Looking into the daemon, and running it",
        &[
            "trace",
            "fdb",
            "fdb-flush",
            "cache",
            "conntrack",
            "drops",
            "top",
            "log",
            "version",
            "exit",
            "appctl",
        ],
    ),
    ("This program", &["completions"]),
];

/// The command line with its commands listed under headings.
pub fn command_line() -> clap::Command {
    let command = Cli::command();
    let heading = command.get_styles().get_header();
    let literal = command.get_styles().get_literal();
    let mut list = String::new();
    for (title, names) in GROUPS {
        list += &format!("\n{heading}{title}:{heading:#}\n");
        for name in names {
            let about =
                command.find_subcommand(name).and_then(clap::Command::get_about).map(StyledStr::to_string);
            list += &format!("  {literal}{name:<12}{literal:#} {}\n", about.unwrap_or_default());
        }
    }
    let template =
        format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{list}\n{{options}}{{after-help}}");
    command.help_template(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definition_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn every_command_is_listed_once() {
        let command = Cli::command();
        let mut commands: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        commands.sort_unstable();
        listed.sort_unstable();
        assert_eq!(commands, listed);
    }

    #[test]
    fn help_names_every_command_and_option() {
        let help = command_line().render_long_help().to_string();
        for word in ["add-flows  ", "Watch packet rates", "--rundir", "--json", "Examples:", "Exit status"] {
            assert!(help.contains(word), "{word} is missing in:\n{help}");
        }
    }

    #[test]
    fn global_options_stand_anywhere() {
        for line in [["tapctl", "--json", "show"], ["tapctl", "show", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().global.json);
        }
        let cli = Cli::try_parse_from(["tapctl", "--timeout", "0.5", "list-br"]).unwrap();
        assert_eq!(cli.global.timeout, Duration::from_millis(500));
        for bad in ["-1", "x", "inf", "nan"] {
            assert!(Cli::try_parse_from(["tapctl", &format!("--timeout={bad}"), "show"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_or_two_names_for_del_port() {
        let names = |line: &[&str]| match Cli::try_parse_from(line).map(|cli| cli.command) {
            Ok(Command::DelPort(args)) => args.names,
            other => panic!("{other:?}"),
        };
        assert_eq!(names(&["tapctl", "del-port", "p"]), ["p"]);
        assert_eq!(names(&["tapctl", "del-port", "br0", "p", "--if-exists"]), ["br0", "p"]);
        assert!(Cli::try_parse_from(["tapctl", "del-port", "a", "b", "c"]).is_err());
        assert!(Cli::try_parse_from(["tapctl", "del-port"]).is_err());
    }

    #[test]
    fn raw_commands_keep_their_options() {
        match Cli::try_parse_from(["tapctl", "appctl", "dpctl/dump-flows", "-m", "--names"])
            .map(|cli| cli.command)
        {
            Ok(Command::Appctl(args)) => {
                assert_eq!(
                    (args.command.as_str(), args.args),
                    ("dpctl/dump-flows", vec!["-m".into(), "--names".into()])
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
