//! How the servers are set up.

use crate::connect::Address;
use crate::error::Fault;
use crate::info::Info;
use crate::link::Link;
use crate::options::Ack;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use registry_core::diagnosis::Finding;
use registry_core::{Error, Result};
use std::time::{Duration, SystemTime};

pub(super) async fn look(link: &Link) -> Result<Vec<Finding>> {
    let (addresses, lost) = link.addresses().await;
    let looks = addresses.iter().map(|address| async move {
        let failed = |fault: Fault| vec![Finding::failed("server", &fault.into()).about(address)];
        look_at(link, address).await.unwrap_or_else(failed)
    });
    let mut findings = join_all(looks).await.concat();
    findings.extend(lost.map(|fault| Finding::failed("server", &fault.into())));
    Ok(findings)
}

async fn look_at(link: &Link, address: &Address) -> Result<Vec<Finding>, Fault> {
    let mut connection = link.dial(address).await?;
    let info = link.info(&mut connection).await?;
    let mut findings = vec![release(&info), replicas(&info, link.is_cluster()), memory(&info)];
    findings.extend(disk(link, &mut connection, &info).await);
    findings.push(clock(link, &mut connection).await);
    if link.is_cluster() {
        return Ok(findings.into_iter().map(|finding| finding.about(address)).collect());
    }
    Ok(findings)
}

fn release(info: &Info) -> Finding {
    const TESTED: [(&str, &str); 3] = [("Redis", "7.0"), ("Redis", "8.0"), ("Valkey", "8.1")];
    let (name, version) = match info.said("valkey_version") {
        Some(version) => ("Valkey", version),
        None => ("Redis", info.said("redis_version").unwrap_or_default()),
    };
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    let numbers = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if numbers < (6, 2) {
        let message = format!("{name} {version} is older than what the scripts need, 6.2");
        return Finding::warning("release", message, "upgrade it");
    }
    let is_tested = TESTED.contains(&(name, &*format!("{}.{}", numbers.0, numbers.1)));
    let verdict =
        if is_tested { "whose like is tested" } else { "which is not among those tested" };
    Finding::ok("release", format!("{name} {version}, {verdict}"))
}

fn replicas(info: &Info, is_cluster: bool) -> Finding {
    let Some(count) = info.number("connected_slaves") else {
        let message = "the server does not say whether it has replicas";
        return Finding::warning("replicas", message, "ask who runs it");
    };
    match count {
        0 if is_cluster => {
            let message = "a primary without a replica: what lies on it goes when it fails";
            Finding::warning("replicas", message, "give each primary a replica")
        }
        0 => Finding::ok("replicas", "a primary without a replica: it has no stand-in"),
        count => Finding::ok("replicas", format!("a primary with replicas: {count}")),
    }
}

fn memory(info: &Info) -> Finding {
    let policy = info.said("maxmemory_policy").unwrap_or_default();
    if policy.starts_with("allkeys") {
        let message =
            format!("the server may evict any key, and with it the registry: policy=`{policy}`");
        let advice = "set its maxmemory-policy to `noeviction` or a `volatile-*` one";
        return Finding::error("memory", message, advice);
    }
    let (Some(used), Some(limit)) = (info.number("used_memory"), info.number("maxmemory")) else {
        let message = "the server does not say how much memory it has, and may use";
        return Finding::warning("memory", message, "ask who runs it");
    };
    match limit {
        0 => Finding::ok("memory", format!("{} MiB in use, without a limit", used >> 20)),
        limit => {
            let message =
                format!("{} of {} MiB in use, policy=`{policy}`", used >> 20, limit >> 20);
            if used > limit / 5 * 4 {
                let advice = "raise maxmemory: a server that is full takes no registrations";
                return Finding::warning("memory", message, advice);
            }
            Finding::ok("memory", message)
        }
    }
}

/// What a crash of the server loses.
async fn disk(link: &Link, connection: &mut MultiplexedConnection, info: &Info) -> Vec<Finding> {
    let failed = ["rdb_last_bgsave_status", "aof_last_write_status"];
    if let Some(failed) = failed.into_iter().find(|field| info.said(field) == Some("err")) {
        let message =
            format!("the server could not write to its disk, and may refuse to serve: {failed}");
        return vec![Finding::error("disk", message, "make room, and see the server's log")];
    }
    let acknowledged = match link.options().ack {
        Ack::Primary => "acknowledged is what the primary has in memory",
        Ack::Replicas(_) => "acknowledged is what replicas have in memory",
        Ack::Fsync { .. } => "acknowledged is what is on disk",
    };
    if info.said("aof_enabled") != Some("1") {
        let message = format!(
            "no append-only file: a crash loses what was registered since the last snapshot; {acknowledged}"
        );
        let advice = "set appendonly to `yes`; without, who is alive registers again within a third of a ttl";
        return vec![Finding::warning("disk", message, advice)];
    }
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg("appendfsync");
    match link.ask::<Vec<String>>(connection, &question).await {
        Ok(pair) => {
            let policy = pair.get(1).map_or("unknown", String::as_str);
            let message = format!("an append-only file, appendfsync=`{policy}`; {acknowledged}");
            vec![Finding::ok("disk", message)]
        }
        Err(fault) => vec![
            Finding::ok("disk", format!("an append-only file; {acknowledged}")),
            Finding::unasked("appendfsync", &fault.into()),
        ],
    }
}

/// The server's clock is the one that leases run on. How far ours is from it only explains what
/// logs say.
async fn clock(link: &Link, connection: &mut MultiplexedConnection) -> Finding {
    let before = now();
    let told: Result<(u64, u64), Error> =
        link.ask(connection, &redis::cmd("TIME")).await.map_err(Error::from);
    let (seconds, micros) = match told {
        Ok(told) => told,
        Err(error) => return Finding::unasked("clock", &error),
    };
    let ours = before + (now().saturating_sub(before)) / 2;
    let theirs = Duration::from_secs(seconds) + Duration::from_micros(micros);
    let skew = theirs.abs_diff(ours);
    let side = if theirs >= ours { "ahead of" } else { "behind" };
    Finding::ok("clock", format!("leases run on the server's, which is {skew:.1?} {side} ours"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with the server's, and no lease runs by it"
)]
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::diagnosis::Level;

    #[test]
    fn releases_are_told_by_their_own_names() {
        let said = |text: &str| release(&Info::from(text));
        assert!(said("redis_version:7.0.15\r\n").message.contains("Redis 7.0.15, whose like is"));
        assert!(said("redis_version:7.4.1\r\n").message.contains("not among those tested"));
        let valkey = said("redis_version:7.2.4\r\nvalkey_version:8.1.1\r\n");
        assert!(valkey.message.contains("Valkey 8.1.1, whose like is tested"), "{valkey:?}");
        assert_eq!(said("redis_version:6.0.16\r\n").level, Level::Warning);
        assert_eq!(said("").level, Level::Warning);
    }

    #[test]
    fn a_server_that_is_nearly_full_is_warned_of_and_one_that_evicts_is_an_error() {
        let said = |used: u64, limit: u64, policy: &str| {
            let text =
                format!("used_memory:{used}\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n");
            memory(&Info::from(&*text)).level
        };
        assert_eq!(said(900, 0, "noeviction"), Level::Ok);
        assert_eq!(said(700, 1000, "noeviction"), Level::Ok);
        assert_eq!(said(900, 1000, "volatile-lru"), Level::Warning);
        assert_eq!(said(1, 0, "allkeys-lru"), Level::Error);
        assert_eq!(
            memory(&Info::from("used_memory:1\r\n")).level,
            Level::Warning,
            "it is not told"
        );
    }
}
