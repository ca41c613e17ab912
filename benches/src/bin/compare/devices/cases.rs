//! What is measured between two pods, and in which units.

use super::attack::Attack;
use benches::compare::clock::now;
use std::time::Duration;

/// Which of two figures is the better one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// The larger.
    More,
    /// The smaller.
    Less,
}

/// A figure of a case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Names it in JSON and in the plot.
    pub name: &'static str,
    /// What a table says.
    pub title: &'static str,
    /// Which is better.
    pub better: Better,
    /// Figures behind the point.
    pub decimals: usize,
}

/// What a load does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// So many TCP streams from pod to pod.
    Streams(usize),
    /// Frames of Ethernet's least length, sent beside the sender's stack as fast as they go, counted by the receiving
    /// device and dropped there.
    Frames,
    /// Datagrams of 64 bytes, counted by the process that receives them.
    Datagrams,
    /// One byte there and one back, on one connection.
    Requests,
    /// Connections with a byte there and one back, so many at a time.
    Connections(usize),
    /// One TCP stream, and then requests, while another pod does something else.
    Beside(Attack),
    /// None.
    Idle,
}

/// Where the pods are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Both on one node.
    Node,
    /// The same, on a node with two more pods, one of which may attack.
    Crowd,
    /// On two nodes with a VXLAN tunnel, over a wire that takes super-frames as they are.
    Overlay,
    /// The same, but every frame on the wire is cut to its MTU.
    OverlayCut,
}

/// A case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// Names it on the command line.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Where.
    pub place: Place,
    /// What.
    pub load: Load,
    /// What comes of it.
    pub metrics: &'static [Metric],
    /// The unit of the processor time that the switch took for a unit of work.
    pub cost: &'static str,
}

/// What one window gave.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sample {
    /// One value for each of the case's metrics.
    pub values: Vec<f64>,
    /// Processor time of the switch's processes for a unit of work, if there are any.
    pub cost: Option<f64>,
}

const fn metric(name: &'static str, title: &'static str, better: Better, decimals: usize) -> Metric {
    Metric { name, title, better, decimals }
}

const GBIT: &str = "ms of CPU a Gbit";
const FRAME: &str = "ns of CPU a frame";

const fn beside(name: &'static str, title: &'static str, attack: Attack, metrics: &'static [Metric]) -> Case {
    Case { name, title, place: Place::Crowd, load: Load::Beside(attack), metrics, cost: GBIT }
}

macro_rules! beside_metrics {
    ($name:literal, $title:literal) => {
        &[
            metric(
                concat!($name, "-tcp"),
                concat!("TCP, 1 stream, beside ", $title, ", Gbit/s"),
                Better::More,
                2,
            ),
            metric(
                concat!($name, "-p50"),
                concat!("TCP request and response beside ", $title, ", median, µs"),
                Better::Less,
                1,
            ),
            metric(
                concat!($name, "-p99"),
                concat!("TCP request and response beside ", $title, ", 99th percentile, µs"),
                Better::Less,
                1,
            ),
        ]
    };
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "tcp-1",
        title: "TCP, 1 stream",
        place: Place::Node,
        load: Load::Streams(1),
        metrics: &[metric("tcp-1", "TCP, 1 stream, Gbit/s", Better::More, 2)],
        cost: GBIT,
    },
    Case {
        name: "tcp-4",
        title: "TCP, 4 streams",
        place: Place::Node,
        load: Load::Streams(4),
        metrics: &[metric("tcp-4", "TCP, 4 streams, Gbit/s", Better::More, 2)],
        cost: GBIT,
    },
    Case {
        name: "pps-64",
        title: "UDP frames of 64 bytes (with check sequence) into the pod, sender flat out",
        place: Place::Node,
        load: Load::Frames,
        metrics: &[metric("pps-64", "64-byte frames into the pod, thousands a second", Better::More, 0)],
        cost: FRAME,
    },
    Case {
        name: "udp-64",
        title: "UDP datagrams with 64 bytes of payload, received by a process",
        place: Place::Node,
        load: Load::Datagrams,
        metrics: &[metric("udp-64", "64-byte datagrams received, thousands a second", Better::More, 0)],
        cost: FRAME,
    },
    Case {
        name: "rr",
        title: "TCP request and response of a byte, one at a time",
        place: Place::Node,
        load: Load::Requests,
        metrics: &[
            metric("rr-p50", "TCP request and response, median, µs", Better::Less, 1),
            metric("rr-p99", "TCP request and response, 99th percentile, µs", Better::Less, 1),
        ],
        cost: "µs of CPU a request",
    },
    Case {
        name: "crr",
        title: "TCP connections with a byte each way, 32 at once",
        place: Place::Node,
        load: Load::Connections(32),
        metrics: &[metric("crr", "TCP connections, 32 at once, thousands a second", Better::More, 1)],
        cost: "µs of CPU a connection",
    },
    Case {
        name: "idle",
        title: "CPU time of the switch while nothing happens",
        place: Place::Node,
        load: Load::Idle,
        metrics: &[metric("idle", "CPU time of the idle switch, % of a core", Better::Less, 3)],
        cost: "",
    },
    beside(
        "beside-none",
        "TCP beside two quiet pods",
        Attack::None,
        beside_metrics!("beside-none", "quiet pods"),
    ),
    beside(
        "beside-plain",
        "TCP beside a pod that floods another with frames of one flow",
        Attack::Plain,
        beside_metrics!("beside-plain", "a flood of one flow"),
    ),
    beside(
        "beside-misses",
        "TCP beside a pod whose every frame is a new flow",
        Attack::Misses,
        beside_metrics!("beside-misses", "a flood of new flows"),
    ),
    beside(
        "beside-tse",
        "TCP beside a pod that sends the 8,192 headers of tuple-space explosion",
        Attack::Explosion,
        beside_metrics!("beside-tse", "tuple-space explosion"),
    ),
    beside(
        "beside-syn",
        "TCP beside a SYN flood through NAT",
        Attack::SynFlood,
        beside_metrics!("beside-syn", "a SYN flood through NAT"),
    ),
    beside(
        "beside-macs",
        "TCP beside a pod with 10,000 MAC addresses",
        Attack::Macs,
        beside_metrics!("beside-macs", "10,000 MAC addresses"),
    ),
    Case {
        name: "vxlan-tcp-1",
        title: "TCP, 1 stream between two nodes, VXLAN, super-frames cross the wire whole",
        place: Place::Overlay,
        load: Load::Streams(1),
        metrics: &[metric("vxlan-tcp-1", "TCP over VXLAN, 1 stream, Gbit/s", Better::More, 2)],
        cost: GBIT,
    },
    Case {
        name: "vxlan-rr",
        title: "TCP request and response of a byte between two nodes, VXLAN",
        place: Place::Overlay,
        load: Load::Requests,
        metrics: &[
            metric("vxlan-rr-p50", "TCP request and response over VXLAN, median, µs", Better::Less, 1),
            metric(
                "vxlan-rr-p99",
                "TCP request and response over VXLAN, 99th percentile, µs",
                Better::Less,
                1,
            ),
        ],
        cost: "µs of CPU a request",
    },
    Case {
        name: "vxlan-mtu-tcp-1",
        title: "TCP, 1 stream between two nodes, VXLAN, frames on the wire no longer than its MTU",
        place: Place::OverlayCut,
        load: Load::Streams(1),
        metrics: &[metric(
            "vxlan-mtu-tcp-1",
            "TCP over VXLAN, 1 stream, MTU-sized wire, Gbit/s",
            Better::More,
            2,
        )],
        cost: GBIT,
    },
];

/// Units of work in `count` of what a load counts, and nanoseconds in the unit of its cost.
pub fn cost(load: Load, count: u64, cpu: Duration) -> Option<f64> {
    let nanos = cpu.as_nanos() as f64;
    let of = |work: f64, unit: f64| (work > 0.0).then(|| nanos / unit / work);
    match load {
        Load::Streams(_) | Load::Beside(_) => of(count as f64 * 8e-9, 1e6),
        Load::Frames | Load::Datagrams => of(count as f64, 1.0),
        Load::Requests | Load::Connections(_) => of(count as f64, 1e3),
        Load::Idle => None,
    }
}

/// The value at a percentile of unsorted values, by the nearest rank; 0 of none.
pub fn percentile(values: &mut [u32], percent: usize) -> u32 {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

/// Runs a step until the time is over; how often, and how long it took.
///
/// # Errors
/// That of the step.
pub fn for_time<E>(time: Duration, mut step: impl FnMut() -> Result<(), E>) -> Result<(u64, Duration), E> {
    let start = now();
    let mut count = 0;
    while now() - start < time {
        step()?;
        count += 1;
    }
    Ok((count, now() - start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut values: Vec<u32> = (1..=200).rev().collect();
        assert_eq!((percentile(&mut values, 50), percentile(&mut values, 99)), (100, 198));
        assert_eq!((percentile(&mut [7], 99), percentile(&mut [7], 1), percentile(&mut [], 50)), (7, 7, 0));
        assert_eq!(percentile(&mut [9, 1], 50), 1);
    }

    #[test]
    fn costs_are_in_their_units() {
        // A second for 10 Gbit, a million frames, a thousand connections.
        let second = Duration::from_secs(1);
        assert_eq!(cost(Load::Streams(1), 1_250_000_000, second), Some(100.0));
        assert_eq!(cost(Load::Frames, 1_000_000, second), Some(1_000.0));
        assert_eq!(cost(Load::Connections(32), 1_000, second), Some(1_000.0));
        assert_eq!((cost(Load::Frames, 0, second), cost(Load::Idle, 5, second)), (None, None));
    }

    #[test]
    fn names_are_unique() {
        let cases: BTreeSet<_> = CASES.iter().map(|c| c.name).collect();
        assert_eq!(cases.len(), CASES.len());
        let metrics: BTreeSet<_> = CASES.iter().flat_map(|c| c.metrics).map(|m| m.name).collect();
        assert_eq!(metrics.len(), CASES.iter().map(|c| c.metrics.len()).sum::<usize>());
    }
}
