//! What ovs-appctl(8) says to a daemon, over one connection that stays open: a suite of thousands of commands cannot start a
//! program for each.

use crate::{DAEMON_WAIT_MAX, Ran, Tools};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::net::UnixStream;

/// A connection to a daemon's `ovs-vswitchd.PID.ctl`.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    serial: u64,
}

impl Control {
    /// Connects to `daemon`, which has to be up.
    pub fn open(daemon: &dyn Tools) -> Control {
        let file = daemon.dir().join("ovs-vswitchd.pid");
        let pid = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let socket = daemon.dir().join(format!("ovs-vswitchd.{}.ctl", pid.trim()));
        let stream = UnixStream::connect(&socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        stream.set_read_timeout(Some(DAEMON_WAIT_MAX)).unwrap_or_else(|e| panic!("a time limit: {e}"));
        Control { stream, serial: 0 }
    }

    /// Sends a command whose answer [`Control::answer`] gives.
    ///
    /// # Errors
    /// The daemon has closed the connection.
    pub fn ask(&mut self, command: &str, args: &[&str]) -> std::io::Result<()> {
        self.serial += 1;
        let request = json!({ "id": self.serial, "method": command, "params": args });
        self.stream.write_all(request.to_string().as_bytes())
    }

    /// The answer to the last command, as ovs-appctl would print it: what was said, and a code of 2 for an error.
    ///
    /// # Errors
    /// The daemon has closed the connection, or says nothing for [`DAEMON_WAIT_MAX`].
    pub fn answer(&mut self) -> std::io::Result<Ran> {
        let mut answers = serde_json::Deserializer::from_reader(&self.stream).into_iter::<Value>();
        let answer = answers.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        let (stdout, stderr) = (text("result"), text("error"));
        Ok(Ran { code: if answer["error"].is_null() { 0 } else { 2 }, stdout, stderr })
    }
}
