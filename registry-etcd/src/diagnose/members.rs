//! How the members are: those that the URL names, and those that they know of.

use super::release;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::error::EtcdError;
use etcd_client::{Member, StatusResponse};
use futures_util::future::join_all;
use registry_core::diagnosis::Finding;
use registry_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What a full database says, and what it takes to go on (etcd's `etcdserver/api/v3alarm`).
const NO_SPACE: &str = "compact the history, defragment each member, then `etcdctl alarm disarm`; see --auto-compaction-retention and --quota-backend-bytes";

/// The quota of releases that do not tell theirs, unless it was set.
const DEFAULT_QUOTA: i64 = 2 << 30;

pub(super) async fn look(client: &Client) -> Result<Vec<Finding>> {
    let cluster = client.cluster();
    let asked = cluster.endpoints().iter().map(|endpoint| async {
        (endpoint.authority.as_str(), cluster.status_of(&endpoint.url).await)
    });
    let mut findings = Vec::new();
    let mut healthy = BTreeMap::new();
    for (authority, status) in join_all(asked).await {
        match status {
            Ok(status) => {
                healthy.insert(member_of(&status), status);
            }
            Err(error) => {
                let message = format!("{authority} does not answer: {}", told(error));
                let advice = "start it, or take it out of the URL";
                findings.push(Finding::warning("endpoint", message, advice));
            }
        }
    }
    findings.push(match members(client).await {
        Ok(members) => judge(&members, cluster, &mut healthy).await,
        Err(error) => Finding::unasked("members", &error.into()),
    });
    let versions: BTreeSet<_> = healthy.values().map(StatusResponse::version).collect();
    findings.extend(versions.into_iter().map(release::judge));
    findings.extend(healthy.values().map(space));
    // Each member tells the alarms of all.
    let alarms: BTreeSet<_> = healthy.values().flat_map(StatusResponse::errors).collect();
    findings.extend(alarms.into_iter().map(|alarm| raised(alarm)));
    Ok(findings)
}

async fn members(client: &Client) -> Result<Vec<Member>, EtcdError> {
    let list = client.cluster().call(|connection| async move {
        Ok(connection.client().cluster_client().member_list().await?.members().to_vec())
    });
    list.await
}

/// Asks those of the `members` that are not known to be `healthy` where they say that they can be
/// asked.
async fn judge(
    members: &[Member],
    cluster: &Cluster,
    healthy: &mut BTreeMap<u64, StatusResponse>,
) -> Finding {
    let others = members.iter().filter(|member| !healthy.contains_key(&member.id()));
    let asked = others.map(|member| async move {
        match member.client_urls().first() {
            Some(url) => (member, cluster.status_of(url).await.map_err(told)),
            None => (member, Err("it has not started yet".to_owned())),
        }
    });
    let mut missing = Vec::new();
    for (member, status) in join_all(asked).await {
        match status {
            Ok(status) => {
                healthy.insert(member.id(), status);
            }
            Err(why) => missing.push(format!("{} ({}): {why}", name(member), urls(member))),
        }
    }
    let count = members.len();
    if !missing.is_empty() {
        let message =
            format!("{} of {count} members do not answer: {}", missing.len(), missing.join("; "));
        let advice = "start them; without a majority nothing can be registered";
        return Finding::warning("members", message, advice);
    }
    let leader = healthy.values().map(StatusResponse::leader).find(|leader| *leader != 0);
    let leader = members.iter().find(|member| Some(member.id()) == leader);
    match leader {
        Some(leader) if count == 1 => {
            Finding::ok("members", format!("1 member, `{}`: it has no stand-in", leader.name()))
        }
        Some(leader) => {
            let message = format!("{count} members, all answer, the leader is `{}`", leader.name());
            Finding::ok("members", message)
        }
        None => {
            let advice = "start enough members for a majority";
            Finding::error("members", format!("{count} members, and no leader"), advice)
        }
    }
}

fn name(member: &Member) -> String {
    if member.name().is_empty() { format!("{:x}", member.id()) } else { member.name().to_owned() }
}

fn urls(member: &Member) -> String {
    let urls = [member.client_urls(), member.peer_urls()];
    urls.into_iter().find(|urls| !urls.is_empty()).unwrap_or_default().join(", ")
}

fn member_of(status: &StatusResponse) -> u64 {
    status.header().map_or(0, etcd_client::ResponseHeader::member_id)
}

fn space(status: &StatusResponse) -> Finding {
    let (size, told) = (status.db_size(), status.db_size_quota());
    let quota = if told > 0 { told } else { DEFAULT_QUOTA };
    let assumed = if told > 0 { "" } else { ", unless another was set" };
    let member = member_of(status);
    let message = format!(
        "the database of member {member:x} has {} of {} MiB{assumed}",
        size >> 20,
        quota >> 20
    );
    if size > quota / 5 * 4 {
        return Finding::warning("space", message, NO_SPACE);
    }
    Finding::ok("space", message)
}

fn raised(alarm: &str) -> Finding {
    let advice = match alarm {
        full if full.contains("NOSPACE") => NO_SPACE,
        corrupt if corrupt.contains("CORRUPT") => {
            "take the member out, wipe it and add it again: its data differs from the others'"
        }
        _ => "see `etcdctl endpoint status` and the log of the member",
    };
    Finding::error("alarm", format!("a member reports: {}", alarm.trim()), advice)
}

fn told(error: EtcdError) -> String {
    Error::from(error).chain().to_string()
}
