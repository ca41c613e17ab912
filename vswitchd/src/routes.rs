//! The host's routes for tunnels, and the MTU of paths: read from the kernel when it says that something has changed, and
//! given to the brain. What sockets find of paths is asked for in each turn of the loop, every few seconds at least.

use crate::daemon::Daemon;
use base::Instant;
use std::time::Duration;
use switch::underlay::RouteTable;
use switch::underlay::command::Reply;
use switch::underlay::route::{
    KernelAddress, KernelLink, KernelRoute, KernelRouteKind, KernelState, KernelTable,
};
use sys::netlink::{NetlinkError, RouteKind, RouteWatch, Routing, RoutingTable};

/// Pause between two readings of all routes: a routing daemon that changes many must not keep the main thread busy.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// What is known of whether the kernel's routes are those that the brain has.
pub struct Routes {
    watch: Option<RouteWatch>,
    /// Whether they may have changed since they were read.
    stale: bool,
    read_next: Instant,
}

impl Routes {
    /// Watches the kernel's routes in the namespace of the calling thread. They are read in the first turn.
    pub fn watch() -> Routes {
        let watch = RouteWatch::open();
        let watch = watch.map_err(|e| tracing::warn!(target: "netlink", "no routes of the host: {e}")).ok();
        Routes { stale: watch.is_some(), watch, read_next: Instant::ZERO }
    }

    /// Without a kernel there are no routes.
    pub fn none() -> Routes {
        Routes { watch: None, stale: false, read_next: Instant::ZERO }
    }

    /// What to wait for.
    pub fn source(&self) -> Option<&RouteWatch> {
        self.watch.as_ref()
    }

    /// When routes that have changed will be read.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.stale.then_some(self.read_next)
    }

    /// The kernel's routes if they may have changed. `at_once`: somebody waits for them, so do not pause.
    fn take(&mut self, at_once: bool, now: Instant) -> Option<KernelState> {
        let watch = self.watch.as_mut()?;
        match watch.read() {
            Ok(changed) => self.stale |= changed,
            Err(error) => {
                tracing::warn!(target: "netlink", "no more news of routes: {error}");
                self.watch = None;
                self.stale = false;
                return None;
            }
        }
        if !self.stale || !at_once && now < self.read_next {
            return None;
        }
        self.read_next = now + READ_PAUSE;
        match watch.routing() {
            Ok(routing) => {
                self.stale = false;
                Some(kernel_state(routing))
            }
            Err(error) => {
                // They keep changing while they are read: once more after the pause. All else is worth a word.
                if !matches!(error, NetlinkError::Refused { .. }) {
                    tracing::warn!(target: "netlink", "routes could not be read: {error}");
                }
                None
            }
        }
    }
}

fn kernel_state(routing: Routing) -> KernelState {
    let links = routing.links.into_iter().map(|l| KernelLink {
        index: l.index.get(),
        name: l.name.to_string(),
        mtu: l.mtu,
    });
    let addresses = routing.addresses.into_iter().map(|a| KernelAddress {
        link: a.link.get(),
        address: a.address,
        prefix_len: a.prefix_length,
    });
    let routes = routing.routes.into_iter().map(|r| KernelRoute {
        destination: r.destination,
        prefix_len: r.prefix_length,
        table: match r.table {
            RoutingTable::Local => KernelTable::Local,
            RoutingTable::Main => KernelTable::Main,
            RoutingTable::Default => KernelTable::Default,
        },
        kind: match r.kind {
            RouteKind::Unicast => KernelRouteKind::Unicast,
            RouteKind::Local => KernelRouteKind::Local,
            RouteKind::Unreachable => KernelRouteKind::Unreachable,
        },
        link: r.link.map(|l| l.get()),
        gateway: r.gateway,
        source: r.source,
        metric: r.metric,
        mtu: r.mtu,
    });
    KernelState { links: links.collect(), addresses: addresses.collect(), routes: routes.collect() }
}

impl Daemon {
    /// Gives the brain the kernel's routes and what is known of paths if they have changed. `at_once`: even if the routes
    /// have just been read.
    pub fn follow_routes(&mut self, at_once: bool, now: Instant) {
        let kernel = self.routes.take(at_once, now);
        let paths = self.devices.take_path_mtus();
        let has_aged = self.brain.routes().next_expiry().is_some_and(|due| due <= now);
        if kernel.is_none() && paths.is_empty() && !has_aged {
            return;
        }
        let mut routes = self.brain.routes().clone();
        if let Some(kernel) = kernel {
            routes.set_kernel(&kernel);
        }
        for (destination, mtu) in paths {
            tracing::debug!(target: "tunnel", "the path to {destination} takes packets of {mtu} bytes");
            routes.note_path_mtu(destination, mtu, now);
        }
        routes.expire_paths(now);
        self.brain.set_routes(routes);
    }

    /// Runs a command over the routes as they are at this moment.
    pub fn with_routes(&mut self, now: Instant, command: impl FnOnce(&mut RouteTable) -> Reply) -> Reply {
        self.follow_routes(true, now);
        let mut routes = self.brain.routes().clone();
        let reply = command(&mut routes)?;
        self.brain.set_routes(routes);
        Ok(reply)
    }
}
