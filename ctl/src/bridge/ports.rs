//! Commands about ports as OpenFlow sees them.

use anyhow::anyhow;
use flowtable::OfPort;
use flowtable::text::parse_port;
use openflow::OfVersions;
use openflow::message::{
    LinkModes, Message, MultipartReply, MultipartRequest, OfPortDesc, OfPortStats, PortConfig, PortMod,
    PortState,
};
use serde_json::{Value, json};

use super::connection::{Connection, FLOODING, Names, config_names};
use crate::args::{BridgeName, DumpPorts, ModPort, PortSetting};
use crate::clock::Deadline;
use crate::console::{Answer, Look, Paint};
use crate::grid::{Cell, Grid};
use crate::rundir::RunDir;
use crate::top::{PortCounters, Sample};

/// A port by its name or number.
pub fn find_port(text: &str, names: &Names) -> anyhow::Result<OfPort> {
    parse_port(text, names).ok_or_else(|| {
        let known: Vec<&str> = names.values().map(String::as_str).collect();
        anyhow!("there is no port {text}; there are {}", known.join(", "))
    })
}

fn mac(address: u64) -> String {
    let bytes: Vec<String> = (0..6).rev().map(|at| format!("{:02x}", address >> (8 * at) & 0xff)).collect();
    bytes.join(":")
}

/// The rate that a link runs at, in words; nothing if it does not say.
fn speed(modes: LinkModes) -> &'static str {
    const SPEEDS: [(u32, &str); 10] = [
        (LinkModes::FD_1T, "1 Tb/s"),
        (LinkModes::FD_100G, "100 Gb/s"),
        (LinkModes::FD_40G, "40 Gb/s"),
        (LinkModes::FD_10G, "10 Gb/s"),
        (LinkModes::FD_1G, "1 Gb/s"),
        (LinkModes::HD_1G, "1 Gb/s half"),
        (LinkModes::FD_100M, "100 Mb/s"),
        (LinkModes::HD_100M, "100 Mb/s half"),
        (LinkModes::FD_10M, "10 Mb/s"),
        (LinkModes::HD_10M, "10 Mb/s half"),
    ];
    SPEEDS.into_iter().find(|(bit, _)| modes.0 & bit != 0).map_or("", |(_, name)| name)
}

/// `show-ports`. OpenFlow 1.0 tells most about settings; a bridge that does not allow it is asked in another version.
pub fn show(args: &BridgeName, rundir: &RunDir, deadline: Deadline, paint: Paint) -> anyhow::Result<Answer> {
    let mut connection = match Connection::open_with(rundir, &args.bridge, FLOODING, deadline) {
        Err(error) if error.is::<openflow::session::CloseReason>() => {
            Connection::open(rundir, &args.bridge, deadline)?
        }
        other => other?,
    };
    let ports = connection.ports()?;
    let mut grid = Grid::titled(&[">PORT", "NAME", "MAC", "LINK", "SPEED", "SETTINGS"]);
    for port in &ports {
        let link = match () {
            () if port.config.has(PortConfig::PORT_DOWN) => Cell::from("down").look(Look::Yellow),
            () if port.state.0 & PortState::LINK_DOWN != 0 => Cell::from("no link").look(Look::Yellow),
            () => Cell::from("up").look(Look::Green),
        };
        grid.row([
            Cell::number(port.port).look(Look::Cyan),
            Cell::from(port.name.as_str()).look(Look::Bold),
            mac(port.hw_addr).into(),
            link,
            speed(port.curr).into(),
            config_names(port.config).join(" ").into(),
        ]);
    }
    Ok(Answer { text: grid.render(paint), json: ports.iter().map(port_json).collect() })
}

fn port_json(port: &OfPortDesc) -> Value {
    json!({
        "port": port.port.0, "name": port.name, "mac": mac(port.hw_addr),
        "admin_up": !port.config.has(PortConfig::PORT_DOWN),
        "link_up": port.state.0 & PortState::LINK_DOWN == 0,
        "config": config_names(port.config), "speed": Some(speed(port.curr)).filter(|speed| !speed.is_empty()),
    })
}

fn statistics(connection: &mut Connection, port: OfPort) -> anyhow::Result<Vec<OfPortStats>> {
    let parts = connection.multipart(MultipartRequest::PortStats(port))?;
    let mut all: Vec<OfPortStats> = parts
        .into_iter()
        .flat_map(|part| match part {
            MultipartReply::PortStats(part) => part,
            _ => Vec::new(),
        })
        .collect();
    all.sort_by_key(|port| port.port);
    Ok(all)
}

/// A counter that the switch knows.
fn known(counter: u64) -> Option<u64> {
    Some(counter).filter(|counter| *counter != u64::MAX)
}

/// `dump-ports`.
pub fn dump(args: &DumpPorts, rundir: &RunDir, deadline: Deadline, paint: Paint) -> anyhow::Result<Answer> {
    let mut connection = Connection::open(rundir, &args.bridge, deadline)?;
    let names = connection.names()?;
    let port = args.port.as_deref().map_or(Ok(OfPort::ANY), |port| find_port(port, &names))?;
    let statistics = statistics(&mut connection, port)?;
    let titles = [
        ">PORT",
        "NAME",
        ">RX FRAMES",
        ">BYTES",
        ">DROPS",
        ">ERRORS",
        ">TX FRAMES",
        ">BYTES",
        ">DROPS",
        ">ERRORS",
    ];
    let mut grid = Grid::titled(&titles);
    let mut list = Vec::new();
    for port in &statistics {
        let name = names.get(&port.port).map_or("", String::as_str);
        let mut row = vec![Cell::number(port.port).look(Look::Cyan), Cell::from(name).look(Look::Bold)];
        let counters = [
            port.rx_packets,
            port.rx_bytes,
            port.rx_dropped,
            port.rx_errors,
            port.tx_packets,
            port.tx_bytes,
            port.tx_dropped,
            port.tx_errors,
        ];
        row.extend(counters.map(|counter| known(counter).map_or_else(|| Cell::number("-"), Cell::number)));
        grid.row(row);
        list.push(statistics_json(port, name));
    }
    Ok(Answer { text: grid.render(paint), json: Value::Array(list) })
}

fn statistics_json(port: &OfPortStats, name: &str) -> Value {
    json!({
        "port": port.port.0, "name": name,
        "rx_packets": known(port.rx_packets), "rx_bytes": known(port.rx_bytes),
        "rx_dropped": known(port.rx_dropped), "rx_errors": known(port.rx_errors),
        "rx_frame_errors": known(port.rx_frame_err), "rx_over_errors": known(port.rx_over_err),
        "rx_crc_errors": known(port.rx_crc_err),
        "tx_packets": known(port.tx_packets), "tx_bytes": known(port.tx_bytes),
        "tx_dropped": known(port.tx_dropped), "tx_errors": known(port.tx_errors),
        "collisions": known(port.collisions), "duration_s": port.duration.map(|duration| duration.as_secs_f64()),
    })
}

/// What a setting means: its bit, and whether it is set.
fn bit_of(setting: PortSetting) -> (u32, bool) {
    match setting {
        PortSetting::Up => (PortConfig::PORT_DOWN, false),
        PortSetting::Down => (PortConfig::PORT_DOWN, true),
        PortSetting::Flood => (PortConfig::NO_FLOOD, false),
        PortSetting::NoFlood => (PortConfig::NO_FLOOD, true),
        PortSetting::Receive => (PortConfig::NO_RECV, false),
        PortSetting::NoReceive => (PortConfig::NO_RECV, true),
        PortSetting::Forward => (PortConfig::NO_FWD, false),
        PortSetting::NoForward => (PortConfig::NO_FWD, true),
        PortSetting::PacketIn => (PortConfig::NO_PACKET_IN, false),
        PortSetting::NoPacketIn => (PortConfig::NO_PACKET_IN, true),
    }
}

/// Values and mask of settings; of two that contradict each other the last counts.
fn config_of(settings: &[PortSetting]) -> (PortConfig, PortConfig) {
    settings.iter().fold((PortConfig(0), PortConfig(0)), |(values, mask), setting| {
        let (bit, on) = bit_of(*setting);
        let values = if on { values.0 | bit } else { values.0 & !bit };
        (PortConfig(values), PortConfig(mask.0 | bit))
    })
}

/// `mod-port`.
pub fn modify(args: &ModPort, rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Answer> {
    let (config, mask) = config_of(&args.settings);
    let versions: Option<OfVersions> = mask.has(PortConfig::NO_FLOOD).then_some(FLOODING);
    let mut connection = match versions {
        Some(versions) => Connection::open_with(rundir, &args.bridge, versions, deadline)
            .map_err(|error| error.context("flooding can be set in OpenFlow 1.0 only"))?,
        None => Connection::open(rundir, &args.bridge, deadline)?,
    };
    let ports = connection.ports()?;
    let names: Names = ports.iter().map(|port| (port.port, port.name.clone())).collect();
    let wanted = find_port(&args.port, &names)?;
    let port = ports.iter().find(|port| port.port == wanted);
    let port = port.ok_or_else(|| anyhow!("bridge {} has no port {}", args.bridge, args.port))?;
    let message = PortMod { port: port.port, hw_addr: port.hw_addr, config, mask, advertise: LinkModes(0) };
    connection.send(&Message::PortMod(message))?;
    connection.barrier().map_err(|error| error.context(format!("port {}", args.port)))?;
    let settings = PortConfig(port.config.0 & !mask.0 | config.0);
    Ok(Answer::done(json!({ "bridge": args.bridge, "port": port.name, "config": config_names(settings) })))
}

/// The counters of every port of every bridge.
///
/// # Errors
/// When a bridge cannot be asked.
pub fn counters(rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Sample> {
    let mut sample = Sample::default();
    for bridge in rundir.bridges() {
        let mut connection = Connection::open(rundir, &bridge, deadline)?;
        let names = connection.names()?;
        for port in statistics(&mut connection, OfPort::ANY)? {
            let name = names.get(&port.port).cloned().unwrap_or_else(|| port.port.to_string());
            let number = |counter: u64| known(counter).unwrap_or(0);
            let counters = PortCounters {
                rx_packets: number(port.rx_packets),
                rx_bytes: number(port.rx_bytes),
                tx_packets: number(port.tx_packets),
                tx_bytes: number(port.tx_bytes),
                drops: number(port.rx_dropped) + number(port.tx_dropped),
            };
            sample.ports.insert((bridge.clone(), name), counters);
        }
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_speeds() {
        assert_eq!(mac(0x0200_0000_00ab), "02:00:00:00:00:ab");
        assert_eq!(speed(LinkModes(LinkModes::FD_10G | LinkModes::COPPER)), "10 Gb/s");
        assert_eq!(speed(LinkModes(0)), "");
    }

    #[test]
    fn settings_become_values_and_mask() {
        let (config, mask) = config_of(&[PortSetting::NoFlood, PortSetting::Up]);
        assert_eq!((config.0, mask.0), (PortConfig::NO_FLOOD, PortConfig::NO_FLOOD | PortConfig::PORT_DOWN));
        let (config, mask) = config_of(&[PortSetting::Down, PortSetting::Up]);
        assert_eq!((config.0, mask.0), (0, PortConfig::PORT_DOWN));
        assert_eq!(
            config_names(PortConfig(PortConfig::NO_FLOOD | PortConfig::PORT_DOWN)),
            ["down", "no-flood"]
        );
    }
}
