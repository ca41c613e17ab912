//! Tools that run beside a test, such as `ovs-ofctl monitor`.

use crate::{Tools, wait_for};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A tool that runs until it is stopped, and what it has printed.
#[derive(Debug)]
pub struct Watching {
    child: Child,
    file: PathBuf,
}

impl Watching {
    /// Starts a line such as `ovs-ofctl monitor br0`, whose output goes to a file of this name.
    pub fn start(daemon: &dyn Tools, name: &str, line: &str) -> Watching {
        let file = daemon.dir().join(name);
        let out = std::fs::File::create(&file).expect("a file");
        let (program, rest) = line.split_once(' ').expect("words");
        let mut command = daemon.lasting_tool(program, rest);
        command.stdin(Stdio::null()).stderr(out.try_clone().expect("a file")).stdout(out);
        Watching { child: command.spawn().expect("a tool"), file }
    }

    /// What it has printed.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = std::fs::File::open(&self.file).map(|mut f| f.read_to_string(&mut text));
        text
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args([signal, &pid]).status();
    }

    /// Has it read and print nothing for a while.
    pub fn stop(&self) -> Stopped<'_> {
        self.signal("-STOP");
        Stopped(self)
    }

    /// Waits until it has printed these words.
    pub fn sees(&self, words: &str) {
        wait_for(words, || self.text().contains(words));
    }
}

/// While it lives, the tool stands still.
#[derive(Debug)]
pub struct Stopped<'a>(&'a Watching);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.signal("-CONT");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.file.display(), self.text());
        }
    }
}
