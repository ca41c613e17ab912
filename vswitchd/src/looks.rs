//! When devices are asked how they are: soon after the kernel says that a link changed in another namespace, where pods'
//! devices are, and every few seconds in case it said nothing. What it says of links in this namespace comes by itself.

use base::Instant;
use std::time::Duration;
use sys::netlink::NetnsWatch;

/// How often devices are asked without any news: a namespace that has no number here sends none.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest pause between two looks, and as a multiple of how long one takes: a pod that keeps changing its links must not
/// keep the main thread busy.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_SHARE: u32 = 20;

/// When to look next.
pub struct Looks {
    watch: Option<NetnsWatch>,
    next: Instant,
    /// The earliest that news may bring the next look forward to.
    soonest: Instant,
}

impl Looks {
    /// Watches links in other namespaces. The first look is due at once.
    pub fn watch() -> Looks {
        let watch = NetnsWatch::open();
        let said = |e| tracing::info!(target: "netlink", "no news of links in other namespaces: {e}");
        Looks { watch: watch.map_err(said).ok(), ..Looks::none() }
    }

    /// Without a kernel nothing is heard.
    pub fn none() -> Looks {
        Looks { watch: None, next: Instant::ZERO, soonest: Instant::ZERO }
    }

    /// What to wait for.
    pub fn source(&self) -> Option<&NetnsWatch> {
        self.watch.as_ref()
    }

    /// When the next look is due.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Takes what the kernel has said, and tells whether a look is due.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if let Some(watch) = &mut self.watch {
            match watch.read() {
                Ok(true) => self.heard(),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(target: "netlink", "no more news of links in other namespaces: {error}");
                    self.watch = None;
                }
            }
        }
        now >= self.next
    }

    fn heard(&mut self) {
        self.next = self.next.min(self.soonest);
    }

    /// Notes a look.
    pub fn looked(&mut self, began: Instant, ended: Instant) {
        self.next = ended + LOOK_INTERVAL;
        self.soonest = ended + PAUSE_MIN.max(ended.saturating_since(began) * PAUSE_SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_bring_a_look_forward_and_slow_looks_apart() {
        let ms = |n: u64| Instant::from_secs(100) + Duration::from_millis(n);
        let mut looks = Looks::none();
        assert!(looks.is_due(ms(0)));
        looks.looked(ms(0), ms(0));
        assert_eq!(looks.next(), ms(5_000));
        looks.heard();
        assert!(!looks.is_due(ms(19)) && looks.is_due(ms(20)));
        looks.looked(ms(20), ms(50));
        looks.heard();
        assert_eq!(looks.next(), ms(50 + 30 * 20));
        assert!(!looks.is_due(ms(649)) && looks.is_due(ms(650)));
    }
}
