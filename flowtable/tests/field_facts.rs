//! The field table against ovs-fields(7): `field_facts.txt` has a line a field, with name, alias, bits on the wire, bits
//! in use, masking, prerequisite, access, format and identifiers (`NAME=NUMBER@OPENFLOW_1.x`), as that page gives them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use flowtable::field::{Access, FIELDS, FieldId, Format, Masking};
use std::collections::BTreeSet;

fn since(id: &str) -> (&str, u8, u8) {
    let (name, rest) = id.split_once('=').unwrap();
    let (number, minor) = rest.split_once('@').unwrap_or((rest, "0"));
    (name, number.parse().unwrap(), minor.parse::<u8>().unwrap() + 1)
}

fn class(name: &str) -> (u16, u32) {
    match name {
        n if n.starts_with("NXM_OF_") => (0, 0),
        n if n.starts_with("NXM_NX_") => (1, 0),
        n if n.starts_with("OXM_OF_PKT_REG") => (0x8001, 0),
        n if n.starts_with("OXM_OF_") => (0x8000, 0),
        n if n.starts_with("ONFOXM_ET_") => (0xffff, 0x4f4e_4600),
        n if n.starts_with("ERICOXM_OF_") => (0x1000, 0),
        n => panic!("{n}"),
    }
}

#[test]
fn every_row_is_as_the_manual_says() {
    let mut seen = BTreeSet::new();
    for line in include_str!("field_facts.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, alias, wire, bits, masking, prereq, access, format, ids @ ..] = words.as_slice() else {
            panic!("{line}");
        };
        let id = FieldId::from_name(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        seen.insert(id);
        let row = id.row();
        assert_eq!(row.name, *name);
        assert_eq!(row.aliases, if *alias == "-" { vec![] } else { vec![*alias] }, "{name}");
        assert_eq!(row.wire_bytes as u32 * 8, wire.parse().unwrap(), "{name}");
        // Of the longest option 16 bytes are kept, a limit of ours.
        assert_eq!(row.bits(), bits.parse::<u16>().unwrap().min(128), "{name}");
        let expected = if *masking == "exact" { Masking::Exact } else { Masking::Arbitrary };
        assert_eq!(row.masking, expected, "{name}");
        let expected = if *access == "ro" { Access::ReadOnly } else { Access::Writable };
        assert_eq!(row.access, expected, "{name}");
        assert_eq!(format!("{:?}", row.prereq), if *prereq == "-" { "None" } else { prereq }, "{name}");
        let formats: &[Format] = match *format {
            "decimal" => &[Format::Decimal],
            "hexadecimal" => &[Format::Hex],
            "Ethernet" => &[Format::Ethernet],
            "IPv4" => &[Format::Ipv4],
            "IPv6" => &[Format::Ipv6],
            "frag" => &[Format::Frag],
            "TCP_flags" => &[Format::TcpFlags],
            "ct_state" => &[Format::CtState],
            "tunnel_flags" => &[Format::TunFlags],
            _ => &[Format::OfPort],
        };
        assert!(formats.contains(&row.format), "{name} is {format}");
        let expected: Vec<_> = ids
            .iter()
            .map(|id| {
                let (name, number, since) = since(id);
                let (class, experimenter) = class(name);
                (name, class, number, experimenter, since)
            })
            .collect();
        let ours: Vec<_> =
            row.oxm.iter().map(|o| (o.name, o.class, o.field, o.experimenter, o.since)).collect();
        assert_eq!(ours, expected, "{name}");
    }
    // The manual describes the first register of each kind, says nothing of two fields of the datapath's own, and has
    // OpenFlow 1.0's VLAN fields in a table of their own.
    let elsewhere = ["dp_hash", "recirc_id", "dl_vlan", "dl_vlan_pcp"];
    for row in FIELDS.iter().filter(|row| !seen.contains(&row.id)) {
        let first = row.name.trim_end_matches(|c: char| c.is_ascii_digit());
        assert!(
            ["reg", "xreg", "xxreg", "tun_metadata"].contains(&first) || elsewhere.contains(&row.name),
            "{}",
            row.name
        );
    }
}

#[test]
fn registers_of_a_kind_are_alike() {
    for (kind, count, prefix, first) in [
        ("tun_metadata", 8, "NXM_NX_TUN_METADATA", 40),
        ("reg", 16, "NXM_NX_REG", 0u8),
        ("xreg", 8, "OXM_OF_PKT_REG", 0),
        ("xxreg", 4, "NXM_NX_XXREG", 111),
    ] {
        let zero = FieldId::from_name(&format!("{kind}0")).unwrap().row();
        for n in 0..count {
            let row = FieldId::from_name(&format!("{kind}{n}")).unwrap().row();
            assert_eq!((row.wire_bytes, row.slot.width), (zero.wire_bytes, zero.slot.width));
            assert_eq!((row.masking, row.access, row.format), (zero.masking, zero.access, zero.format));
            let [only] = row.oxm else { panic!("{} has several identifiers", row.name) };
            assert_eq!((only.name, only.field), (format!("{prefix}{n}").as_str(), first + n));
            assert_eq!(only.class, zero.oxm[0].class);
        }
        assert_eq!(FieldId::from_name(&format!("{kind}{count}")), None);
    }
}
