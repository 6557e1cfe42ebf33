//! How to find, start and probe etcd.

use super::super::ServerError;
use super::super::kind::{Kind, Place};
use std::path::Path;
use std::process::Command;

/// How to find, start and probe etcd.
pub(super) static ETCD: Kind = Kind {
    name: "etcd",
    program: "etcd",
    url_variable: "REGISTRY_TEST_ETCD_URL",
    path_variable: "REGISTRY_TEST_ETCD_PATH",
    image_variable: "REGISTRY_TEST_ETCD_IMAGE",
    image: "quay.io/coreos/etcd:v3.5.16",
    port: 2379,
    arguments,
    request: "GET /health HTTP/1.0\r\n\r\n",
    ready: |reply| reply.contains(r#""health":"true""#),
};

/// The oldest release with `--experimental-watch-progress-notify-interval`.
const OLDEST: (u64, u64, u64) = (3, 4, 11);

/// Returns the command line of a single member.
fn arguments(place: &Place<'_>) -> Result<Vec<String>, ServerError> {
    let Place { program, scheme, host, port, data, durable } = place;
    // The release in a container is unknown before it runs: use only what 3.4 to 3.7 all support.
    let release = program.map_or(Ok(OLDEST), release)?;
    let mut arguments = vec![
        "--name=registry-test".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={scheme}://{host}:{port}"),
        format!("--advertise-client-urls={scheme}://127.0.0.1:{port}"),
        // A single member has no peers. Its advertised URL and the token determine the cluster id. So the id
        // differs between servers, but a server that is wiped and restarted keeps it.
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=registry-test=http://127.0.0.1:2380".to_owned(),
        format!("--initial-cluster-token=registry-test-{port}"),
        "--logger=zap".to_owned(),
        "--log-level=error".to_owned(),
        "--log-outputs=stderr".to_owned(),
    ];
    if release >= (3, 5, 0) && !durable {
        arguments.push("--unsafe-no-fsync".to_owned());
    }
    let experimental = if release >= (3, 6, 0) { "" } else { "experimental-" };
    arguments.push(format!("--{experimental}watch-progress-notify-interval=200ms"));
    Ok(arguments)
}

/// Returns the release of a binary, from the first line of its output: `etcd Version: 3.4.23`.
fn release(program: &Path) -> Result<(u64, u64, u64), ServerError> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(ServerError::io("run `etcd --version`"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    parse_release(line).filter(|release| *release >= OLDEST).ok_or_else(|| ServerError::TooOld {
        server: ETCD.name,
        found: line.to_owned(),
        needed: "3.4.11",
    })
}

/// Parses the three numbers in a line such as `etcd Version: 3.5.0-rc.1`.
fn parse_release(line: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = line
        .strip_prefix("etcd Version: ")?
        .split(['.', '-', '+'])
        .map_while(|number| number.trim().parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_parsed_with_and_without_a_suffix() {
        assert_eq!(parse_release("etcd Version: 3.4.23"), Some((3, 4, 23)));
        assert_eq!(parse_release("etcd Version: 3.5.0-rc.1"), Some((3, 5, 0)));
        assert_eq!(parse_release("etcd Version: 3.6"), None);
        assert_eq!(parse_release("some other program"), None);
    }

    #[test]
    fn oldest_release_has_experimental_flags_and_syncs() {
        let (host, data) = ("0.0.0.0", Path::new("/data"));
        let place = Place { program: None, scheme: "http", host, port: 2379, data, durable: false };
        let flags = arguments(&place).unwrap().join(" ");
        assert!(flags.contains("--experimental-watch-progress-notify-interval=200ms"), "{flags}");
        assert!(!flags.contains("no-fsync"), "{flags}");
    }
}
