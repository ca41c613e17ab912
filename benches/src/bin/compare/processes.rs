//! Programs that are run: daemons, which end with this process whatever ends it, and commands.

use anyhow::{Context as _, Result, bail, ensure};
use benches::compare::clock::pause;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longest time for a program to do anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A process that is killed with the value. The kernel kills it when this process ends without doing so.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    /// Starts what [`bound_to_us`] made, with its output going to a file.
    ///
    /// # Errors
    /// If there is no such program, or the file cannot be made.
    pub fn spawn(command: &mut Command, output: &Path) -> Result<Daemon> {
        let log = std::fs::File::create(output).with_context(|| output.display().to_string())?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Daemon(child.with_context(|| format!("{command:?}"))?))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.id() as i32).context("no process")?;
        kill_process(pid, signal).with_context(|| format!("process {}", self.id()))
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// If it has; what it left behind is in `output`.
    pub fn check(&mut self, output: &Path) -> Result<()> {
        if let Some(status) = self.0.try_wait()? {
            let said = std::fs::read_to_string(output).unwrap_or_default();
            bail!("ended with {status}: {} ({})", said.trim(), output.display());
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Whether it had ended by itself does not matter here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that the kernel ends with the thread that starts it, which must therefore be the main one.
pub fn bound_to_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// If it fails, with what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let text = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| text.clone())?;
    ensure!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks until it works or patience ends.
///
/// # Errors
/// That of the last attempt.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let steps = PATIENCE.as_millis() / 20;
    for _ in 0..steps {
        if let Ok(done) = attempt() {
            return Ok(done);
        }
        pause(Duration::from_millis(20));
    }
    attempt().with_context(|| format!("waited for {what}"))
}

/// Starts a daemon in the manner of Open vSwitch's with its files in `dir`, and waits until it answers. Its libraries come out of
/// unpacked packages, if such are named.
///
/// # Errors
/// If it does not start; its log is in `dir`.
pub fn spawn(command: &mut Command, dir: &Path, name: &str, libraries: Option<&Path>) -> Result<Daemon> {
    let control = dir.join(format!("{name}.ctl"));
    command
        .arg(format!("--unixctl={}", control.display()))
        .arg(format!("--log-file={}", dir.join(format!("{name}.log")).display()))
        .arg(format!("--pidfile={}", dir.join(format!("{name}.pid")).display()))
        .arg("-vconsole:off");
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "RUNTIME_DIRECTORY"] {
        command.env(variable, dir);
    }
    if let Some(unpacked) = libraries {
        command.env("LD_LIBRARY_PATH", library_dir(unpacked)?);
    }
    let output = dir.join(format!("{name}.out"));
    let mut daemon = Daemon::spawn(command, &output)?;
    for _ in 0..PATIENCE.as_millis() / 20 {
        if UnixStream::connect(&control).is_ok() {
            return Ok(daemon);
        }
        daemon.check(&output).with_context(|| name.to_owned())?;
        pause(Duration::from_millis(20));
    }
    bail!("{name} does not answer on {}; see {}", control.display(), output.display())
}

/// `usr/lib/<architecture>` of the unpacked packages of Open vSwitch with DPDK.
///
/// # Errors
/// If they are not complete.
pub fn library_dir(unpacked: &Path) -> Result<PathBuf> {
    let lib = unpacked.join("usr/lib");
    for entry in std::fs::read_dir(&lib).with_context(|| lib.display().to_string())? {
        let path = entry?.path();
        if path.join("dpdk").is_dir() {
            return Ok(path);
        }
    }
    bail!("no DPDK drivers under {}", lib.display())
}

/// An empty directory, absolute.
///
/// # Errors
/// If what was there cannot be removed.
pub fn empty_dir(dir: &Path) -> Result<PathBuf> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    Ok(dir.canonicalize()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_at_once_is_not_waited_for() {
        let dir = empty_dir(&std::env::temp_dir().join(format!("compare-{}", std::process::id()))).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such option; exit 3", "sh"]);
        let error = spawn(&mut command, &dir, "daemon", None).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("no such option") && text.contains("daemon.out"), "{text}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
