//! The ratios as a picture: one bar for each metric and peer, to the right where ours is better, on a logarithmic scale.

use super::report::{Row, Series, advantage};
use super::systems::{Attachment, Kind};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
/// Where the bars begin that say "the same".
const MIDDLE: f64 = 480.0;
/// Of a doubling.
const STEP: f64 = 52.0;
/// Doublings that fit to either side; longer bars are cut, the figure beside them is not.
const STEPS_MAX: f64 = 4.0;
const LINE: f64 = 15.0;
const TOP: f64 = 64.0;

/// The picture as SVG.
pub fn svg(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for row in rows {
        for (index, metric) in row.case.metrics.iter().enumerate() {
            y += LINE * 0.6;
            let _ = writeln!(
                body,
                r#"<text x="8" y="{:.1}" font-weight="bold">{}</text>"#,
                y + 11.0,
                escape(metric.title)
            );
            y += LINE;
            for (ours, theirs) in pairs(row) {
                let Some(advantage) = advantage(ours, theirs, index, metric) else { continue };
                let label = format!("{} : {}", ours.system.name, theirs.system.name);
                bar(&mut body, y, &label, advantage);
                y += LINE;
            }
        }
    }
    let height = y + LINE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\" font-weight=\"bold\">Tapestry beside others: times as good</text>\n\
         <text x=\"8\" y=\"36\">To the right of 1 ours is better: more of a rate, less of a latency. Medians of rounds.</text>\n"
    );
    for step in -4..=4i32 {
        let x = MIDDLE + f64::from(step) * STEP;
        let (colour, label) = (if step == 0 { "#444444" } else { "#dddddd" }, 2f64.powi(step));
        let _ = writeln!(
            out,
            r##"<line x1="{x}" y1="{:.1}" x2="{x}" y2="{:.1}" stroke="{colour}"/><text x="{x}" y="{:.1}" text-anchor="middle" fill="#666666">{label}</text>"##,
            TOP - 8.0,
            height - 6.0,
            TOP - 12.0
        );
    }
    out + &body + "</svg>\n"
}

/// Each peer beside the one of ours that is attached in the same way, the bridge beside all.
fn pairs(row: &Row) -> Vec<(&Series, &Series)> {
    let mut pairs = Vec::new();
    for ours in row.ours() {
        for theirs in row.series.iter().filter(|s| s.system.kind != Kind::Tapestry) {
            let alike = theirs.system.kind == Kind::Bridge
                || theirs.system.attachment == ours.system.attachment
                || !row.ours().any(|o| o.system.attachment == Attachment::Veth);
            if alike {
                pairs.push((ours, theirs));
            }
        }
    }
    pairs
}

fn bar(body: &mut String, y: f64, label: &str, advantage: f64) {
    let length = advantage.log2().clamp(-STEPS_MAX, STEPS_MAX) * STEP;
    let (x, colour) = if length < 0.0 { (MIDDLE + length, "#c0504d") } else { (MIDDLE, "#4f8f5b") };
    // The figure stands on the side where the bar is not.
    let (at, anchor) = if length < 0.0 { (MIDDLE + 4.0, "start") } else { (MIDDLE - 4.0, "end") };
    let _ = writeln!(
        body,
        r#"<text x="16" y="{0:.1}">{1}</text><rect x="{x:.1}" y="{2:.1}" width="{3:.1}" height="11" fill="{colour}"/><text x="{at}" y="{0:.1}" text-anchor="{anchor}">{advantage:.2}</text>"#,
        y + 10.0,
        escape(label),
        y + 1.0,
        length.abs()
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::report::example;
    use super::*;

    #[test]
    fn better_goes_right_and_worse_left_and_far_ones_are_cut() {
        let rows = [
            example("tcp-1", &[("tapestry", &[20.0]), ("ovs", &[10.0]), ("bridge", &[40.0])]),
            example("rr", &[("tapestry", &[1.0]), ("ovs", &[1000.0]), ("forwarder", &[])]),
        ];
        let svg = svg(&rows);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        let line =
            |label: &str| svg.lines().find(|l| l.contains(label)).unwrap_or_else(|| panic!("{label}: {svg}"));
        let right = format!("<rect x=\"{MIDDLE:.1}\" y=\"");
        assert!(line("tapestry : ovs<").contains(&right) && line("tapestry : ovs<").contains(">2.00<"));
        let left = format!("<rect x=\"{:.1}\"", MIDDLE - STEP);
        assert!(line("tapestry : bridge<").contains(&left) && line("tapestry : bridge<").contains(">0.50<"));
        let cut = format!("width=\"{:.1}\"", STEPS_MAX * STEP);
        assert!(svg.lines().any(|l| l.contains(&cut) && l.contains(">1000.00<")), "{svg}");
        assert!(!svg.contains("forwarder"));
    }

    #[test]
    fn peers_stand_beside_what_is_attached_alike() {
        let row = example(
            "tcp-1",
            &[
                ("tapestry", &[1.0]),
                ("tapestry-veth", &[1.0]),
                ("ovs", &[1.0]),
                ("ovs-veth", &[1.0]),
                ("bridge", &[1.0]),
            ],
        );
        let names: Vec<_> = pairs(&row).iter().map(|(a, b)| (a.system.name, b.system.name)).collect();
        let expected = [
            ("tapestry", "ovs"),
            ("tapestry", "bridge"),
            ("tapestry-veth", "ovs-veth"),
            ("tapestry-veth", "bridge"),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b & c>d"), "a&lt;b &amp; c&gt;d");
    }
}
