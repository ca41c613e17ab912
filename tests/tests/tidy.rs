//! Style as a test: who may import whom, where `unsafe` may live, how long a file may be, which words do not appear, and
//! that links in documents lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// ARCHITECTURE.md §1: the crates of this workspace that each may depend on. `tests` and `benches` may use everything.
const EDGES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("packet", &["base"]),
    ("sys", &["base"]),
    ("flowtable", &["base", "packet"]),
    ("openflow", &["base", "packet", "flowtable"]),
    ("ovsdb", &["base"]),
    ("datapath", &["base", "packet", "flowtable", "sys"]),
    ("switch", &["base", "packet", "flowtable", "openflow", "datapath"]),
    ("vswitchd", &["base", "packet", "sys", "flowtable", "openflow", "ovsdb", "datapath", "switch"]),
    ("ctl", &["base", "packet", "flowtable", "openflow", "ovsdb"]),
    ("sim", &["base", "packet", "sys", "flowtable", "openflow", "ovsdb", "datapath", "switch"]),
];

/// Longest source file, in lines. A longer one has two subjects.
const FILE_LINES_MAX: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn tracked(suffix: &str) -> Vec<PathBuf> {
    let out =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output();
    let out = out.expect("git runs");
    assert!(out.status.success(), "git ls-files: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("utf8");
    let files: Vec<_> =
        text.lines().filter(|f| f.ends_with(suffix)).map(|f| root().join(f)).filter(|f| f.exists()).collect();
    assert!(!files.is_empty(), "no file ends in {suffix}");
    files
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let args = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let out = Command::new(cargo).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("JSON")
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let members: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    for package in packages {
        let name = package["name"].as_str().expect("name");
        if name == "tests" || name == "benches" {
            continue;
        }
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("crate {name} is not in the table"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("name");
            // Tests of a crate may look further than the crate itself.
            if members.contains(to) && dependency["kind"].is_null() {
                assert!(allowed.contains(&to), "{name} may not import {to}");
            }
        }
    }
}

#[test]
fn unsafe_lives_in_sys_alone_and_says_why() {
    let keyword = ["uns", "afe"].concat();
    for file in tracked(".rs") {
        let text = read(&file);
        let inside = file.starts_with(root().join("sys"));
        for (i, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let opens =
                [" {", " impl", " fn", " extern"].iter().any(|k| code.contains(&format!("{keyword}{k}")));
            assert!(inside || !opens, "{}:{}: {keyword} outside sys", file.display(), i + 1);
        }
    }
}

#[test]
fn files_stay_readable() {
    for file in tracked(".rs") {
        let lines = read(&file).lines().count();
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines, more than {FILE_LINES_MAX}", file.display());
    }
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    let words = ["todo", "unimplemented"].map(|w| format!("{w}!("));
    let ignored = ["#[ign", "ore"].concat();
    for file in tracked(".rs") {
        for (i, line) in read(&file).lines().enumerate() {
            let bad = words.iter().any(|w| line.contains(w)) || line.contains(&ignored);
            assert!(!bad, "{}:{}: {line}", file.display(), i + 1);
        }
    }
}

/// ARCHITECTURE.md §10: names that say nothing.
#[test]
fn modules_are_named_for_what_they_are() {
    let vague = ["util", "utils", "common", "helper", "helpers", "manager", "handler", "misc", "info", "ctx"];
    for file in tracked(".rs") {
        let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        assert!(!vague.contains(&stem), "{}: a vague name", file.display());
    }
}

#[test]
fn links_in_documents_lead_to_files() {
    for file in tracked(".md") {
        let text = read(&file);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = file.parent().expect("a directory").join(target);
            assert!(path.exists(), "{}: {link} leads nowhere", file.display());
        }
    }
}
