//! Checks the release of etcd.

use registry_core::diagnosis::Finding;

const UPGRADE: &str = "upgrade to 3.5.28 or later";

/// Assesses a release by its version, such as `3.5.16`.
pub(super) fn assess(version: &str) -> Finding {
    let Some(release) = parse(version) else {
        let message = format!("unknown version of etcd, got=`{version}`");
        return Finding::warning("release", message, UPGRADE);
    };
    match release {
        (..3, ..) | (3, ..=3, _) => {
            let message = format!("etcd {version} is older than the tested releases");
            Finding::warning("release", message, UPGRADE)
        }
        // Issues 17529, 18089 and 19179. These are the first releases that fix all three.
        (3, 4, ..36) | (3, 5, ..18) => {
            let message = format!(
                "etcd {version} may silently lose watch events: views are wrong until the next audit, within 6 minutes"
            );
            Finding::warning("release", message, UPGRADE)
        }
        (3, 4 | 5, _) => Finding::ok("release", format!("etcd {version}, a tested release series")),
        _ => Finding::ok("release", format!("etcd {version}, not a tested release series")),
    }
}

fn parse(version: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::diagnosis::Level;

    #[test]
    fn releases_that_lose_events_are_reported() {
        let table = [
            ("3.3.27", Level::Warning),
            ("3.4.35", Level::Warning),
            ("3.4.36", Level::Ok),
            ("3.5.17", Level::Warning),
            ("3.5.18", Level::Ok),
            ("3.5.28-rc.0", Level::Ok),
            ("3.6.0", Level::Ok),
            ("", Level::Warning),
            ("3.5", Level::Warning),
        ];
        for (version, level) in table {
            assert_eq!(assess(version).level, level, "{version}");
        }
    }
}
