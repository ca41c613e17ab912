//! How many workers there are, which processors they run on, how busy they are, and when they are evened out.

use super::Daemon;
use base::Instant;
use datapath::{CacheLimits, WorkerConfig};
use switch::balance::{self, AutoBalance, History};
use switch::config::WorkerCpus;
use sys::affinity::ThreadId;

/// What the daemon knows of the machine's processors.
pub struct Balancer {
    /// The number of workers when the database says nothing.
    count_default: usize,
    /// The processors that this process may run on.
    available: Vec<usize>,
    loads: Vec<WorkerLoad>,
    /// When loads were measured last, by the kernel's clock, and when they will be next.
    measured: Instant,
    measure_next: Instant,
    /// When workers may be evened out next, under these rules.
    attempt_next: Instant,
    auto: Option<AutoBalance>,
}

/// How busy a worker was in the last minute: times in nanoseconds.
#[derive(Debug, Default)]
pub struct WorkerLoad {
    /// How much time passed.
    pub elapsed: History,
    /// How much of it went to frames.
    pub traffic: History,
    /// How much of it went to commands.
    pub other: History,
    /// What its thread had counted at the last measurement.
    counted: (u64, u64),
}

impl WorkerLoad {
    /// How busy it was, in percent.
    fn percent(&self) -> u64 {
        let sum = |history: &History| history.sum(balance::SAMPLES_MAX).unwrap_or(0);
        balance::percent(sum(&self.traffic) + sum(&self.other), sum(&self.elapsed))
    }
}

impl Balancer {
    /// Asks the kernel for the processors. `count` is what the command line says.
    pub fn new(count: Option<usize>, now: Instant) -> Balancer {
        let count_default = count.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
            (cores / 4).clamp(1, 4)
        });
        let available = ThreadId::own().cpus().unwrap_or_else(|error| {
            tracing::warn!(target: "dpif_netdev", "processors are not known: {error}");
            Vec::new()
        });
        Balancer {
            count_default,
            available,
            loads: Vec::new(),
            measured: sys::clock::monotonic(),
            measure_next: now + balance::SAMPLE_INTERVAL,
            attempt_next: Instant::ZERO,
            auto: None,
        }
    }

    /// How busy workers were, by their numbers; new ones may not be among them yet.
    pub fn loads(&self) -> &[WorkerLoad] {
        &self.loads
    }

    /// When loads are to be measured.
    pub(super) fn next_deadline(&self) -> Instant {
        self.measure_next
    }

    /// The number of workers to begin with.
    pub fn count_default(&self) -> usize {
        self.count_default
    }
}

/// Processors of a mask that there are; what of it is ignored, or why all of it is, is logged.
fn usable(cpus: &[usize], available: &[usize]) -> Option<Vec<usize>> {
    let (usable, missing): (Vec<usize>, Vec<usize>) = cpus.iter().partition(|cpu| available.contains(cpu));
    if usable.is_empty() {
        tracing::warn!(
            target: "dpif_netdev",
            "other_config:pmd-cpu-mask names only processors that are not available ({missing:?}): the workers stay as they are"
        );
        return None;
    }
    if !missing.is_empty() {
        tracing::warn!(
            target: "dpif_netdev",
            "other_config:pmd-cpu-mask names processors that are not available: {missing:?}"
        );
    }
    Some(usable)
}

impl Daemon {
    /// Gives the workers their settings, those of the database and those by command.
    pub fn configure_workers(&mut self) {
        let flows = u32::try_from(self.flow_limit()).unwrap_or(u32::MAX);
        let cache = CacheLimits {
            flows,
            // A port may have half of them; what others are guaranteed it never gets.
            flows_per_port: flows / 2,
            idle: self.config.cache.max_idle,
        };
        let fragments = self.fragments.limits(self.workers.peers().len());
        self.workers.configure(WorkerConfig { cache, fragments, ..WorkerConfig::default() });
    }

    /// Measures loads, and evens workers out if it is time to and the configuration wants it.
    pub(super) fn balance_if_due(&mut self, now: Instant) {
        if now < self.balancer.measure_next {
            return;
        }
        self.balancer.measure_next = now + balance::SAMPLE_INTERVAL;
        self.measure_loads();
        self.sample_events();
        let Some(auto) = self.balancer.auto.filter(|_| now >= self.balancer.attempt_next) else { return };
        self.balancer.attempt_next = now + auto.interval;
        let busy: Vec<u64> = self.balancer.loads.iter().map(WorkerLoad::percent).collect();
        let moved = self.devices.rebalance_if_worth(&auto, &busy, &self.workers);
        if moved > 0 {
            tracing::info!(target: "dpif_netdev", "PMD auto load balance: {moved} rx queues moved");
        }
    }

    /// `dpif-netdev/pmd-rxq-rebalance`: evens workers out by what is known up to now.
    pub fn rebalance(&mut self) {
        self.measure_loads();
        let moved = self.devices.rebalance(&self.workers);
        tracing::info!(target: "dpif_netdev", "rx queues rebalanced: {moved} moved");
    }

    fn measure_loads(&mut self) {
        let now = sys::clock::monotonic();
        let elapsed = now.saturating_since(std::mem::replace(&mut self.balancer.measured, now));
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.balancer.loads.resize_with(self.workers.count(), WorkerLoad::default);
        let mut busy = Vec::new();
        for (load, time) in self.balancer.loads.iter_mut().zip(self.workers.busy()) {
            let counted = (time.traffic.get(), time.other.get());
            let before = std::mem::replace(&mut load.counted, counted);
            let traffic = counted.0.saturating_sub(before.0);
            load.elapsed.push(elapsed);
            load.traffic.push(traffic);
            load.other.push(counted.1.saturating_sub(before.1));
            busy.push(traffic);
        }
        self.devices.measure(&busy);
    }

    fn follow_auto_balance(&mut self, now: Instant) {
        let wanted = self.config.workers.auto_balance;
        if wanted == self.balancer.auto {
            return;
        }
        self.balancer.auto = wanted;
        // The words of ovs-vswitchd.
        match wanted {
            None => tracing::info!(target: "dpif_netdev", "PMD auto load balance is disabled."),
            Some(auto) => {
                self.balancer.attempt_next = now + auto.interval;
                tracing::info!(
                    target: "dpif_netdev",
                    "PMD auto load balance is enabled, interval {} mins, pmd load threshold {}%, improvement threshold {}%.",
                    auto.interval.as_secs() / 60, auto.load_threshold, auto.improvement_threshold
                );
            }
        }
    }

    /// Makes the workers as many as the configuration wants, where it wants them. Receiving sides of those that go have
    /// moved to others before.
    pub(super) fn follow_workers(&mut self, now: Instant) {
        self.follow_auto_balance(now);
        let wanted = match &self.config.workers.cpus {
            WorkerCpus::Invalid => return,
            WorkerCpus::Default => None,
            WorkerCpus::Bound(cpus) => match usable(cpus, &self.balancer.available) {
                Some(usable) => Some(usable),
                None => return,
            },
        };
        if wanted.as_deref() == self.workers.cpus() {
            return;
        }
        let count = wanted.as_ref().map_or(self.balancer.count_default, Vec::len);
        if let Err(error) = self.devices.resize(&mut self.workers, count) {
            tracing::error!(target: "dpif_netdev", "{} workers instead of {count}: {error:#}", self.workers.count());
        }
        self.balancer.loads.truncate(count);
        self.workers.bind(wanted, &self.balancer.available);
        self.devices.workers_changed();
        tracing::info!(target: "dpif_netdev", "There are {} workers", self.workers.count());
    }
}
