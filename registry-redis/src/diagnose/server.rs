//! Checks the servers' versions and settings.

use crate::client::Client;
use crate::connect::{Address, Link};
use crate::error::StoreError;
use crate::info::Info;
use crate::options::Ack;
use futures_util::future::join_all;
use registry_core::diagnosis::Finding;
use registry_core::{Error, Result};
use std::time::{Duration, SystemTime};

pub(super) async fn check_servers(client: &Client) -> Result<Vec<Finding>> {
    let (addresses, failure) = client.servers().await;
    let checks = addresses.iter().map(|address| async move {
        let failed = |error: StoreError| {
            vec![Finding::failed("server", &error.into()).with_subject(address)]
        };
        check_server(client, address).await.unwrap_or_else(failed)
    });
    let mut findings = join_all(checks).await.concat();
    findings.extend(failure.map(|error| Finding::failed("server", &error.into())));
    Ok(findings)
}

async fn check_server(client: &Client, address: &Address) -> Result<Vec<Finding>, StoreError> {
    let (link, topology) = (client.dial(address).await?, client.topology());
    let info = client.info(&link).await?;
    let lone_primary = || topology.assess_lone_primary();
    let mut findings = vec![release(&info), replicas(&info, lone_primary), memory(&info)];
    findings.extend(disk(client, &link, &info).await);
    findings.push(clock(client, &link).await);
    Ok(findings.into_iter().map(|finding| topology.label(finding, address)).collect())
}

fn release(info: &Info) -> Finding {
    const TESTED: [(&str, &str); 3] = [("Redis", "7.0"), ("Redis", "8.0"), ("Valkey", "8.1")];
    let (name, version) = match info.get("valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", info.get("redis_version").unwrap_or_default()),
    };
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    let numbers = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if numbers < (6, 2) {
        let message = format!("{name} {version} is older than 6.2, which the scripts need");
        return Finding::warning("release", message, "upgrade the server");
    }
    let is_tested = TESTED.contains(&(name, &*format!("{}.{}", numbers.0, numbers.1)));
    let verdict = if is_tested { "a tested release series" } else { "not a tested release series" };
    Finding::ok("release", format!("{name} {version}, {verdict}"))
}

fn replicas(info: &Info, lone_primary: impl FnOnce() -> Finding) -> Finding {
    match info.number("connected_slaves") {
        None => {
            let message = "the server does not report whether it has replicas";
            Finding::warning("replicas", message, "ask its operator")
        }
        Some(0) => lone_primary(),
        Some(count) => Finding::ok("replicas", format!("a primary with replicas: {count}")),
    }
}

fn memory(info: &Info) -> Finding {
    let policy = info.get("maxmemory_policy").unwrap_or_default();
    if policy.starts_with("allkeys") {
        let message =
            format!("the server may evict any key, including the registry's: policy=`{policy}`");
        let advice = "set its maxmemory-policy to `noeviction` or `volatile-*`";
        return Finding::error("memory", message, advice);
    }
    let (Some(used), Some(limit)) = (info.number("used_memory"), info.number("maxmemory")) else {
        let message = "the server does not report its memory usage and limit";
        return Finding::warning("memory", message, "ask its operator");
    };
    match limit {
        0 => Finding::ok("memory", format!("{} MiB in use, without a limit", used >> 20)),
        limit => {
            let message =
                format!("{} of {} MiB in use, policy=`{policy}`", used >> 20, limit >> 20);
            if used > limit / 5 * 4 {
                let advice = "raise maxmemory: a full server refuses registrations";
                return Finding::warning("memory", message, advice);
            }
            Finding::ok("memory", message)
        }
    }
}

/// Checks which data a crash of the server loses.
async fn disk(client: &Client, link: &Link, info: &Info) -> Vec<Finding> {
    let failed = ["rdb_last_bgsave_status", "aof_last_write_status"];
    if let Some(failed) = failed.into_iter().find(|field| info.get(field) == Some("err")) {
        let message =
            format!("the server could not write to its disk, and may refuse calls: {failed}");
        return vec![Finding::error("disk", message, "free disk space, and see the server's log")];
    }
    let acknowledged = match client.options().ack {
        Ack::Primary => "writes are acknowledged in the primary's memory",
        Ack::Replicas(_) => "writes are acknowledged in the memory of replicas",
        Ack::Fsync { .. } => "writes are acknowledged on disk",
    };
    if info.get("aof_enabled") != Some("1") {
        let message = format!(
            "no append-only file: a crash loses the registrations since the last snapshot; {acknowledged}"
        );
        let advice = "set appendonly to `yes`; without it, live instances register again within a third of a ttl";
        return vec![Finding::warning("disk", message, advice)];
    }
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("appendfsync");
    match client.query::<Vec<String>>(link, &command).await {
        Ok(pair) => {
            let policy = pair.get(1).map_or("unknown", String::as_str);
            let message = format!("an append-only file, appendfsync=`{policy}`; {acknowledged}");
            vec![Finding::ok("disk", message)]
        }
        Err(error) => vec![
            Finding::ok("disk", format!("an append-only file; {acknowledged}")),
            Finding::skipped("appendfsync", &error.into()),
        ],
    }
}

/// Reports the skew between the server's clock and ours. Leases run on the server's clock, so the skew only
/// helps to compare logs.
async fn clock(client: &Client, link: &Link) -> Finding {
    let before = now();
    let time: Result<(u64, u64), Error> =
        client.query(link, &redis::cmd("TIME")).await.map_err(Error::from);
    let (seconds, micros) = match time {
        Ok(time) => time,
        Err(error) => return Finding::skipped("clock", &error),
    };
    let ours = before + (now().saturating_sub(before)) / 2;
    let theirs = Duration::from_secs(seconds) + Duration::from_micros(micros);
    let skew = theirs.abs_diff(ours);
    let side = if theirs >= ours { "ahead of" } else { "behind" };
    Finding::ok(
        "clock",
        format!("leases run on the server's clock, which is {skew:.1?} {side} ours"),
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with the server's clock; no lease depends on it"
)]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::diagnosis::Level;

    #[test]
    fn release_is_reported_by_its_own_name() {
        let check = |text: &str| release(&Info::from(text));
        assert!(
            check("redis_version:7.0.15\r\n").message.contains("Redis 7.0.15, a tested release")
        );
        assert!(check("redis_version:7.4.1\r\n").message.contains("not a tested release series"));
        let valkey = check("redis_version:7.2.4\r\nvalkey_version:8.1.1\r\n");
        assert!(valkey.message.contains("Valkey 8.1.1, a tested release series"), "{valkey:?}");
        assert_eq!(check("redis_version:6.0.16\r\n").level, Level::Warning);
        assert_eq!(check("").level, Level::Warning);
    }

    #[test]
    fn nearly_full_memory_is_a_warning_and_eviction_an_error() {
        let check = |used: u64, limit: u64, policy: &str| {
            let text =
                format!("used_memory:{used}\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n");
            memory(&Info::from(&*text)).level
        };
        assert_eq!(check(900, 0, "noeviction"), Level::Ok);
        assert_eq!(check(700, 1000, "noeviction"), Level::Ok);
        assert_eq!(check(900, 1000, "volatile-lru"), Level::Warning);
        assert_eq!(check(1, 0, "allkeys-lru"), Level::Error);
        assert_eq!(
            memory(&Info::from("used_memory:1\r\n")).level,
            Level::Warning,
            "unknown memory"
        );
    }
}
