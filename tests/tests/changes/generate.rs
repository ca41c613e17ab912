//! Random sequences of changes and frames, the same for the same seed.
//!
//! Left out is what docs/compatibility.md says is not here or different: mirrors, bond modes, groups that choose by hash,
//! more than two VLAN tags.

use tests::frames;
use tests::noise::Noise;

use crate::run::{Step, add_port};

/// Draws steps.
pub struct Generator {
    noise: Noise,
    /// The frames of this sequence, and the ports that they come by. They are few, so that what was worked out for a frame
    /// is there when a change makes it wrong.
    frames: Vec<(&'static str, String)>,
    /// Whether p3 and p4 become a bond now and then. Interfaces that move to another port keep what mod-port has set; to OVS they
    /// are new, so there is no mod-port beside.
    bonds: bool,
}

/// The versions that ovs-ofctl is made to speak.
const VERSIONS: [&str; 4] = ["", "-O OpenFlow13 ", "-O OpenFlow14 ", "-O OpenFlow15 "];

/// Milliseconds that pass. Even seconds, as ages are told in whole ones, and time-outs are odd ones, so that none ends just then.
const WARPS: [u64; 4] = [2_000, 6_000, 30_000, 310_000];

impl Generator {
    /// Steps of the sequence with this number.
    pub fn sequence(seed: u64, length: usize) -> Vec<Step> {
        let mut generator = Generator { noise: Noise::new(seed), frames: vec![], bonds: false };
        for _ in 0..4 {
            generator.noise.word();
        }
        generator.bonds = generator.one_in(4);
        let count = 6 + generator.below(6);
        generator.frames = (0..count).map(|_| generator.frame()).collect();
        let mut steps = vec![];
        while steps.len() < length {
            let change = generator.change();
            steps.push(change);
            for _ in 0..generator.below(3) {
                let receive = generator.receive();
                steps.push(receive);
            }
        }
        steps
    }

    fn below(&mut self, limit: usize) -> usize {
        self.noise.below(limit)
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn version(&mut self) -> &'static str {
        self.pick(&VERSIONS)
    }

    fn bridge(&mut self) -> &'static str {
        self.pick(&["br0", "br0", "br0", "br0", "br0", "br0", "br1"])
    }

    fn port_name(&mut self) -> &'static str {
        self.pick(&["p1", "p1", "p2", "p2", "p3", "p3", "p4", "p4", "p5", "p6", "q1", "q2", "x1", "y1"])
    }

    fn dummy_name(&mut self) -> &'static str {
        self.pick(&["p1", "p2", "p3", "p4", "p5", "p6", "q1", "q2"])
    }

    fn station(&mut self) -> [u8; 6] {
        let last = 1 + self.below(6) as u8;
        match self.below(16) {
            0 => [0xff; 6],
            1 => [0x01, 0x00, 0x5e, 0, 0, 1],
            2 => [0x01, 0x80, 0xc2, 0, 0, self.pick(&[0, 1, 2, 0xe, 0x10])],
            _ => frames::mac(last),
        }
    }

    fn frame(&mut self) -> (&'static str, String) {
        let last = 1 + self.below(6) as u8;
        let src = frames::mac(last);
        let dst = match self.station() {
            // What a station sends to itself in a packet-out OVS looks up before it has learned from it.
            same if same == src => frames::mac(last % 6 + 1),
            other => other,
        };
        let mut frame = match self.below(4) {
            0 => frames::experimental(src, dst, &[self.noise.word() as u8]),
            1 => {
                let mut arp = frames::experimental(src, dst, &[]);
                let op = 1 + self.below(2) as u8;
                arp.truncate(12);
                arp.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, op]);
                let (from, to) = ([10, 0, 0, src[5]], [10, 0, 0, self.pick(&[src[5], 1, 2, 3])]);
                arp.extend(src.iter().chain(&from).chain(&[0; 6]).chain(&to));
                arp.resize(60, 0);
                arp
            }
            _ => frames::udp(src, dst, (self.pick(&[1000, 2000]), self.pick(&[53, 80])), b"changes"),
        };
        if frame.len() < 60 {
            frame.resize(60, 0);
        }
        match self.below(6) {
            0 => frame = frames::tagged(&frame, 0x8100, self.pick(&[10, 20])),
            1 => frame = frames::tagged(&frame, 0x8100, self.pick(&[0x6000, 0xa00a, 0x2014])),
            _ => {}
        }
        (self.pick(&["p1", "p1", "p2", "p2", "p3", "p4", "p5", "q1"]), frames::hex(&frame))
    }

    fn receive(&mut self) -> Step {
        let at = self.below(self.frames.len());
        let (port, frame) = self.frames[at].clone();
        let port = if self.one_in(8) { self.dummy_name() } else { port };
        let again = if self.one_in(4) { format!(" {frame}") } else { String::new() };
        Step::new(format!("ovs-appctl netdev-dummy/receive {port} {frame}{again}"))
    }

    fn change(&mut self) -> Step {
        match self.below(100) {
            0..=29 => self.flow_change(),
            30..=35 => self.group_change(),
            36..=39 => self.meter_change(),
            40..=51 => self.port_change(),
            52..=63 => self.vlan_change(),
            64..=69 => self.bridge_change(),
            70..=75 => self.station_change(),
            76..=79 if !self.bonds => self.mod_port(),
            80..=84 => self.packet_out(),
            85..=89 => Step::new(format!("ovs-appctl time/warp {}", self.pick(&WARPS))),
            90..=94 => self.bundle(),
            95..=99 if self.bonds => self.bond_change(),
            _ => self.table_change(),
        }
    }

    /// Of a port that is there, was there or may come.
    fn number(&mut self) -> usize {
        self.pick(&[1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 11, 12, 13, 18])
    }

    /// A number that only this port asks for: of two that ask for the same one, another gets it than with OVS.
    fn number_of(&mut self, port: &str) -> usize {
        let last = port.trim_start_matches(|c: char| c.is_alphabetic()).parse().unwrap_or(0);
        last + if port.starts_with('x') { 7 } else { 0 } + self.pick(&[0, 0, 10])
    }

    /// What a rule of `table` looks at.
    fn matches(&mut self, table: usize) -> String {
        let mut parts: Vec<String> = vec![];
        if self.one_in(2) {
            let port = match self.below(12) {
                0 => "LOCAL".to_owned(),
                1 => self.dummy_name().to_owned(),
                _ => self.number().to_string(),
            };
            parts.push(format!("in_port={port}"));
        }
        if self.one_in(4) {
            parts.push(format!("dl_src=02:00:00:00:00:0{}", 1 + self.below(6)));
        }
        if self.one_in(5) {
            let dst = self.pick(&[
                "02:00:00:00:00:01",
                "02:00:00:00:00:02",
                "02:00:00:00:00:03",
                "01:00:00:00:00:00/01:00:00:00:00:00",
                "00:00:00:00:00:02/00:00:00:00:00:06",
            ]);
            parts.push(format!("dl_dst={dst}"));
        }
        if self.one_in(6) {
            let tag = self.pick(&[
                "dl_vlan=10",
                "dl_vlan=20",
                "dl_vlan=0xffff",
                "vlan_tci=0x1000/0x1000",
                "dl_vlan=10,dl_vlan_pcp=5",
                "vlan_tci=0",
            ]);
            parts.push(tag.to_owned());
        }
        if table > 0 && self.one_in(5) {
            parts.push(self.pick(&["reg0=1", "reg0=2", "metadata=0x1/0xf", "reg1=0/0x1"]).to_owned());
        }
        match self.below(10) {
            0 => parts.push("ip".to_owned()),
            1 => parts.push("arp".to_owned()),
            2 => parts.push(format!("arp,arp_op={}", 1 + self.below(2))),
            3 => parts.push(format!("ip,nw_src=10.0.0.{}", self.pick(&["1", "2", "0/30", "4/30", "0/24"]))),
            4 => parts.push(format!("udp,nw_dst=10.0.0.{}", self.pick(&["1", "2", "0/30", "0/24"]))),
            5 => parts.push(
                self.pick(&["udp,tp_dst=53", "udp,tp_dst=0x50/0xfff0", "udp,tp_src=1000", "tcp"]).to_owned(),
            ),
            _ => {}
        }
        parts.join(",")
    }

    fn port_to_send(&mut self) -> String {
        match self.below(14) {
            0 => "LOCAL".to_owned(),
            1 => "IN_PORT".to_owned(),
            2 => "ALL".to_owned(),
            3 => "FLOOD".to_owned(),
            4 | 5 => "NORMAL".to_owned(),
            6 => format!("output:{}", self.dummy_name()),
            _ => format!("output:{}", self.number()),
        }
    }

    /// What a rule of `table` does, or a bucket, which belongs to no table.
    fn actions(&mut self, table: Option<usize>) -> String {
        let mut list: Vec<String> = vec![];
        let in_rule = table.is_some();
        let table = table.unwrap_or(4);
        for _ in 0..1 + self.below(3) {
            let action = match self.below(24) {
                0 => format!("mod_dl_src:02:00:00:00:00:0{}", 1 + self.below(6)),
                1 => format!("mod_dl_dst:02:00:00:00:00:0{}", 1 + self.below(6)),
                2 => format!("mod_vlan_vid:{}", self.pick(&[10, 20, 30])),
                3 => "strip_vlan".to_owned(),
                4 => "mod_nw_tos:32".to_owned(),
                // Not the priority: it may come with a second tag, and what access ports make of two tags differs on purpose.
                5 => "mod_nw_tos:48".to_owned(),
                6 => format!("load:{}->NXM_NX_REG0[]", self.below(3)),
                7 => "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]".to_owned(),
                8 if in_rule => format!("group:{}", 1 + self.below(4)),
                9 if table == 0 => format!("meter:{}", 1 + self.below(3)),
                10 | 11 if table < 3 => format!("resubmit(,{})", table + 1 + self.below(3 - table)),
                12 if table < 3 => format!("resubmit({},{})", self.number(), table + 1),
                13 if in_rule => {
                    self.pick(&["note:01.02", "controller:20", "clone(output:2)", "dec_ttl"]).to_owned()
                }
                _ => self.port_to_send(),
            };
            list.push(action);
        }
        if in_rule && table < 3 && self.one_in(10) {
            list.push(format!("write_actions({})", self.port_to_send()));
            list.push(format!("goto_table:{}", table + 1));
        }
        if in_rule && self.one_in(12) { "drop".to_owned() } else { list.join(",") }
    }

    fn cookie(&mut self) -> String {
        match self.below(4) {
            0 => format!("cookie={},", self.below(4)),
            _ => String::new(),
        }
    }

    fn rule(&mut self) -> String {
        let table = self.pick(&[0, 0, 0, 0, 1, 2, 3]);
        let mut rule = format!("{}table={table},", self.cookie());
        let matches = self.matches(table);
        rule += &format!("priority={},", self.priority(&matches));
        if self.one_in(8) {
            rule += &format!("idle_timeout={},", self.pick(&[3, 5, 31]));
        }
        if self.one_in(8) {
            rule += &format!("hard_timeout={},", self.pick(&[3, 5, 31]));
        }
        if self.one_in(12) {
            rule += self.pick(&[
                "check_overlap,",
                "send_flow_rem,",
                "reset_counts,",
                "no_packet_counts,",
                "importance=3,",
            ]);
        }
        if !matches.is_empty() {
            rule += &matches;
            rule.push(',');
        }
        rule + "actions=" + &self.actions(Some(table))
    }

    /// One of two for each match: which of two rules with one priority a frame meets that fits both is left open.
    fn priority(&mut self, matches: &str) -> usize {
        let hash = matches.bytes().fold(7, |hash, byte| (hash * 31 + usize::from(byte)) % 29_989);
        2 * hash + self.below(2)
    }

    /// What rules are to do from now on. OVS looks whether groups and meters are there only if there are such rules.
    fn new_actions(&mut self) -> String {
        let rule = self.rule();
        ["meter:", "group:"].iter().fold(rule, |rule, action| rule.replace(action, "note:0"))
    }

    /// What rules are to be deleted or shown.
    fn selection(&mut self, strict: bool) -> String {
        let mut parts: Vec<String> = vec![];
        if self.one_in(5) {
            parts.push(format!("cookie={}/{}", self.below(4), self.pick(&["-1", "0x1", "0x2"])));
        }
        let table = self.below(4);
        if strict || self.one_in(2) {
            parts.push(format!("table={table}"));
        }
        let matches = self.matches(table);
        if strict {
            parts.push(format!("priority={}", self.priority(&matches)));
        }
        if self.one_in(8) {
            parts.push(format!("out_port={}", self.number()));
        }
        if self.one_in(14) {
            parts.push(format!("out_group={}", 1 + self.below(4)));
        }
        if !matches.is_empty() {
            parts.push(matches);
        }
        parts.join(",")
    }

    fn flow_change(&mut self) -> Step {
        let (version, bridge) = (self.version(), self.bridge());
        match self.below(20) {
            0..=9 => Step::new(format!("ovs-ofctl {version}add-flow {bridge} {}", self.rule())),
            10 => {
                let strict = self.pick(&["", "--strict "]);
                let cookie = format!("cookie={}/{},", self.below(4), self.pick(&["-1", "0x1"]));
                Step::new(format!(
                    "ovs-ofctl {version}{strict}mod-flows {bridge} {cookie}{}",
                    self.new_actions().replace("cookie=", "priority=")
                ))
            }
            11..=13 => {
                let strict = self.pick(&["", "--strict "]);
                Step::new(format!("ovs-ofctl {version}{strict}mod-flows {bridge} {}", self.new_actions()))
            }
            14 | 15 => {
                Step::new(format!("ovs-ofctl {version}--strict del-flows {bridge} {}", self.selection(true)))
            }
            16 | 17 => Step::new(format!("ovs-ofctl {version}del-flows {bridge} {}", self.selection(false))),
            _ => {
                let rules: Vec<String> = (0..1 + self.below(4)).map(|_| self.rule()).collect();
                let bundle = self.pick(&["", "--bundle "]);
                let command = self.pick(&["add-flows", "add-flows", "replace-flows"]);
                Step {
                    line: format!("ovs-ofctl {bundle}{command} {bridge} -"),
                    input: rules.join("\n") + "\n",
                }
            }
        }
    }

    fn group(&mut self) -> String {
        let id = 1 + self.below(4);
        let kind = self.pick(&["all", "all", "indirect", "select", "ff"]);
        let buckets = match kind {
            "indirect" | "select" => 1,
            _ => self.below(4),
        };
        let mut group = format!("group_id={id},type={kind}");
        for _ in 0..buckets {
            let watch = if kind == "ff" { format!("watch_port:{},", self.number()) } else { String::new() };
            group += &format!(",bucket={watch}actions={}", self.actions(None));
        }
        group
    }

    fn group_change(&mut self) -> Step {
        let (version, bridge) = (self.pick(&VERSIONS[1..]), self.bridge());
        Step::new(match self.below(8) {
            0..=3 => format!("ovs-ofctl {version}add-group {bridge} {}", self.group()),
            4 | 5 => {
                let create = self.pick(&["", "--may-create "]);
                format!("ovs-ofctl {version}{create}mod-group {bridge} {}", self.group())
            }
            6 => format!("ovs-ofctl {version}del-groups {bridge} group_id={}", 1 + self.below(4)),
            _ => format!("ovs-ofctl {version}del-groups {bridge}"),
        })
    }

    fn meter_change(&mut self) -> Step {
        let bridge = self.bridge();
        let id = 1 + self.below(3);
        let unit = self.pick(&["kbps", "pktps"]);
        let flags = self.pick(&["", ",stats", ",burst,stats"]);
        let burst = if flags.contains("burst") { ",burst_size=1000" } else { "" };
        let meter = format!("meter={id},{unit}{flags},band=type=drop,rate=1000000{burst}");
        Step::new(match self.below(6) {
            0..=2 => format!("ovs-ofctl -O OpenFlow13 add-meter {bridge} {meter}"),
            3 | 4 => format!("ovs-ofctl -O OpenFlow13 mod-meter {bridge} {meter}"),
            _ => format!("ovs-ofctl -O OpenFlow13 del-meter {bridge} meter={id}"),
        })
    }

    fn port_change(&mut self) -> Step {
        let name = self.dummy_name();
        let bridge = if name.starts_with('q') { "br1" } else { "br0" };
        Step::new(match self.below(12) {
            0..=2 => format!("ovs-vsctl --if-exists del-port {name}"),
            3..=6 => {
                let number = self.number_of(name);
                format!("ovs-vsctl --if-exists del-port {name}{}", add_port(bridge, name, number))
            }
            7 | 8 => format!("ovs-vsctl set interface {name} ofport_request={}", self.number_of(name)),
            9 => format!("ovs-vsctl clear interface {name} ofport_request"),
            10 => "ovs-vsctl --if-exists del-port x1".to_owned(),
            _ => format!(
                "ovs-vsctl --may-exist add-port br0 x1 -- set interface x1 type=patch options:peer=y1 ofport_request={}",
                self.number_of("x1")
            ),
        })
    }

    fn vlan_change(&mut self) -> Step {
        let port = self.port_name();
        let tag = self.pick(&[10, 20, 0, 30]);
        Step::new(match self.below(12) {
            0..=2 => format!("ovs-vsctl set port {port} tag={tag}"),
            3 => format!("ovs-vsctl clear port {port} tag"),
            4 | 5 => format!(
                "ovs-vsctl set port {port} trunks={}",
                self.pick(&["10", "20", "10,20", "0", "0,10", "30"])
            ),
            6 => format!("ovs-vsctl clear port {port} trunks"),
            7 | 8 => format!(
                "ovs-vsctl set port {port} vlan_mode={}",
                // Tunnels with a tag: OVS takes the customer's tag off where the port has none.
                self.pick(&["access", "trunk", "native-tagged", "native-untagged", "dot1q-tunnel tag=30"])
            ),
            9 => format!("ovs-vsctl clear port {port} vlan_mode"),
            10 => format!("ovs-vsctl set port {port} protected={}", self.pick(&["true", "false"])),
            _ => format!(
                "ovs-vsctl set port {port} other_config:priority-tags={}",
                self.pick(&["always", "never", "if-nonzero"])
            ),
        })
    }

    fn bridge_change(&mut self) -> Step {
        let bridge = self.bridge();
        Step::new(match self.below(10) {
            0 | 1 => format!(
                "ovs-vsctl set bridge {bridge} flood_vlans={}",
                self.pick(&["10", "20", "0", "10,20"])
            ),
            2 => format!("ovs-vsctl clear bridge {bridge} flood_vlans"),
            3 => format!("ovs-vsctl set-fail-mode {bridge} secure"),
            4 => format!("ovs-vsctl set-fail-mode {bridge} standalone"),
            5 => format!("ovs-vsctl del-fail-mode {bridge}"),
            6 => format!(
                "ovs-vsctl set bridge {bridge} other_config:forward-bpdu={}",
                self.pick(&["true", "false"])
            ),
            7 | 8 => format!("ovs-vsctl set bridge {bridge} mcast_snooping_enable=false"),
            _ => format!("ovs-vsctl remove bridge {bridge} other_config forward-bpdu"),
        })
    }

    fn station_change(&mut self) -> Step {
        let bridge = self.bridge();
        let vlan = self.pick(&[0, 10, 20]);
        let station = format!("02:00:00:00:00:0{}", 1 + self.below(6));
        Step::new(match self.below(4) {
            0 | 1 => format!("ovs-appctl fdb/add {bridge} {} {vlan} {station}", self.port_name()),
            2 => format!("ovs-appctl fdb/del {bridge} {vlan} {station}"),
            _ => format!("ovs-appctl fdb/flush {bridge}"),
        })
    }

    fn mod_port(&mut self) -> Step {
        let name = self.port_name();
        let bridge = if name.starts_with(['q', 'y']) { "br1" } else { "br0" };
        let what =
            self.pick(&["up", "no-flood", "flood", "no-forward", "forward", "receive", "no-packet-in"]);
        Step::new(format!("ovs-ofctl mod-port {bridge} {name} {what}"))
    }

    fn packet_out(&mut self) -> Step {
        let (version, bridge) = (self.version(), self.bridge());
        let at = self.below(self.frames.len());
        let frame = self.frames[at].1.clone();
        let port = match self.below(6) {
            0 => "LOCAL".to_owned(),
            1 => "CONTROLLER".to_owned(),
            _ => self.number().to_string(),
        };
        let actions = match self.below(3) {
            0 => "TABLE".to_owned(),
            1 => self.port_to_send(),
            // Not what a station sends to itself, as above.
            _ => self.actions(None).replace("move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]", "strip_vlan"),
        };
        Step::new(format!(
            "ovs-ofctl {version}packet-out {bridge} in_port={port},packet={frame},actions={actions}"
        ))
    }

    fn bundle(&mut self) -> Step {
        let mut lines: Vec<String> = vec![];
        for _ in 0..1 + self.below(5) {
            // A rule that the same bundle adds and deletes stays in `bridge/dump-flows` of OVS, though it is in no table.
            let added = lines.iter().any(|line| line.starts_with("flow add"));
            lines.push(match self.below(8) {
                3 | 4 if added => format!("flow add {}", self.rule()),
                0 => format!("group add {}", self.group()),
                1 => format!("group modify {}", self.group()),
                2 => format!("group delete group_id={}", 1 + self.below(4)),
                3 => format!("flow delete {}", self.selection(false)),
                4 => format!("flow delete_strict {}", self.selection(true)),
                5 => format!("flow modify {}", self.new_actions()),
                _ => format!("flow add {}", self.rule()),
            });
        }
        let version = self.pick(&VERSIONS[2..]);
        Step {
            line: format!("ovs-ofctl {version}bundle {} -", self.bridge()),
            input: lines.join("\n") + "\n",
        }
    }

    /// Ports p3 and p4 become one, or two again.
    fn bond_change(&mut self) -> Step {
        Step::new(if self.one_in(2) {
            concat!(
                "ovs-vsctl --id=@three get Interface p3 -- --id=@four get Interface p4",
                " -- set Port p3 interfaces=@three,@four other_config:bond-primary=p3",
                " -- --id=@gone get Port p4 -- remove Bridge br0 ports @gone",
            )
            .to_owned()
        } else {
            format!(
                "ovs-vsctl --if-exists del-port p3 -- --if-exists del-port p4{}{}",
                add_port("br0", "p3", 3),
                add_port("br0", "p4", 4)
            )
        })
    }

    fn table_change(&mut self) -> Step {
        let bridge = self.bridge();
        Step::new(match self.below(2) {
            0 => {
                format!("ovs-vsctl set bridge {bridge} other_config:mac-table-size={}", self.pick(&[10, 100]))
            }
            _ => format!("ovs-ofctl {}del-flows {bridge}", self.version()),
        })
    }
}
