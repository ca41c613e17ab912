//! Where the daemon's sockets are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Where the daemon keeps its sockets unless told otherwise.
const DEFAULT: &str = "/run/tapestry";

/// The run directory and what was said about single sockets.
#[derive(Clone, Debug)]
pub struct RunDir {
    directory: PathBuf,
    database: Option<String>,
}

impl RunDir {
    /// `directory` and `database` as given on the command line; `variable` is the value of `OVS_RUNDIR`.
    pub fn new(directory: Option<PathBuf>, database: Option<String>, variable: Option<OsString>) -> Self {
        let variable = variable.filter(|value| !value.is_empty()).map(PathBuf::from);
        RunDir { directory: directory.or(variable).unwrap_or_else(|| PathBuf::from(DEFAULT)), database }
    }

    /// The database's socket.
    ///
    /// # Errors
    /// When `--db` names something else than a Unix socket.
    pub fn database(&self) -> anyhow::Result<PathBuf> {
        match &self.database {
            None => Ok(self.directory.join("db.sock")),
            Some(place) => socket_path(place).with_context(|| format!("--db {place}")),
        }
    }

    /// A bridge's OpenFlow socket; a path or `unix:PATH` instead of a name is taken as it is.
    ///
    /// # Errors
    /// When the name cannot be one of a bridge.
    pub fn bridge(&self, bridge: &str) -> anyhow::Result<PathBuf> {
        if bridge.contains('/') || bridge.contains(':') {
            return socket_path(bridge).with_context(|| format!("bridge {bridge}"));
        }
        if bridge.is_empty() {
            bail!("the name of the bridge is empty");
        }
        Ok(self.directory.join(format!("{bridge}.mgmt")))
    }

    /// The bridges whose sockets are there, in order.
    pub fn bridges(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut bridges: Vec<String> =
            names.filter_map(|n| n.strip_suffix(".mgmt").map(str::to_owned)).collect();
        bridges.sort();
        bridges
    }

    /// The daemon's control socket, which carries its process id in its name.
    ///
    /// # Errors
    /// When the pid file cannot be read.
    pub fn control(&self) -> anyhow::Result<PathBuf> {
        let file = self.directory.join("ovs-vswitchd.pid");
        let text = std::fs::read_to_string(&file).map_err(|error| crate::link::Unreachable {
            what: "the daemon's pid file".to_owned(),
            path: file.clone(),
            error,
        })?;
        let pid: u32 = match text.trim().parse() {
            Ok(pid) => pid,
            Err(_) => bail!("{}: {:?} is not a process id", file.display(), text.trim()),
        };
        Ok(self.directory.join(format!("ovs-vswitchd.{pid}.ctl")))
    }
}

/// `unix:PATH` or a path.
fn socket_path(place: &str) -> anyhow::Result<PathBuf> {
    match place.split_once(':') {
        Some(("unix", path)) => Ok(PathBuf::from(path)),
        Some((method @ ("tcp" | "ssl" | "ptcp" | "pssl" | "punix"), _)) => {
            bail!("{method}: only Unix sockets are spoken to; write unix:PATH or the path")
        }
        _ => Ok(Path::new(place).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_wins_over_environment_over_default() {
        let database = |directory: Option<&str>, variable: Option<&str>| {
            RunDir::new(directory.map(PathBuf::from), None, variable.map(OsString::from)).database().unwrap()
        };
        assert_eq!(database(None, None), Path::new("/run/tapestry/db.sock"));
        assert_eq!(database(None, Some("")), Path::new("/run/tapestry/db.sock"));
        assert_eq!(database(None, Some("/run/a")), Path::new("/run/a/db.sock"));
        assert_eq!(database(Some("/run/b"), Some("/run/a")), Path::new("/run/b/db.sock"));
    }

    #[test]
    fn sockets_by_name_path_and_method() {
        let at = RunDir::new(Some("/r".into()), Some("unix:/x/db".into()), None);
        assert_eq!(at.database().unwrap(), Path::new("/x/db"));
        assert_eq!(at.bridge("br0").unwrap(), Path::new("/r/br0.mgmt"));
        assert_eq!(at.bridge("unix:/x/br0.mgmt").unwrap(), Path::new("/x/br0.mgmt"));
        assert_eq!(at.bridge("./br0.mgmt").unwrap(), Path::new("./br0.mgmt"));
        assert!(at.bridge("tcp:127.0.0.1:6653").is_err());
        assert!(at.bridge("").is_err());
    }
}
