//! How etcd is found, run and recognised.

use super::super::ServerError;
use super::super::kind::{Kind, Place};
use std::path::Path;
use std::process::Command;

/// How etcd is found, run and recognised.
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

/// The command line of a single member.
fn arguments(place: &Place<'_>) -> Result<Vec<String>, ServerError> {
    let Place { program, scheme, host, port, data, durable } = place;
    // A container's release is not known before it runs; what every 3.4 to 3.7 knows will do there.
    let release = program.map_or(Ok(OLDEST), release)?;
    let mut arguments = vec![
        "--name=registry-test".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={scheme}://{host}:{port}"),
        format!("--advertise-client-urls={scheme}://127.0.0.1:{port}"),
        // Nobody calls a single member as a peer. What it advertises makes its cluster id, together
        // with the token: two servers differ, one that was wiped and restarted stays the same.
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

/// The release of a binary, from its first line: `etcd Version: 3.4.23`.
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

/// Reads the three numbers at the end of `etcd Version: 3.5.0-rc.1`.
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
    fn reads_releases() {
        assert_eq!(parse_release("etcd Version: 3.4.23"), Some((3, 4, 23)));
        assert_eq!(parse_release("etcd Version: 3.5.0-rc.1"), Some((3, 5, 0)));
        assert_eq!(parse_release("etcd Version: 3.6"), None);
        assert_eq!(parse_release("some other program"), None);
    }

    #[test]
    fn flags_follow_the_release() {
        let (host, data) = ("0.0.0.0", Path::new("/data"));
        let place = Place { program: None, scheme: "http", host, port: 2379, data, durable: false };
        let flags = arguments(&place).unwrap().join(" ");
        assert!(flags.contains("--experimental-watch-progress-notify-interval=200ms"), "{flags}");
        assert!(!flags.contains("no-fsync"), "{flags}");
    }
}
