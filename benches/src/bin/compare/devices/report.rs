//! The figures of the devices as tables and as JSON.

use super::cases::{Better, Case, Metric, Sample};
use super::systems::{Kind, System};
use crate::measure::median;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A system's share of a row.
#[derive(Clone, Debug)]
pub struct Series {
    /// Which.
    pub system: System,
    /// One for each round.
    pub samples: Vec<Sample>,
    /// Why there are fewer than rounds.
    pub failure: Option<String>,
}

impl Series {
    /// The values of one of the case's metrics.
    pub fn values(&self, metric: usize) -> Vec<f64> {
        self.samples.iter().filter_map(|s| s.values.get(metric).copied()).collect()
    }

    fn cost(&self) -> Option<f64> {
        let costs: Vec<f64> = self.samples.iter().filter_map(|s| s.cost).collect();
        (!costs.is_empty()).then(|| median(&costs))
    }
}

/// A case with what came of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub case: Case,
    /// Of each system.
    pub series: Vec<Series>,
}

impl Row {
    /// Ours, which the others are compared with.
    pub fn ours(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|s| s.system.kind == Kind::Tapestry && !s.samples.is_empty())
    }
}

/// `a` to `b`, round by round, the median; `None` where there is nothing to divide.
pub fn ratio(a: &Series, b: &Series, metric: usize) -> Option<f64> {
    let (a, b) = (a.values(metric), b.values(metric));
    let ratios: Vec<f64> = a.iter().zip(&b).filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b).collect();
    (!ratios.is_empty()).then(|| median(&ratios))
}

/// How many times as good `a` is as `b`: above 1 where it is better, whichever way the metric counts.
pub fn advantage(a: &Series, b: &Series, index: usize, metric: &Metric) -> Option<f64> {
    match metric.better {
        Better::More => ratio(a, b, index),
        Better::Less => ratio(b, a, index),
    }
}

fn range(values: &[f64], decimals: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.decimals$} ({least:.decimals$}..{most:.decimals$})", median(values))
}

/// The whole report in Markdown.
pub fn text(rows: &[Row], facts: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in facts {
        let _ = writeln!(out, "- {name}: {value}");
    }
    let _ = writeln!(
        out,
        "\nMedian (least..most). Ratios are medians of the ratios of each round; bold where ours is worse."
    );
    for row in rows {
        for (index, metric) in row.case.metrics.iter().enumerate() {
            table(&mut out, row, index, metric);
        }
    }
    failures(&mut out, rows);
    worse(&mut out, rows);
    out
}

fn table(out: &mut String, row: &Row, index: usize, metric: &Metric) {
    let better = match metric.better {
        Better::More => "more is better",
        Better::Less => "less is better",
    };
    let _ = writeln!(out, "\n### {} ({better})\n", metric.title);
    let cost = if row.case.cost.is_empty() { String::new() } else { format!(" {} |", row.case.cost) };
    let _ = write!(out, "| | median |{cost}");
    let mut columns = 1 + usize::from(!cost.is_empty());
    for ours in row.ours() {
        let _ = write!(out, " {} ÷ it |", ours.system.name);
        columns += 1;
    }
    let _ = writeln!(out, "\n| --- |{}", " --- |".repeat(columns));
    for series in row.series.iter().filter(|s| !s.samples.is_empty()) {
        let _ = write!(out, "| {} | {} |", series.system.name, range(&series.values(index), metric.decimals));
        if !cost.is_empty() {
            let _ = match series.cost() {
                Some(cost) => write!(out, " {cost:.1} |"),
                None => write!(out, " – |"),
            };
        }
        for ours in row.ours() {
            let is_worse = advantage(ours, series, index, metric).is_some_and(|a| a < 1.0);
            let _ = match ratio(ours, series, index) {
                _ if ours.system == series.system => write!(out, " |"),
                Some(ratio) if is_worse => write!(out, " **{ratio:.2}** |"),
                Some(ratio) => write!(out, " {ratio:.2} |"),
                None => write!(out, " – |"),
            };
        }
        let _ = writeln!(out);
    }
}

fn failures(out: &mut String, rows: &[Row]) {
    let mut lines = Vec::new();
    for (row, series) in rows.iter().flat_map(|row| row.series.iter().map(move |s| (row, s))) {
        if let Some(failure) = &series.failure {
            lines.push(format!("- {}, {}: {failure}", row.case.name, series.system.name));
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(out, "\nNot measured, or not in every round:\n\n{}", lines.join("\n"));
    }
}

/// Where the best of ours is worse than somebody else.
fn worse(out: &mut String, rows: &[Row]) {
    let mut lines = Vec::new();
    for row in rows {
        for (index, metric) in row.case.metrics.iter().enumerate() {
            let best = |theirs: &Series| {
                row.ours().filter_map(|ours| advantage(ours, theirs, index, metric)).max_by(f64::total_cmp)
            };
            let theirs = row.series.iter().filter(|s| s.system.kind != Kind::Tapestry);
            let behind: Vec<String> = theirs
                .filter_map(|s| Some((s, best(s)?)))
                .filter(|(_, advantage)| *advantage < 1.0)
                .map(|(s, advantage)| format!("{} ({advantage:.2})", s.system.name))
                .collect();
            if !behind.is_empty() {
                lines.push(format!("- {}: {}", metric.name, behind.join(", ")));
            }
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(
            out,
            "\nEven the best of ours is behind, as the part of theirs that it reaches:\n\n{}",
            lines.join("\n")
        );
    }
}

/// Everything, for other programs.
pub fn json(rows: &[Row], facts: &[(String, String)]) -> Value {
    let mut all = Vec::new();
    for row in rows {
        for (index, metric) in row.case.metrics.iter().enumerate() {
            let systems = row.series.iter().map(|s| {
                let values = s.values(index);
                let ratios: serde_json::Map<_, _> = row
                    .ours()
                    .filter(|ours| ours.system != s.system)
                    .map(|ours| (ours.system.name.to_owned(), json!(ratio(ours, s, index))))
                    .collect();
                json!({
                    "system": s.system.name,
                    "title": s.system.title,
                    "values": values,
                    "median": (!values.is_empty()).then(|| median(&values)),
                    "cpu": s.cost(),
                    "ours_to_it": ratios,
                    "failure": s.failure,
                })
            });
            all.push(json!({
                "case": row.case.name,
                "metric": metric.name,
                "title": metric.title,
                "better": if metric.better == Better::More { "more" } else { "less" },
                "cpu_unit": row.case.cost,
                "systems": systems.collect::<Vec<_>>(),
            }));
        }
    }
    let facts: serde_json::Map<_, _> = facts.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    json!({"machine": facts, "metrics": all})
}

/// A row with values made up for tests.
#[cfg(test)]
pub fn example(case: &str, figures: &[(&str, &[f64])]) -> Row {
    use super::cases::CASES;
    use super::systems::SYSTEMS;
    let case = *CASES.iter().find(|c| c.name == case).unwrap();
    let series = figures.iter().map(|(name, values)| Series {
        system: *SYSTEMS.iter().find(|s| s.name == *name).unwrap(),
        samples: values
            .iter()
            .map(|v| Sample { values: vec![*v, 2.0 * v, 3.0 * v], cost: Some(10.0) })
            .collect(),
        failure: values.is_empty().then(|| "no such program".to_owned()),
    });
    Row { case, series: series.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_ratios_to_each_and_tell_where_ours_is_worse() {
        let row = example(
            "tcp-1",
            &[
                ("tapestry", &[10.0, 30.0, 20.0]),
                ("ovs", &[5.0, 5.0, 4.0]),
                ("bridge", &[40.0; 3]),
                ("ovs-tso", &[]),
            ],
        );
        let text = text(&[row], &[("kernel".into(), "x".into())]);
        assert!(text.contains("- kernel: x"), "{text}");
        assert!(
            text.contains("| | median | ms of CPU a Gbit | tapestry ÷ it |\n| --- | --- | --- | --- |\n"),
            "{text}"
        );
        assert!(text.contains("| tapestry | 20.00 (10.00..30.00) | 10.0 | |\n"), "{text}");
        assert!(text.contains("| ovs | 5.00 (4.00..5.00) | 10.0 | 5.00 |\n"), "{text}");
        assert!(text.contains("| bridge | 40.00 (40.00..40.00) | 10.0 | **0.50** |\n"), "{text}");
        assert!(text.contains("- tcp-1, ovs-tso: no such program"), "{text}");
        assert!(text.ends_with("- tcp-1: bridge (0.50)\n"), "{text}");
    }

    #[test]
    fn where_less_is_better_the_larger_figure_is_worse() {
        let row = example(
            "rr",
            &[("tapestry", &[30.0]), ("tapestry-veth", &[20.0]), ("bridge", &[15.0]), ("ovs", &[60.0])],
        );
        let text = text(std::slice::from_ref(&row), &[]);
        assert!(text.contains("| bridge | 15.0 (15.0..15.0) | 10.0 | **2.00** | **1.33** |\n"), "{text}");
        assert!(text.contains("| ovs | 60.0 (60.0..60.0) | 10.0 | 0.50 | 0.33 |\n"), "{text}");
        assert!(text.contains("- rr-p50: bridge (0.75)\n- rr-p99: bridge (0.75)\n"), "{text}");
        let json = json(&[row], &[]);
        assert_eq!(json["metrics"][1]["metric"], "rr-p99");
        assert_eq!(json["metrics"][1]["systems"][2]["median"], 30.0);
        assert_eq!(json["metrics"][0]["systems"][2]["ours_to_it"]["tapestry"], 2.0);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let row = example("idle", &[("tapestry", &[0.1, 0.1]), ("forwarder", &[0.0, 0.0])]);
        assert_eq!(ratio(&row.series[0], &row.series[1], 0), None);
        assert!(text(&[row], &[]).contains("| forwarder | 0.000 (0.000..0.000) | – |\n"));
    }
}
