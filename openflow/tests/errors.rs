//! Error numbers against those that the installed `ovs-ofctl print-error` shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use openflow::error::ErrorNumber;
use openflow::{OfError, OfVersion};
use std::process::Command;

fn shown(error: OfError) -> String {
    let out = Command::new("ovs-ofctl").args(["print-error", error.name()]).output();
    let out = out.expect("ovs-ofctl is needed for this test: install openvswitch-common");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// "OpenFlow 1.3: vendor 0x2320, type 2, code 0".
fn number(shown: &str, version: &str) -> Option<ErrorNumber> {
    let line = shown.lines().find_map(|l| l.strip_prefix(&format!("OpenFlow {version}: vendor ")))?;
    let mut words = line.split(", ");
    let vendor = words.next()?;
    let experimenter = match vendor.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => vendor.parse().ok()?,
    };
    let kind = words.next()?.strip_prefix("type ")?.parse().ok()?;
    let code = words.next()?.strip_prefix("code ")?.parse().ok()?;
    Some(ErrorNumber { experimenter, kind, code })
}

#[test]
fn numbers_are_those_of_ovs() {
    let versions =
        [("1.0", OfVersion::V10), ("1.3", OfVersion::V13), ("1.4", OfVersion::V14), ("1.5", OfVersion::V15)];
    for error in OfError::ALL {
        let shown = shown(*error);
        for (name, version) in versions {
            // OVS has a name of its own for a stale role in OpenFlow 1.0, NXR_STALE.
            if *error == OfError::RoleRequestFailedStale && version == OfVersion::V10 {
                continue;
            }
            assert_eq!(error.number(version), number(&shown, name), "{error} in {name}: {shown}");
        }
    }
}

#[test]
fn numbers_read_back() {
    for version in OfVersion::ALL {
        for error in OfError::ALL {
            let Some(number) = error.number(version) else { continue };
            let back = OfError::from_number(version, number).unwrap();
            assert_eq!(back.number(version), Some(number));
            // OpenFlow 1.0 has no number of its own for "is secondary".
            assert!(back == *error || *error == OfError::BadRequestIsSecondary, "{version} {error} {back}");
        }
    }
}
