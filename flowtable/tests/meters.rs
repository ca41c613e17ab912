//! Meters' text, as ovs-ofctl 3.1 reads and prints it (recorded).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use flowtable::MeterId;
use flowtable::meter::{BANDS_MAX, BandType, MeterCommand, MeterError, MeterMod};
use flowtable::text::{display_meter, parse_meter_filter, parse_meter_mod};

fn add(text: &str) -> Result<MeterMod, String> {
    parse_meter_mod(text, MeterCommand::Add).map_err(|e| e.to_string())
}

#[test]
fn meters_are_read_and_printed_as_by_ovs_ofctl() {
    for (given, shown) in [
        ("meter=1,kbps,band=type=drop,rate=100", "meter=1 kbps bands=\ntype=drop rate=100\n"),
        (
            "meter=2,pktps,burst,stats,bands=type=drop,rate=100,burst_size=50",
            "meter=2 pktps burst stats bands=\ntype=drop rate=100 burst_size=50\n",
        ),
        (
            "meter=3,kbps,bands=type=drop,rate=100,type=dscp_remark,rate=50,prec_level=2",
            "meter=3 kbps bands=\ntype=drop rate=100\ntype=dscp_remark rate=50 prec_level=2\n",
        ),
        ("meter=12,stats,kbps,band=type=drop rate=9", "meter=12 kbps stats bands=\ntype=drop rate=9\n"),
        ("meter=slowpath,pktps,band=type=drop,rate=1", "meter=slowpath pktps bands=\ntype=drop rate=1\n"),
        ("meter=controller,kbps,band=type=drop,rate=1", "meter=controller kbps bands=\ntype=drop rate=1\n"),
    ] {
        let meter = add(given).unwrap_or_else(|e| panic!("{given}: {e}"));
        assert_eq!(display_meter(meter.meter, &meter.config).to_string(), shown, "{given}");
        assert_eq!(meter.config.check(), Ok(()));
    }
}

#[test]
fn errors_are_those_of_ovs_ofctl() {
    for (given, error) in [
        ("meter=4,kbps", "must specify bands"),
        ("meter=5", "must specify bands"),
        ("meter=0,kbps,band=type=drop,rate=1", "invalid value for meter"),
        ("meter=0xffff0001,kbps,band=type=drop,rate=1", "invalid value for meter"),
        ("kbps,band=type=drop,rate=1", "must specify 'meter'"),
        ("meter=7,kbps,band=type=foo,rate=1", "field type unknown value foo"),
        ("meter=7,kbps,band=rate=1", "band must start with the 'type' keyword"),
        ("meter=7,kbps,band=type=drop", "band must have 'rate'"),
        ("meter=7,kbps,band=type=drop,rate=0", "band must have 'rate'"),
        ("meter=7,kbps,band=type=drop,rate=1,prec_level=3", "Only 'dscp_remark' band may have 'prec_level'"),
        ("meter=7,kbps,band=type=dscp_remark,rate=1", "'dscp_remark' band must have 'prec_level'"),
        (
            "meter=8,kbps,band=type=drop,rate=1,burst_size=4",
            "band may have 'burst_size' only when 'burst' flag is set",
        ),
        ("meter=9,kbps,burst,band=type=drop,rate=1", "band must have 'burst_size' when 'burst' flag is set"),
        ("meter=10,foo,band=type=drop,rate=1", "field foo missing value"),
        ("meter=11,kbps,band=type=drop,rate=1,foo=2", "unknown keyword foo"),
        ("meter=11,kbps,band=", "meter must have bands"),
        ("meter=14,band=type=drop,rate=1", "meter must specify either 'kbps' or 'pktps'"),
    ] {
        assert_eq!(add(given).unwrap_err(), error, "{given}");
    }
    // ovs-ofctl leaves these to the switch, or to arithmetic.
    assert!(add("meter=6,kbps,pktps,band=type=drop,rate=1").is_err());
    assert!(add("meter=11,kbps,band=type=drop,rate=99999999999").is_err());
}

#[test]
fn filters_and_checks() {
    assert_eq!(parse_meter_filter("").unwrap(), MeterId::ALL);
    assert_eq!(parse_meter_filter("meter=7").unwrap(), MeterId(7));
    assert_eq!(parse_meter_filter("meter=controller").unwrap(), MeterId::CONTROLLER);
    assert!(parse_meter_filter("foo").is_err());
    assert_eq!(parse_meter_mod("", MeterCommand::Delete).unwrap().meter, MeterId::ALL);
    let mut config = add("meter=1,kbps,band=type=drop,rate=100").unwrap().config;
    config.bands[0].kind = BandType::DscpRemark { prec_level: 3 };
    assert_eq!(config.check(), Err(MeterError::BadBandValue));
    config.bands[0].rate = 0;
    assert_eq!(config.check(), Err(MeterError::BadRate));
    config.bands = vec![config.bands[0]; BANDS_MAX + 1];
    assert_eq!(config.check(), Err(MeterError::OutOfBands));
}
