//! `Open_vSwitch:statistics` of ovs-vswitchd.conf.db(5), if `other_config:enable-statistics` wants it: processors, load, memory,
//! daemons, file systems.
//!
//! A file system may not answer for long, so a thread asks, of which there is one at most.

use crate::args::Places;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use sys::process::{ClockTicks, lock_holder};

type Pairs = BTreeMap<String, String>;

/// What is known of the host.
#[derive(Default)]
pub struct HostStatistics {
    latest: Pairs,
    coming: Option<Receiver<Pairs>>,
    wanted: bool,
}

impl HostStatistics {
    /// Begins to gather anew, unless that is going on. What is there goes if it is not wanted.
    pub fn gather(&mut self, wanted: bool, places: &Places, notify: Arc<dyn Fn() + Send + Sync>) {
        self.wanted = wanted;
        if !wanted {
            self.latest.clear();
        }
        if !wanted || self.coming.is_some() {
            return;
        }
        let (sender, coming) = bounded(1);
        let (rundir, pid_file) = (places.rundir.clone(), places.pidfile.clone());
        let body = move || {
            if sender.send(gathered(&rundir, &pid_file)).is_ok() {
                notify();
            }
        };
        match std::thread::Builder::new().name("host-stats".to_owned()).spawn(body) {
            Ok(_) => self.coming = Some(coming),
            Err(error) => tracing::warn!(target: "bridge", "no statistics of the host: {error}"),
        }
    }

    /// Takes what has been gathered; whether that is something.
    pub fn collect(&mut self) -> bool {
        match self.coming.as_ref().map(Receiver::try_recv) {
            Some(Ok(pairs)) => {
                self.coming = None;
                let is_news = self.wanted && pairs != self.latest;
                if is_news {
                    self.latest = pairs;
                }
                is_news
            }
            Some(Err(TryRecvError::Disconnected)) => {
                self.coming = None;
                false
            }
            _ => false,
        }
    }

    /// The column's pairs.
    pub fn latest(&self) -> &Pairs {
        &self.latest
    }
}

fn gathered(rundir: &Path, pid_file: &Path) -> Pairs {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let mut pairs = Pairs::new();
    let mut tell = |key: String, value: Option<String>| pairs.extend(value.map(|value| (key, value)));
    tell("cpu".to_owned(), read("/sys/devices/system/cpu/online").as_deref().and_then(processors));
    tell("load_average".to_owned(), read("/proc/loadavg").as_deref().and_then(load_average));
    tell("memory".to_owned(), read("/proc/meminfo").as_deref().and_then(memory));
    let ticks = ClockTicks::of_kernel();
    for (name, pid) in daemons(rundir, pid_file) {
        let text = read(&format!("/proc/{pid}/stat")).zip(read("/proc/uptime"));
        let text = text.and_then(|(stat, uptime)| process(&stat, &uptime, ticks));
        tell(format!("process_{name}"), text);
    }
    let mounts = read("/proc/mounts").unwrap_or_default();
    let size = |path: &str| sys::process::file_system_size(Path::new(path)).ok();
    tell("file_systems".to_owned(), file_systems(&mounts, &size));
    pairs
}

/// The number of processors in a list such as `0-3,6`.
fn processors(list: &str) -> Option<String> {
    let mut count = 0;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count += last.checked_sub(first)?.checked_add(1)?;
    }
    Some(count.to_string())
}

/// The three numbers at the start of `/proc/loadavg`.
fn load_average(text: &str) -> Option<String> {
    let numbers: Vec<&str> = text.split_ascii_whitespace().take(3).collect();
    (numbers.len() == 3).then(|| numbers.join(","))
}

/// KiB of memory in all, in use, of that for caches; of swap in all, in use.
fn memory(text: &str) -> Option<String> {
    let value = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    let (total, free) = (value("MemTotal")?, value("MemFree")?);
    let used = total.saturating_sub(free);
    let caches = (value("Buffers")? + value("Cached")?).min(used);
    let (swap, swap_free) = (value("SwapTotal")?, value("SwapFree")?);
    Some(format!("{total},{used},{caches},{swap},{}", swap.saturating_sub(swap_free)))
}

/// The daemons that have a pid file in the run directory: name and process.
fn daemons(rundir: &Path, own: &Path) -> Vec<(String, i64)> {
    let files = std::fs::read_dir(rundir).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for path in files.map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".pid"));
        let Some(name) = name else { continue };
        // To close another descriptor of our own file would unlock it.
        let pid = match path == own {
            true => Some(i64::from(std::process::id())),
            false => lock_holder(&path).ok().flatten().map(i64::from),
        };
        found.extend(pid.filter(|pid| *pid > 0).map(|pid| (name.to_owned(), pid)));
    }
    found
}

/// KiB of address space and of memory, milliseconds of processor time, crashes, twice the milliseconds since the start, and the
/// processor it last ran on, which OVS tells too though its manual does not; from `/proc/PID/stat` and `/proc/uptime` (proc(5)).
fn process(stat: &str, uptime: &str, ticks: ClockTicks) -> Option<String> {
    // The name may have blanks and parentheses in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first is field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let cpu = ticks.millis(field(14)? + field(15)?);
    let up_ms = uptime.split_ascii_whitespace().next()?.parse::<f64>().ok()? * 1_000.0;
    let age = (up_ms as u64).saturating_sub(ticks.millis(field(22)?));
    let (virtual_kib, resident_kib) = (field(23)? / 1_024, field(24)? * ticks.page_size / 1_024);
    let processor = field(39)?;
    Some(format!("{virtual_kib},{resident_kib},{cpu},0,{age},{age},{processor}"))
}

/// Local file systems that can be written to: mount point, KiB in all, KiB in use.
fn file_systems(mounts: &str, size: &dyn Fn(&str) -> Option<(u64, u64)>) -> Option<String> {
    let mut out = String::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [device, mount_point, _, options, ..] = fields[..] else { continue };
        if !device.starts_with("/dev") || !options.split(',').any(|option| option == "rw") {
            continue;
        }
        // Blanks are written as octal numbers there (fstab(5)).
        let path = mount_point.replace("\\040", " ");
        let Some((total, used)) = size(&path) else { continue };
        let separator = if out.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(out, "{separator}{},{total},{used}", path.replace([' ', ','], "_"));
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKS: ClockTicks = ClockTicks { per_second: 100, page_size: 4_096 };

    #[test]
    fn processors_load_and_memory() {
        for (list, count) in [("0\n", "1"), ("0-1\n", "2"), ("0-3,6,8-9\n", "7")] {
            assert_eq!(processors(list).as_deref(), Some(count), "{list}");
        }
        assert_eq!((processors(""), processors("3-1"), processors("x")), (None, None, None));
        assert_eq!(load_average("2.47 1.70 0.81 3/214 8186\n").as_deref(), Some("2.47,1.70,0.81"));
        assert_eq!(load_average("2.47"), None);
        let text = "MemTotal: 24684096 kB\nMemFree: 18702028 kB\nMemAvailable: 1 kB\nBuffers: 100 kB\nCached: 5283652 kB\n\
                    SwapCached: 7 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n";
        assert_eq!(memory(text).as_deref(), Some("24684096,5982068,5283752,50,30"));
        assert_eq!(memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn processes_may_have_any_name() {
        let stat = "8189 (ovs) vs) S 1 8189 8189 0 -1 4194368 2300 0 0 0 11 6 0 0 10 -10 5 0 13860 478834688 4508 9 1 1 0 0 0 0 \
                    4096 0 0 0 0 0 17 3 0\n";
        let told = process(stat, "277.25 500.11\n", TICKS);
        assert_eq!(told.as_deref(), Some("467612,18032,170,0,138650,138650,3"));
        assert_eq!(process("8189 (x) S 1", "1.0 1.0", TICKS), None);
    }

    #[test]
    fn file_systems_are_local_and_writable() {
        let mounts = "/dev/sda1 / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0\n/dev/sdb /mnt/a\\040b,c xfs noatime,rw 0 0\n\
                      /dev/sr0 /cd iso9660 ro 0 0\nhost:/x /nfs nfs rw 0 0\n/dev/sdc /gone ext4 rw 0 0\n";
        let size = |path: &str| match path {
            "/" => Some((100, 60)),
            "/mnt/a b,c" => Some((7, 0)),
            _ => None,
        };
        assert_eq!(file_systems(mounts, &size).as_deref(), Some("/,100,60 /mnt/a_b_c,7,0"));
        assert_eq!(file_systems("proc /proc proc rw 0 0\n", &size), None);
    }

    /// What is gathered here is in the form of the manual, and this process is among the daemons without its lock being lost.
    #[test]
    fn everything_is_gathered_of_this_host() {
        let dir = std::env::temp_dir().join(format!("vswitchd-host-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let own = dir.join("ovs-vswitchd.pid");
        let file = sys::process::PidFile::create(&own).expect("a pid file");
        std::fs::write(dir.join("dead.pid"), "1\n").expect("written");
        let pairs = gathered(&dir, &own);
        let numbers = |key: &str| {
            pairs.get(key).map(|v| v.split([',', ' ']).filter(|n| n.parse::<f64>().is_ok()).count())
        };
        assert_eq!(numbers("cpu"), Some(1));
        assert_eq!(numbers("load_average"), Some(3));
        assert_eq!(numbers("memory"), Some(5));
        assert_eq!(numbers("process_ovs-vswitchd"), Some(7));
        assert!(!pairs.contains_key("process_dead"), "{pairs:?}");
        drop(file);
        std::fs::remove_dir_all(&dir).expect("removable");
    }

    #[test]
    fn what_is_not_wanted_any_more_goes() {
        let rundir = std::env::temp_dir();
        let places = Places {
            rundir: rundir.clone(),
            db: rundir.clone(),
            pidfile: rundir.join("no.pid"),
            log_file: None,
        };
        let (told, tells) = bounded::<()>(4);
        let notify: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            let _ = told.send(());
        });
        let mut host = HostStatistics::default();
        host.gather(true, &places, Arc::clone(&notify));
        tells.recv().expect("gathered");
        assert!(host.collect() && host.latest().contains_key("cpu") && !host.collect());
        host.gather(true, &places, Arc::clone(&notify));
        tells.recv().expect("gathered");
        host.gather(false, &places, notify);
        assert!(!host.collect() && host.latest().is_empty());
    }
}
