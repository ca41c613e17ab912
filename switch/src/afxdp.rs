//! Options of interfaces of type `afxdp` (ovs-vswitchd.conf.db(5), "PMD Options").

use std::fmt;

/// Most queues of a device whose frames are taken by AF_XDP, as in OVS.
pub const AFXDP_QUEUES_MAX: u16 = 16;

/// `options:xdp-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AfXdpMode {
    /// The fastest that works.
    #[default]
    BestEffort,
    /// In the driver, without copying.
    NativeWithZeroCopy,
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
}

impl AfXdpMode {
    const NAMED: [(&str, AfXdpMode); 4] = [
        ("best-effort", AfXdpMode::BestEffort),
        ("native-with-zerocopy", AfXdpMode::NativeWithZeroCopy),
        ("native", AfXdpMode::Native),
        ("generic", AfXdpMode::Generic),
    ];
}

impl fmt::Display for AfXdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = AfXdpMode::NAMED.into_iter().find(|(_, mode)| mode == self);
        f.write_str(named.map_or("best-effort", |(name, _)| name))
    }
}

/// How the frames of a device are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfXdpOptions {
    /// In which mode.
    pub mode: AfXdpMode,
    /// Of how many of its queues, from the first on; 1 to [`AFXDP_QUEUES_MAX`] (`options:n_rxq`).
    pub queues: u16,
    /// Whether the kernel says when it wants to be woken (`options:use-need-wakeup`).
    pub use_need_wakeup: bool,
}

impl Default for AfXdpOptions {
    fn default() -> Self {
        AfXdpOptions { mode: AfXdpMode::default(), queues: 1, use_need_wakeup: true }
    }
}

/// As dpif/show of ovs-appctl has them.
impl fmt::Display for AfXdpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AfXdpOptions { mode, queues, use_need_wakeup } = self;
        write!(f, "n_rxq={queues}, use-need-wakeup={use_need_wakeup}, xdp-mode={mode}")
    }
}

impl AfXdpOptions {
    /// What the options of an interface say; `option` gives the value of one.
    ///
    /// # Errors
    /// What makes no sense, in the words of ovs-vswitchd and why.
    pub fn parse<'a>(
        interface: &str,
        option: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<AfXdpOptions, String> {
        let refused = |name: &str, text: &str, wanted: &str| {
            format!(
                "{interface}: could not set configuration (Invalid argument): \
                 options:{name} '{text}' is not {wanted}"
            )
        };
        let mut parsed = AfXdpOptions::default();
        if let Some(text) = option("xdp-mode") {
            let known = AfXdpMode::NAMED.into_iter().find(|(name, _)| *name == text);
            let wanted = "best-effort, native-with-zerocopy, native or generic";
            parsed.mode = known.ok_or_else(|| refused("xdp-mode", text, wanted))?.1;
        }
        if let Some(text) = option("n_rxq") {
            parsed.queues = match text.parse() {
                // The default, as in OVS.
                Ok(0) => 1,
                Ok(count @ 1..=AFXDP_QUEUES_MAX) => count,
                _ => {
                    let wanted = format!("a number from 1 to {AFXDP_QUEUES_MAX}");
                    return Err(refused("n_rxq", text, &wanted));
                }
            };
        }
        if let Some(text) = option("use-need-wakeup") {
            parsed.use_need_wakeup =
                text.parse().map_err(|_| refused("use-need-wakeup", text, "true or false"))?;
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &'static str)]) -> Result<AfXdpOptions, String> {
        AfXdpOptions::parse("eth0", |wanted| pairs.iter().find(|(key, _)| *key == wanted).map(|p| p.1))
    }

    #[test]
    fn options_mean_what_the_manual_says() {
        // ovs-vswitchd.conf.db(5): best-effort, one queue, true.
        let default = AfXdpOptions { mode: AfXdpMode::BestEffort, queues: 1, use_need_wakeup: true };
        assert_eq!(parse(&[]), Ok(default));
        assert_eq!(parse(&[("xdp-mode", "best-effort"), ("n_rxq", "0")]), Ok(default));
        let all = [("xdp-mode", "native-with-zerocopy"), ("n_rxq", "16"), ("use-need-wakeup", "false")];
        let wanted = AfXdpOptions { mode: AfXdpMode::NativeWithZeroCopy, queues: 16, use_need_wakeup: false };
        assert_eq!(parse(&all), Ok(wanted));
        // As Debian's 3.1.0 shows them.
        let text = "n_rxq=16, use-need-wakeup=false, xdp-mode=native-with-zerocopy";
        assert_eq!(wanted.to_string(), text);
        assert_eq!(parse(&[("xdp-mode", "native")]).map(|o| o.mode), Ok(AfXdpMode::Native));
        assert_eq!(parse(&[("xdp-mode", "generic")]).map(|o| o.mode), Ok(AfXdpMode::Generic));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (key, text) in [
            ("xdp-mode", "zerocopy"),
            ("xdp-mode", ""),
            ("xdp-mode", "Native"),
            ("n_rxq", "17"),
            ("n_rxq", "-1"),
            ("n_rxq", "x"),
            ("use-need-wakeup", "yes"),
        ] {
            let error = parse(&[(key, text)]).expect_err(text);
            assert!(error.starts_with("eth0: could not set configuration (Invalid argument): "), "{error}");
            assert!(error.contains(&format!("options:{key} '{text}' is not ")), "{error}");
        }
    }
}
