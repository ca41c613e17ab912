//! FLOW_MODs that `ovs-ofctl` 3.1.0 sent to a recorder, against this crate: what it sent is read as what its text means,
//! and what the text means is written as it wrote it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use flowtable::text::{FlowUsage, NoPortNames, ParsedFlow, parse_flow};
use flowtable::{FlowModCommand, TableId};
use openflow::message::{self, CookieFilter, FlowModFlags};
use openflow::{Dialect, FlowFormat, Message, OfVersion, Xid, decode, encode_to_vec};
use packet::key::slot;

/// `version|flow|bytes of the message in hexadecimal`.
const RECORDED: &str = include_str!("data/flow_mods.txt");

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
        .collect()
}

/// The dialect that ovs-ofctl chose for a flow.
fn dialect(case: &Case) -> Dialect {
    const VENDOR: u8 = 4;
    let flow_format = if case.bytes[1] == VENDOR { FlowFormat::Nxm } else { FlowFormat::OpenFlow10 };
    let names_table = case.text.split("actions=").next().is_some_and(|flow| flow.contains("table="));
    Dialect { flow_mod_table_id: names_table, flow_format, ..Dialect::new(case.version) }
}

fn message_of(flow: &ParsedFlow) -> message::FlowMod {
    message::FlowMod {
        table: flow.table.unwrap_or(TableId::ALL),
        matching: flow.matching,
        priority: flow.priority,
        cookie_filter: CookieFilter::default(),
        new_cookie: Some(flow.new_cookie.map_or(0, |c| c.0)),
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        importance: flow.importance,
        flags: FlowModFlags(flow.flags.0),
        actions: flow.actions.clone(),
        ..message::FlowMod::new(message::FlowModCommand::Add)
    }
}

/// A message with the fields of its match in a set order: ours is that of the field table, OVS's its own.
fn sorted(bytes: &[u8]) -> Vec<u8> {
    let nicira = bytes[1] == 4;
    if bytes[0] == 1 && !nicira {
        return bytes.to_vec();
    }
    let (at, len) = if nicira {
        (48, u16::from_be_bytes([bytes[40], bytes[41]]) as usize)
    } else {
        (52, u16::from_be_bytes([bytes[50], bytes[51]]) as usize - 4)
    };
    let mut fields = Vec::new();
    let mut rest = &bytes[at..at + len];
    while !rest.is_empty() {
        let (field, tail) = rest.split_at(4 + rest[3] as usize);
        fields.push(field);
        rest = tail;
    }
    fields.sort();
    [&bytes[..at], &fields.concat(), &bytes[at + len..]].concat()
}

struct Case {
    version: OfVersion,
    text: &'static str,
    bytes: Vec<u8>,
}

fn cases() -> impl Iterator<Item = Case> {
    RECORDED.lines().map(|line| {
        let [version, text, bytes]: [&str; 3] = line.split('|').collect::<Vec<_>>().try_into().unwrap();
        Case { version: OfVersion::from_name(version).unwrap(), text, bytes: unhex(bytes) }
    })
}

fn parsed(text: &str) -> ParsedFlow {
    parse_flow(text, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Flows that we write otherwise than OVS does, and why that says the same.
fn written_otherwise(version: OfVersion, text: &str) -> bool {
    // Our tun_flags has one bit, of which a full mask is none.
    let no_mask = text.contains("tun_flags=oam");
    // OVS drops bits here and sends what its own switch then refuses.
    let refused = version != OfVersion::V10 && text.contains("vlan_tci=0x2005/0x2fff");
    no_mask || refused
}

#[test]
fn text_is_written_as_ovs_ofctl_writes_it() {
    let mut wrong = Vec::new();
    for case in cases().filter(|c| !written_otherwise(c.version, c.text)) {
        let flow_mod = message_of(&parsed(case.text));
        let xid = Xid(u32::from_be_bytes(case.bytes[4..8].try_into().unwrap()));
        let ours = encode_to_vec(&dialect(&case), xid, &Message::FlowMod(flow_mod));
        match ours {
            Ok(ours) if sorted(&ours) == sorted(&case.bytes) => {}
            other => wrong.push(format!(
                "{} {}\n ours {:02x?}\n ovs  {:02x?}",
                case.version, case.text, other, case.bytes
            )),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_ovs_ofctl_writes_is_read_as_the_text_means() {
    for case in cases() {
        let dialect = dialect(&case);
        let (_, message) =
            decode(&dialect, &case.bytes).unwrap_or_else(|e| panic!("{} {}: {e}", case.version, case.text));
        let Message::FlowMod(read) = message else { panic!("{message:?}") };
        if written_otherwise(case.version, case.text) {
            continue;
        }
        let meant = message_of(&parsed(case.text));
        let of_10 = case.version == OfVersion::V10;
        let mut matching = meant.matching;
        if !of_10 && matching.get(slot::VLAN_TCI) == (0, 0xffff) {
            // OXM says "no tag" by the VID alone; OVS too then shows vlan_tci=0x0000/0x1fff.
            matching.set(slot::VLAN_TCI, 0, 0x1fff);
        }
        assert_eq!(read.matching, matching, "{} {}", case.version, case.text);
        assert_eq!(read.priority, meant.priority);
        assert_eq!(read.new_cookie, meant.new_cookie);
        assert_eq!((read.idle_timeout, read.hard_timeout), (meant.idle_timeout, meant.hard_timeout));
        let implied = if of_10 && read.command == message::FlowModCommand::Add {
            FlowModFlags::RESET_COUNTS
        } else {
            0
        };
        assert_eq!(read.flags.0, meant.flags.0 | implied);
        // Actions change their form with the version; what was read is written again as it was.
        let again = encode_to_vec(&dialect, Xid(0), &Message::FlowMod(read.clone())).unwrap();
        assert_eq!(sorted(&again)[8..], sorted(&case.bytes)[8..], "{} {}", case.version, case.text);
    }
}
