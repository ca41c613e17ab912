//! What OVS 3.1.0 answered to malformed and senseless messages, against this crate's answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use flowtable::{OfPort, TableId};
use openflow::codec::{CheckActions, check_actions};
use openflow::{Dialect, Message, OfError, OfVersion, decode};

/// `what|version byte|message in hexadecimal|error, or ok`, as recorded from ovs-vswitchd.
const RECORDED: &str = include_str!("data/refused.txt");

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
        .collect()
}

/// Where this crate answers otherwise, and why.
fn ours(what: &str) -> Option<(&'static str, &'static str)> {
    const BY_SWITCH: &str = "answered by the switch, which knows its ports, buffers and connections";
    Some(match what {
        "set_field unknown" => ("OFPBAC_BAD_SET_TYPE", "the standard's error for an unknown field"),
        "set_queue" | "10 enqueue" => ("OFPBAC_BAD_QUEUE", "no port has queues"),
        "nx unknown subtype" => ("OFPBAC_BAD_VENDOR_TYPE", "255 is a debugging action of OVS"),
        "nx learn short" => ("OFPBAC_BAD_VENDOR_TYPE", "learn is not built"),
        "ctrl reason 99" => ("OFPBAC_BAD_ARGUMENT", "there is no such reason"),
        "mod vlan in1.3 type1" => ("OFPBAC_BAD_TYPE", "OpenFlow 1.2 removed the action"),
        "meter action" | "meter" | "meter unknown" | "meter action 1.5" | "meter action late 1.5" => {
            ("ok", "the switch knows which meters there are")
        }
        "group 13 insert" => ("OFPGMFC_BAD_COMMAND", "a command of OpenFlow 1.5"),
        "group 15 ntr exp" => ("OFPBPC_BAD_EXPERIMENTER", "the standard's error"),
        "group 15 ntr field zero" => ("OFPBMC_BAD_MASK", "a field of which nothing is looked at"),
        "group 15 bucket weight long" => ("OFPBPC_BAD_LEN", "longer than the property is"),
        "meter mod dscp 9" => ("OFPMMFC_BAD_BAND_VALUE", "the band is built, the level is none"),
        "nx group" | "group" => ("ok", "the switch knows which groups there are"),
        "ct alg 5" => ("OFPBAC_BAD_ARGUMENT", "no such protocol is tracked"),
        "nat twice" => ("OFPBAC_BAD_ARGUMENT", "the second would be without effect"),
        "nat flag no kind" | "nat range no kind" | "nat unknown range" => {
            ("OFPBAC_BAD_ARGUMENT", "it would be without effect")
        }
        "clone deep" => ("OFPBAC_TOO_MANY", "lists within lists have a limit"),
        "clone meter 1.5" => ("OFPBAC_BAD_ARGUMENT", "meters are for the frame, not for its clone"),
        "ct zone bad field" | "cpl unknown" => {
            ("OFPBAC_BAD_SET_TYPE", "fields of Geneve options are not built")
        }
        "cpl masked" => ("OFPBAC_BAD_SET_TYPE", "a field with a mask is no destination"),
        "cpl ct_mark" => ("OFPBAC_BAD_SET_ARGUMENT", "only a ct action sets it"),
        "cpl prereq" => ("OFPBAC_MATCH_INCONSISTENT", "the field is not there"),
        "goto 255" => ("OFPBIC_BAD_TABLE_ID", "there is no table 255"),
        "match type 0" => ("OFPBMC_BAD_TYPE", "the match of OpenFlow 1.1 is not spoken"),
        "bundle unknown type" => ("OFPBFC_BAD_TYPE", "the standard's error"),
        "resume" => ("ok", "refused by the switch whatever it says"),
        "table 254 add" => ("ok", "an internal table of OVS"),
        "buffer 5" | "packet_out buffer" => ("ok", BY_SWITCH),
        "port_mod" | "port_mod hw" | "mp queue port" => ("ok", BY_SWITCH),
        _ => return None,
    })
}

fn answer(version: OfVersion, bytes: &[u8]) -> Result<(), OfError> {
    let (_, message) = decode(&Dialect::new(version), bytes)?;
    if !message.is_for_switch() {
        return Err(OfError::BadRequestBadType);
    }
    match message {
        Message::FlowMod(m) => check_actions(
            // OpenFlow 1.0 names no table; its rules stand in the first.
            &CheckActions {
                version,
                matching: &m.matching,
                table: if m.table == TableId::ALL { TableId(0) } else { m.table },
                max_port: OfPort::MAX,
            },
            &m.actions,
        ),
        Message::PacketOut(m) => check_actions(
            &CheckActions { version, matching: &m.metadata, table: TableId::ALL, max_port: OfPort::MAX },
            &m.actions,
        ),
        _ => Ok(()),
    }
}

#[test]
fn answers_are_those_of_ovs() {
    let mut wrong = Vec::new();
    for line in RECORDED.lines() {
        let [what, version, bytes, expected]: [&str; 4] =
            line.split('|').collect::<Vec<_>>().try_into().unwrap();
        let version = OfVersion::from_wire(version.parse().unwrap()).unwrap();
        let got = match answer(version, &unhex(bytes)) {
            Ok(()) => "ok",
            // Some errors have no number in OpenFlow 1.0.
            Err(e) if e.number(version).is_none() => "NXBRC_UNENCODABLE_ERROR",
            Err(e) => e.name(),
        };
        let expected = ours(what).map_or(expected, |(answer, _why)| answer);
        if got != expected {
            wrong.push(format!("{version} {what}: {got}, OVS {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
