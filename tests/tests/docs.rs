//! What the documents tell people to type works.

use std::process::Command;
use tests::{Namespace, Switch, Tools, binary, ip, root, run, run_ok};

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Lines of code (indented by four) of a document's section.
fn code<'a>(text: &'a str, section: &str) -> Vec<&'a str> {
    let lines = text.lines().skip_while(|l| *l != section).skip(1).take_while(|l| !l.starts_with("## "));
    lines.filter_map(|l| l.strip_prefix("    ")).map(|l| l.split(" #").next().unwrap_or(l).trim()).collect()
}

#[test]
fn the_readme_can_be_followed() {
    let readme = document("README.md");
    let lines = code(&readme, "## Use it");
    let commands: Vec<&str> = lines.into_iter().filter(|l| l.starts_with("ovs-")).collect();
    assert!(commands.len() >= 5, "{commands:?}");
    let switch = Switch::start(&[]);
    let pod = Namespace::new("pod2");
    ip(&format!("-n {} link add veth0 type veth peer name veth1", switch.ns().name()));
    for command in commands {
        // Names of namespaces are the machine's; a test may not take them.
        let command = command.replace("netns=pod2", &format!("netns={}", pod.name()));
        let mut shell = Command::new("sh");
        shell.args(["-ec", &command]).env("OVS_RUNDIR", switch.dir()).env("OVS_DBDIR", switch.dir());
        let ran = run(&mut shell);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{command}: {}", ran.stdout);
    }
    pod.run_ok("ip link show pod2");
    assert!(switch.run("ovs-ofctl dump-flows br0").contains("tp_dst=80"));
}

#[test]
fn scripts_that_documents_name_exist() {
    use std::os::unix::fs::PermissionsExt;
    for name in ["README.md", "CONTRIBUTING.md", "docs/fuzzing.md"] {
        for word in document(name).split(|c: char| !(c.is_alphanumeric() || "/-_.".contains(c))) {
            let word = word.trim_end_matches('.');
            if word.starts_with("scripts/") || word == ".ci/run" {
                let mode =
                    std::fs::metadata(root().join(word)).unwrap_or_else(|e| panic!("{name}: {word}: {e}"));
                assert_ne!(mode.permissions().mode() & 0o111, 0, "{name}: {word} cannot be run");
            }
        }
    }
}

/// Options that documents name are options that `--help` knows.
#[test]
fn help_tells_of_every_option_named() {
    let help = run_ok(Command::new(binary("vswitchd")).arg("--help"));
    for option in [
        "--rundir",
        "--db",
        "--workers",
        "--pidfile",
        "--detach",
        "--no-chdir",
        "--log-file",
        "--unixctl",
        "--enable-dummy",
        "--disable-system",
        "--disable-system-route",
        "--no-io-uring",
        "--verbose",
    ] {
        assert!(help.contains(option), "{option}");
    }
    let ran = run(Command::new(binary("vswitchd")).arg("--frobnicate"));
    assert!(ran.code > 0 && ran.stderr.contains("frobnicate"), "{}", ran.stderr);
    let help = run_ok(Command::new(binary("tapctl")).arg("--help"));
    for command in [
        "add-br",
        "add-port",
        "add-flow",
        "dump-flows",
        "show",
        "fdb",
        "top",
        "drops",
        "completions",
        "--json",
    ] {
        assert!(help.contains(command), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run_ok(Command::new(binary("tapctl")).args(["completions", shell]));
        assert!(script.contains("tapctl") && script.contains("add-port"), "{shell}");
    }
}
