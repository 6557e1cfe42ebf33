//! Arguments, help, and errors of wrong usage.

use crate::support::{TOOL, run, within};
use std::process::Output;
use tokio::process::Command;

#[tokio::test]
async fn without_a_registry_the_error_says_what_to_set() {
    let output = without_a_registry(&["ls"]).await;
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    for part in ["REGISTRYCTL_URL", "--registry", "etcd://", "redis://"] {
        assert!(told.contains(part), "{told}");
    }
}

/// Runs the tool without `REGISTRYCTL_URL`, and with the `REGISTRY_URL` of services.
async fn without_a_registry(arguments: &[&str]) -> Output {
    let mut tool = Command::new(TOOL);
    tool.args(arguments).env_remove("REGISTRYCTL_URL").env("REGISTRY_URL", "mem://");
    within(tool.output()).await.unwrap()
}

/// All verbs.
const VERBS: [&str; 8] = ["ls", "get", "watch", "register", "run", "doctor", "completions", "man"];

#[tokio::test]
async fn completions_and_manual_are_printed_without_a_registry_and_name_every_verb() {
    let completions = ["bash", "elvish", "fish", "powershell", "zsh"];
    let arguments = completions.map(|shell| vec!["completions", shell]);
    for arguments in arguments.into_iter().chain([vec!["man"]]) {
        let output = without_a_registry(&arguments).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
        for verb in VERBS {
            assert!(text.contains(verb), "{arguments:?} lacks {verb}: {text}");
        }
    }
    for verb in VERBS {
        let output = without_a_registry(&["man", verb]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!(".TH registryctl-{verb} ")), "{text}");
    }
    assert_eq!(without_a_registry(&["man", "nope"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn the_help_lists_every_verb() {
    let help = without_a_registry(&["--help"]).await;
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let verbs = listed.filter_map(|line| line.split_whitespace().next());
    let verbs: Vec<_> = verbs.filter(|verb| *verb != "help").collect();
    assert_eq!(verbs, VERBS, "{help}");
}

#[tokio::test]
async fn invalid_arguments_are_refused_before_anything_is_done() {
    let wrong: [&[&str]; 5] = [
        &["get", ""],
        &["watch", "user.rpc", "--after", "7"],
        &["register", "user.rpc", "10.0.0.1"],
        &["register", "user.rpc", "10.0.0.1:80", "--metadata", "zone"],
        &["run", "user.rpc", "10.0.0.1:80"],
    ];
    for arguments in wrong {
        let ended = run("mem://", arguments).await;
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
    }
}

#[tokio::test]
async fn an_error_says_what_to_do_and_never_a_password() {
    let verbs: [&[&str]; 6] = [
        &["ls"],
        &["get", "user.rpc"],
        &["watch", "user.rpc"],
        &["register", "user.rpc", "10.0.0.1:80"],
        &["doctor"],
        &["--help"],
    ];
    // Nothing listens on port 1.
    for url in ["redis://app:s3cret@127.0.0.1:1", "etcd://app:s3cret@127.0.0.1:1", "s3cret"] {
        for arguments in verbs {
            let ended = run(url, arguments).await;
            assert!(!format!("{ended:?}").contains("s3cret"), "{ended:?}");
            if arguments == ["--help"] {
                continue;
            }
            assert_eq!(ended.code, 1, "{ended:?}");
            let told = format!("{ended:?}");
            assert!(told.contains("advice: ") || told.contains("-> "), "{told}");
            if url.contains("127.0.0.1") && arguments != ["doctor"] {
                assert!(told.contains("advice: check that the store runs"), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn every_option_says_what_it_is_for() {
    for verb in VERBS {
        let ended = run("mem://", &[verb, "-h"]).await;
        assert_eq!(ended.code, 0);
        let lines = ended.out.iter().map(|line| line.trim());
        for option in lines.filter(|line| line.starts_with("--") || line.starts_with('<')) {
            let told = option.split("  ").filter(|part| !part.trim().is_empty()).count();
            assert!(told > 1, "{verb}: {option}");
        }
    }
}
