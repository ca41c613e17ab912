//! The figures as a table and as JSON, with what must be known of the machine.

use crate::measure::{Figures, PARTS, Row, median};
use anyhow::{Context as _, Result};
use benches::compare::{Case, Figure};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// A window of which something else had more than this part is pointed out.
const WAITING_MAX: f64 = 0.02;

/// What a run leaves.
#[derive(Debug)]
pub struct Report {
    /// For people, in Markdown.
    pub text: String,
    /// For other programs.
    pub json: Value,
    /// A plot, SVG.
    pub plot: Option<String>,
}

impl Report {
    /// Prints the text and leaves all in `dir`, which is made if there is none, as report.md, report.json and report.svg.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn publish(&self, dir: &Path) -> Result<()> {
        crate::print(&format!("{}\n", self.text))?;
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let json = serde_json::to_string_pretty(&self.json)? + "\n";
        let files = [
            ("report.md", Some(&self.text)),
            ("report.json", Some(&json)),
            ("report.svg", self.plot.as_ref()),
        ];
        for (name, content) in files.into_iter().filter_map(|(name, content)| Some((name, content?))) {
            let file = dir.join(name);
            std::fs::write(&file, content).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }
}

/// Frames a second as text: millions, or thousands below one million.
fn rate(value: f64) -> String {
    if value >= 1e6 { format!("{:.2} M", value / 1e6) } else { format!("{:.1} k", value / 1e3) }
}

fn range(figures: &Figures) -> String {
    let least = figures.rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.rates.iter().copied().fold(0.0, f64::max);
    format!("{} ({}..{})", rate(median(&figures.rates)), rate(least), rate(most))
}

/// Nanoseconds a frame.
fn nanos(figures: &Figures) -> f64 {
    1e9 / median(&figures.rates)
}

/// Ours to theirs, round by round, the median.
pub fn ratio(row: &Row) -> f64 {
    let ratios: Vec<_> =
        row.ours.rates.iter().zip(&row.theirs.rates).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

/// The whole report in Markdown.
pub fn text(rows: &[(Case, Row)], facts: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in facts {
        let _ = writeln!(out, "- {name}: {value}");
    }
    for (figure, heading) in [
        (Figure::Established, "Frames a second on one core, everything established"),
        (Figure::New, "New flows and connections a second on one core"),
    ] {
        let chosen: Vec<_> = rows.iter().filter(|(case, _)| case.figure == figure).collect();
        if chosen.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{heading}: median (least..most)\n");
        let _ = writeln!(
            out,
            "| | OVS-DPDK | Tapestry | Tapestry ÷ OVS | ns each | receive and drop, ns | wire, ns |"
        );
        let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- | --- |");
        for (case, row) in &chosen {
            out += &line(case, row);
        }
    }
    growth(&mut out, rows);
    memory(&mut out, rows);
    notes(&mut out, rows);
    out
}

fn line(case: &Case, row: &Row) -> String {
    let wire = if row.wire.rates.is_empty() { "–".to_owned() } else { format!("{:.0}", nanos(&row.wire)) };
    format!(
        "| {} | {} | {} | **{:.2}** | {:.0} : {:.0} | {:.0} : {:.0} | {wire} |\n",
        case.title,
        range(&row.theirs),
        range(&row.ours),
        ratio(row),
        nanos(&row.theirs),
        nanos(&row.ours),
        nanos(&row.their_floor),
        nanos(&row.our_floor),
    )
}

fn growth(out: &mut String, rows: &[(Case, Row)]) {
    for (case, row) in rows.iter().filter(|(_, row)| !row.growth.is_empty()) {
        let _ = writeln!(out, "\n{} a second as the table grows (OVS-DPDK, Tapestry):\n", case.title);
        let _ = writeln!(out, "| connections, in thousands | OVS-DPDK | Tapestry | ratio |");
        let _ = writeln!(out, "| --- | --- | --- | --- |");
        let width = case.flows / PARTS / 1_000;
        for (part, (theirs, ours)) in row.growth.iter().enumerate() {
            let (from, to) = (part * width, (part + 1) * width);
            let _ =
                writeln!(out, "| {from}–{to} | {} | {} | {:.2} |", rate(*theirs), rate(*ours), ours / theirs);
        }
    }
}

fn memory(out: &mut String, rows: &[(Case, Row)]) {
    let with: Vec<_> = rows.iter().filter_map(|(c, r)| r.memory.map(|m| (c, m))).collect();
    if with.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nResident memory each, cached flows included, in bytes:\n");
    let _ = writeln!(out, "| | OVS-DPDK | Tapestry | ratio |\n| --- | --- | --- | --- |");
    for (case, (theirs, ours)) in with {
        // What earlier cases of the run have left in the allocator is used again: it takes a run of the case alone.
        let _ = match ours < 1.0 {
            true => writeln!(out, "| {} | {theirs:.0} | – | – |", case.title),
            false => writeln!(out, "| {} | {theirs:.0} | {ours:.0} | {:.2} |", case.title, ours / theirs),
        };
    }
}

fn notes(out: &mut String, rows: &[(Case, Row)]) {
    let _ = writeln!(out, "\nSeen to be the same:\n");
    for (case, row) in rows {
        let _ = writeln!(out, "- {}: {}", case.title, row.checked);
    }
    let disturbed: Vec<_> = rows
        .iter()
        .map(|(case, row)| (case.title, row.theirs.waiting.max(row.ours.waiting)))
        .filter(|(_, waiting)| *waiting > WAITING_MAX)
        .map(|(title, waiting)| format!("{title} ({:.0} %)", waiting * 100.0))
        .collect();
    if !disturbed.is_empty() {
        let _ = writeln!(
            out,
            "\nSomething else had the core in a window of: {}. Its time is not counted, but caches were shared.",
            disturbed.join(", ")
        );
    }
    let slower: Vec<_> =
        rows.iter().filter(|(_, row)| ratio(row) < 1.0).map(|(case, _)| case.title).collect();
    if !slower.is_empty() {
        let _ = writeln!(out, "\nSlower than OVS-DPDK: {}.", slower.join(", "));
    }
}

/// Everything, for other programs: rates in frames a second, memory in bytes.
pub fn json(rows: &[(Case, Row)], facts: &[(String, String)]) -> Value {
    let figures = |f: &Figures| json!({"rates": f.rates, "median": median(&f.rates), "waiting": f.waiting});
    let rows = rows.iter().map(|(case, row)| {
        json!({
            "name": case.name,
            "title": case.title,
            "flows": case.flows,
            "ovs_dpdk": figures(&row.theirs),
            "tapestry": figures(&row.ours),
            "ratio": ratio(row),
            "ovs_dpdk_floor": figures(&row.their_floor),
            "tapestry_floor": figures(&row.our_floor),
            "wire": figures(&row.wire),
            "growth": row.growth,
            "memory": row.memory,
            "same": row.checked,
        })
    });
    let facts: serde_json::Map<_, _> = facts.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    json!({"machine": facts, "rows": rows.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use benches::compare::CASES;

    fn figures(rates: &[f64]) -> Figures {
        Figures { rates: rates.to_vec(), waiting: 0.0 }
    }

    #[test]
    fn slower_rows_and_disturbed_ones_are_pointed_out() {
        let row = Row {
            theirs: figures(&[2e6, 4e6, 3e6]),
            ours: Figures { rates: vec![1e6, 2e6, 1.5e6], waiting: 0.5 },
            their_floor: figures(&[1e7]),
            our_floor: figures(&[1e7]),
            ..Row::default()
        };
        assert_eq!(ratio(&row), 0.5);
        let text = text(&[(CASES[0], row.clone())], &[("kernel".into(), "x".into())]);
        assert!(
            text.contains("| 3.00 M (2.00 M..4.00 M) | 1.50 M (1.00 M..2.00 M) | **0.50** | 333 : 667 |"),
            "{text}"
        );
        assert!(text.contains("Slower than OVS-DPDK: port to port, 1 flow."), "{text}");
        assert!(text.contains("port to port, 1 flow (50 %)"), "{text}");
        assert_eq!(json(&[(CASES[0], row)], &[])["rows"][0]["tapestry"]["median"], 1.5e6);
    }

    #[test]
    fn small_rates_are_in_thousands() {
        assert_eq!((rate(8_123.0), rate(2.5e6)), ("8.1 k".to_owned(), "2.50 M".to_owned()));
    }
}
