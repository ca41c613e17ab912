//! Curves, attacks and memory as Markdown and as JSON.

use super::curve::{Curve, Point};
use super::fairness::{Attack, Outcome, Windows};
use super::memory::{MANY, Memory};
use crate::measure::median;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What was measured.
#[derive(Debug, Default)]
pub struct Found {
    /// Curves.
    pub curves: Vec<(&'static Curve, Vec<Point>)>,
    /// Attacks.
    pub attacks: Vec<(&'static Attack, Outcome)>,
    /// Memory.
    pub memory: Vec<Memory>,
}

/// The median of the rounds' ratios.
fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(&of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>())
}

/// By how many nanoseconds a figure is above that of the smallest size, round by round.
fn growth(of: &[f64], smallest: &[f64]) -> f64 {
    median(&of.iter().zip(smallest).map(|(of, smallest)| of - smallest).collect::<Vec<_>>())
}

/// The part of the victim's frames a second that is left.
fn left(windows: &Windows, alone: &Windows) -> f64 {
    ratio(&windows.victim, &alone.victim)
}

/// What a frame of the attacker costs, in frames of the victim's: the victim's time is longer by it.
fn attackers_frame(windows: &Windows, alone: &Windows) -> f64 {
    (1.0 / left(windows, alone) - 1.0) / windows.attackers
}

/// The whole report.
pub fn text(found: &Found, facts: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in facts {
        let _ = writeln!(out, "- {name}: {value}");
    }
    for (curve, points) in &found.curves {
        curve_table(&mut out, curve, points);
    }
    if !found.curves.is_empty() {
        out += "\n`wire` moves as many different frames without a switch; `touching` also reads and writes as many cache lines a \
                frame\nas a hit does, among as many as the switch has. What they grow by is the machine's caches.\n";
    }
    attacks(&mut out, &found.attacks);
    if !found.memory.is_empty() {
        let _ = writeln!(out, "\nResident memory, of {MANY} each:\n\n| | bytes each |\n| --- | --- |");
        for memory in &found.memory {
            let _ = writeln!(out, "| {} | {:.0} |", memory.title, memory.bytes);
        }
    }
    out
}

fn curve_table(out: &mut String, curve: &Curve, points: &[Point]) {
    let _ = writeln!(
        out,
        "\n| {} | ns a frame | ÷ smallest | grew by, ns | `wire` grew by | `touching` grew by |",
        curve.title
    );
    let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- |");
    let Some(first) = points.first() else { return };
    for point in points {
        let _ = writeln!(
            out,
            "| {} | {:.1} | {:.2} | {:.1} | {:.1} | {:.1} |",
            point.size,
            median(&point.ours),
            ratio(&point.ours, &first.ours),
            growth(&point.ours, &first.ours),
            growth(&point.wire, &first.wire),
            growth(&point.touching, &first.touching),
        );
    }
}

fn attacks(out: &mut String, attacks: &[(&Attack, Outcome)]) {
    if attacks.is_empty() {
        return;
    }
    *out += "\nA port beside the victim's on one worker, as shipped; both always have frames.\n\n";
    *out += "| the port sends | victim's frames a second ÷ alone | a frame of it costs, in victim's | its frames for one of the victim's | step p99 ÷ alone |\n";
    *out += "| --- | --- | --- | --- | --- |\n";
    for (attack, outcome) in attacks {
        let rows = [("frames as the victim's", &outcome.neighbour), (attack.title, &outcome.attack)];
        for (title, windows) in rows {
            let _ = writeln!(
                out,
                "| {title} | {:.2} | {:.2} | {:.2} | {:.2} |",
                left(windows, &outcome.alone),
                attackers_frame(windows, &outcome.alone),
                windows.attackers,
                ratio(&windows.step_p99, &outcome.alone.step_p99),
            );
        }
    }
    *out += "\nOne port that always has frames leaves a victim that has one half of the worker, and one that has two, two thirds: \
            that is fair.\n";
}

/// Everything, for other programs: nanoseconds, frames a second, microseconds, bytes.
pub fn json(found: &Found, facts: &[(String, String)]) -> Value {
    let facts: serde_json::Map<_, _> = facts.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    let curves = found.curves.iter().map(|(curve, points)| {
        let first = points.first().cloned().unwrap_or_default();
        let points = points.iter().map(|p| {
            json!({
                "size": p.size, "ours": p.ours, "wire": p.wire, "touching": p.touching,
                "ratio": ratio(&p.ours, &first.ours),
            })
        });
        json!({"name": curve.name, "title": curve.title, "points": points.collect::<Vec<_>>()})
    });
    let windows = |w: &Windows| json!({"victim": w.victim, "nanos": w.nanos, "attackers_frames": w.attackers, "step_p99": w.step_p99});
    let attacks = found.attacks.iter().map(|(attack, outcome)| {
        json!({
            "name": attack.name,
            "title": attack.title,
            "alone": windows(&outcome.alone),
            "neighbour": windows(&outcome.neighbour),
            "attack": windows(&outcome.attack),
            "left": left(&outcome.attack, &outcome.alone),
        })
    });
    let memory: serde_json::Map<_, _> =
        found.memory.iter().map(|m| (m.title.to_owned(), json!(m.bytes))).collect();
    json!({
        "machine": facts,
        "curves": curves.collect::<Vec<_>>(),
        "attacks": attacks.collect::<Vec<_>>(),
        "memory": memory,
    })
}

#[cfg(test)]
mod tests {
    use super::super::curve::CURVES;
    use super::super::fairness::ATTACKS;
    use super::*;

    #[test]
    fn growth_and_what_is_left_are_told() {
        let point = |size, ours: f64, wire: f64| Point {
            size,
            ours: vec![ours, ours * 2.0, ours],
            wire: vec![wire; 3],
            touching: vec![wire; 3],
        };
        let windows = |victim: f64, attackers| Windows {
            victim: vec![victim],
            nanos: vec![1.0],
            attackers,
            step_p99: vec![1.0],
        };
        let outcome =
            Outcome { alone: windows(100.0, 0.0), neighbour: windows(50.0, 1.0), attack: windows(25.0, 1.0) };
        let found = Found {
            curves: vec![(&CURVES[0], vec![point(1, 50.0, 10.0), point(10, 60.0, 15.0)])],
            attacks: vec![(&ATTACKS[0], outcome)],
            memory: vec![Memory { title: "x", bytes: 7.0 }],
        };
        let text = text(&found, &[]);
        assert!(text.contains("| 10 | 60.0 | 1.20 | 10.0 | 5.0 | 5.0 |"), "{text}");
        assert!(text.contains("| frames as the victim's | 0.50 | 1.00 | 1.00 | 1.00 |"), "{text}");
        assert!(text.contains("| only misses | 0.25 | 3.00 | 1.00 | 1.00 |"), "{text}");
        assert_eq!(json(&found, &[])["curves"][0]["points"][1]["ratio"], 1.2);
    }
}
