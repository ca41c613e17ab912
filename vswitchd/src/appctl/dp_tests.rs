//! Arguments, and the words in which OVS 3.1 refuses them.

use super::*;

fn owned(line: &str) -> Vec<String> {
    line.split('|').filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// Parses words separated by `|`.
fn parsed<T>(line: &str, parse: impl Fn(&mut Args<'_>) -> Result<T, String>) -> Result<T, String> {
    let words = owned(line);
    Args::new(&words).and_then(|mut args| parse(&mut args))
}

/// The same text as OVS: what stands between its name and the C library's word for the error.
fn words(error: Result<impl std::fmt::Debug, String>) -> String {
    let text = error.expect_err("an error");
    let text = text.strip_prefix("ovs-vswitchd: ").expect("the program's name");
    text.strip_suffix(" (Invalid argument)").expect("the kind of error").to_owned()
}

#[test]
fn options_stand_anywhere_and_the_datapath_first() {
    let line = owned("-m|ovs-netdev|zone=3|--statistics");
    let mut args = Args::new(&line).expect("arguments");
    assert_eq!((args.more, args.statistics), (true, true));
    assert_eq!(args.zone(), Ok(Some(3)));
    assert_eq!(args.end(), Ok(()));
    let line = owned("-ms|system@ovs-system");
    let args = Args::new(&line).expect("arguments");
    assert_eq!((args.more, args.statistics, args.words.len()), (true, true, 0));
    for bad in ["-x", "--stat", "--", "-", "-mx"] {
        assert_eq!(Args::new(&owned(bad)), Err(format!("Unrecognized option {bad}")));
    }
}

#[test]
fn zones() {
    let zone = |line: &str| parsed(line, |args| args.zone().and_then(|zone| args.end().map(|()| zone)));
    assert_eq!(zone(""), Ok(None));
    assert_eq!(zone("zone=0"), Ok(Some(0)));
    assert_eq!(zone("zone=0xffff"), Ok(Some(65_535)));
    for bad in ["zone=x", "zone=", "foo", "zone=1|zone=2", "zone=1|ovs-netdev", "netdev@x", "zone=-1"] {
        assert_eq!(words(zone(bad)), "datapath not found", "{bad}");
    }
    for bad in ["zone=70000", "zone=1x", "zone=0x10000"] {
        assert_eq!(words(zone(bad)), "failed to parse zone", "{bad}");
    }
    let list = |line: &str| parsed(line, |args| super::zones(args));
    assert_eq!(list(""), Ok(None));
    assert_eq!(list("ovs-netdev|zone=5,4, 5"), Ok(Some(vec![5, 4, 5])));
    for bad in ["zone=", "zone=x", "zone=4,zone=5", "zone=70000", "zone=1,x"] {
        assert_eq!(words(list(bad)), "invalid zone", "{bad}");
    }
    assert_eq!(words(list("foo=3")), "invalid argument foo=3");
    assert_eq!(words(list("default")), "invalid argument default");
    assert_eq!(words(list("zone=1|zone=2")), "datapath not found");
}

#[test]
fn limits() {
    assert_eq!(zone_limit("zone=1,limit=5"), Ok((1, 5)));
    assert_eq!(zone_limit("limit=0,zone=9"), Ok((9, 0)));
    assert_eq!(zone_limit("zone=1,limit=1,zone=2,limit=4294967295"), Ok((2, u32::MAX)));
    for (bad, text) in [
        ("zone=70000,limit=1", "failed to parse field zone"),
        ("zone=-1,limit=5", "failed to parse field zone"),
        ("zone=1,limit=x", "failed to parse field limit"),
        ("zone=1,limit=4294967296", "failed to parse field limit"),
        ("zone=1,limit=", "field limit missing value"),
        ("foo", "field foo missing value"),
        ("zone=1,foo=1", "invalid zone limit field: foo"),
        ("default=7", "invalid zone limit field: default"),
        ("zone=1", "failed to parse zone limit"),
        ("limit=1", "failed to parse zone limit"),
        ("", "failed to parse zone limit"),
        (",", "failed to parse zone limit"),
    ] {
        assert_eq!(words(zone_limit(bad)), text, "{bad}");
    }
}

fn flush_of(line: &str) -> Result<CtFlush, String> {
    parsed(line, |args| flush(args))
}

#[test]
fn tuples() {
    let v4 = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
    assert_eq!(flush_of(""), Ok(CtFlush::default()));
    let original =
        CtTuple { src: v4(1), dst: v4(2), src_port: Some(7), dst_port: Some(8), ..CtTuple::default() };
    let text = "ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=0x7,ct_tp_dst=8";
    assert_eq!(flush_of(text), Ok(CtFlush { protocol: 17, original, ..CtFlush::default() }));
    let original = CtTuple {
        src: Some("fd00::1".parse().unwrap()),
        icmp_id: Some(4_660),
        icmp_type: Some(128),
        icmp_code: Some(0),
        ..CtTuple::default()
    };
    let text = "ovs-netdev|zone=7|ct_ipv6_src=fd00::1,icmp_id=4660,icmp_type=128,icmp_code=0,ct_nw_proto=58";
    let zone = Some(7);
    assert_eq!(flush_of(text), Ok(CtFlush { zone, protocol: 58, original, ..CtFlush::default() }));
    // Zeros mean nothing in particular.
    assert_eq!(
        flush_of("ct_nw_src=0.0.0.0,ct_nw_proto=132,ct_tp_src=0").map(|f| f.original),
        Ok(CtTuple::default())
    );
}

#[test]
fn an_empty_original_tuple_lets_the_reply_stand_alone() {
    let words: Vec<String> = ["", "ct_nw_src=10.0.0.3"].iter().map(|w| (*w).to_owned()).collect();
    let flush = Args::new(&words).and_then(|args| flush(&args)).expect("tuples");
    assert!(flush.original.is_empty());
    assert_eq!(flush.reply.src, Some([10, 0, 0, 3].into()));
}

#[test]
fn bad_tuples() {
    for (bad, text) in [
        ("zone=x", "failed to parse zone"),
        ("zone=70000", "failed to parse zone"),
        ("zone=7,ct_nw_proto=17", "failed to parse zone"),
        ("foo", "field foo missing value"),
        ("foo|zone=7", "field foo missing value"),
        ("zone=7|nosuch@dp", "field nosuch@dp missing value"),
        ("ct_nw_src=10.0.0.1,foo", "field foo missing value"),
        ("ct_nw_src=", "field ct_nw_src missing value"),
        ("ct_nw_src=10.0.0.1,foo=1", "invalid conntrack tuple field: foo"),
        ("mark=5", "invalid conntrack tuple field: mark"),
        ("ct_nw_src=10.0.0.1|foo=1", "invalid conntrack tuple field: foo"),
        ("ct_nw_src=foo", "failed to parse field ct_nw_src"),
        ("ct_nw_src=10.0.0.0/24", "failed to parse field ct_nw_src"),
        ("ct_nw_src=10.0.0.1,ct_ipv6_src=fd00::1", "the L3 protocol does not match fd00::1"),
        ("ct_ipv6_dst=fd00::1,ct_nw_src=10.0.0.1", "the L3 protocol does not match 10.0.0.1"),
        ("ct_nw_proto=256", "failed to parse field ct_nw_proto"),
        ("ct_nw_proto=17,ct_tp_src=70000", "failed to parse field ct_tp_src"),
        ("ct_nw_proto=1,icmp_id=70000", "failed to parse field icmp_id"),
        ("ct_nw_proto=1,icmp_type=256", "failed to parse field icmp_type"),
        ("ct_nw_proto=1,icmp_code=x", "failed to parse field icmp_code"),
        ("ct_tp_dst=8", "port is set without protocol"),
        ("icmp_type=8", "invalid L4 fields"),
        ("ct_nw_src=10.0.0.1,ct_nw_proto=17,icmp_type=8", "invalid L4 fields"),
        ("ct_nw_proto=1,ct_tp_src=8", "invalid L4 fields"),
    ] {
        assert_eq!(words(flush_of(bad)), text, "{bad}");
    }
}
