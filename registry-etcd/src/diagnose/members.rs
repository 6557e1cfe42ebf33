//! Checks the members that the URL names, and lists the other members of the cluster.

use super::release;
use crate::client::{Answered, Client};
use crate::error::EtcdError;
use etcd_client::{Member, StatusResponse};
use futures_util::future::join_all;
use registry_core::diagnosis::Finding;
use registry_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What to do about a full database (etcd's `etcdserver/api/v3alarm`).
const NO_SPACE: &str = "compact the history, defragment each member, then `etcdctl alarm disarm`; see --auto-compaction-retention and --quota-backend-bytes";

/// The default quota, for releases that do not report theirs.
const DEFAULT_QUOTA: i64 = 2 << 30;

pub(super) async fn diagnose(client: &Client) -> Result<Vec<Finding>> {
    let cluster = client.cluster();
    let asked = cluster
        .endpoints()
        .iter()
        .map(|endpoint| async { (endpoint.authority.as_str(), cluster.status_of(endpoint).await) });
    let mut findings = Vec::new();
    let (mut answers, mut unreachable) = (Vec::new(), BTreeMap::new());
    for (authority, status) in join_all(asked).await {
        match status {
            Ok(status) => answers.push((authority, status)),
            Err(error) => {
                let why = describe(error);
                let message = format!("{authority} does not answer: {why}");
                let advice = "start it, or remove it from the URL";
                findings.push(Finding::warning("endpoint", message, advice));
                unreachable.insert(authority, why);
            }
        }
    }
    match members(client).await {
        Ok(listed) => {
            findings.extend(answers.iter().filter_map(|answer| foreign_member(&listed, answer)));
            findings.extend(assess(&listed, &answers, &unreachable));
        }
        Err(error) => findings.push(Finding::from_error("members", &error.into())),
    }
    // Several addresses may lead to the same member.
    let healthy: BTreeMap<_, _> =
        answers.iter().map(|(_, status)| (member_of(status), status)).collect();
    let versions: BTreeSet<_> = healthy.values().map(|status| status.version()).collect();
    findings.extend(versions.into_iter().map(release::assess));
    findings.extend(healthy.values().map(|status| space_finding(status)));
    // Each member reports the alarms of all members.
    let alarms: BTreeSet<_> = healthy.values().flat_map(|status| status.errors()).collect();
    findings.extend(alarms.into_iter().map(|alarm| alarm_finding(alarm)));
    Ok(findings)
}

/// The member list of the cluster.
struct Listed {
    cluster: u64,
    members: Vec<Member>,
}

async fn members(client: &Client) -> Result<Listed, EtcdError> {
    let list = client.cluster().call(|connection| async move {
        let answer = connection.client().cluster_client().member_list().await?;
        let cluster = Answered::by(answer.header())?.cluster;
        Ok(Listed { cluster, members: answer.members().to_vec() })
    });
    list.await
}

/// An authority of the URL and its status response.
type Answer<'a> = (&'a str, StatusResponse);

/// Reports a server at an address of the URL that is not a member of the cluster.
fn foreign_member(listed: &Listed, (authority, status): &Answer<'_>) -> Option<Finding> {
    let (cluster, member) = (cluster_of(status), member_of(status));
    let message = if cluster != listed.cluster {
        format!(
            "{authority} belongs to another cluster, got=`{cluster:x}`, expected=`{:x}`",
            listed.cluster
        )
    } else if listed.members.iter().all(|one| one.id() != member) {
        format!("{authority} is not in the member list of the cluster, member=`{member:x}`")
    } else {
        return None;
    };
    Some(Finding::error("endpoint", message, "remove it from the URL"))
}

/// Assesses the members. Only addresses in the URL were queried: an advertised address is not trusted with
/// the password.
fn assess(
    Listed { cluster, members }: &Listed,
    answers: &[Answer<'_>],
    unreachable: &BTreeMap<&str, String>,
) -> Vec<Finding> {
    let count = members.len();
    let healthy: BTreeMap<_, _> = answers
        .iter()
        .filter(|(_, status)| cluster_of(status) == *cluster)
        .map(|(_, status)| (member_of(status), status))
        .collect();
    let (mut missing, mut not_queried) = (Vec::new(), Vec::new());
    for member in members.iter().filter(|member| !healthy.contains_key(&member.id())) {
        let of_it = format!("{} ({})", name(member), urls(member));
        let mut advertised = member.client_urls().iter().map(|url| authority_of(url));
        if member.client_urls().is_empty() {
            missing.push(format!("{of_it}: not started yet"));
        } else if let Some(why) =
            advertised.clone().find_map(|authority| unreachable.get(&*authority))
        {
            missing.push(format!("{of_it}: {why}"));
        } else if advertised.any(|one| answers.iter().any(|(authority, _)| *authority == one)) {
            missing.push(format!("{of_it}: another server answers there"));
        } else {
            not_queried.push(of_it);
        }
    }
    let mut findings = Vec::new();
    if !not_queried.is_empty() {
        let message = format!(
            "{} of {count} members advertise addresses that are not in the URL, and were not queried: {}",
            not_queried.len(),
            not_queried.join("; ")
        );
        let advice = "add them to the URL, unless one of its hosts is a proxy for them";
        findings.push(Finding::warning("members", message, advice));
    }
    if !missing.is_empty() {
        let message =
            format!("{} of {count} members do not answer: {}", missing.len(), missing.join("; "));
        let advice = "start them: without a majority of the members, nothing can be registered";
        findings.push(Finding::warning("members", message, advice));
        return findings;
    }
    let leader = healthy.values().map(|status| status.leader()).find(|leader| *leader != 0);
    let leader = members.iter().find(|member| Some(member.id()) == leader);
    findings.push(match leader {
        Some(leader) if count == 1 => {
            Finding::ok("members", format!("1 member, `{}`: no redundancy", leader.name()))
        }
        Some(leader) => {
            let asked = if not_queried.is_empty() { "all" } else { "all queried ones" };
            let leader = leader.name();
            let message = format!("{count} members, {asked} answer, the leader is `{leader}`");
            Finding::ok("members", message)
        }
        None => {
            let advice = "start enough members for a majority";
            Finding::error("members", format!("{count} members, but no leader"), advice)
        }
    });
    findings
}

/// Returns the host and port of an advertised URL, in the form of our authorities.
fn authority_of(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    rest.trim_end_matches('/').to_ascii_lowercase()
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

fn cluster_of(status: &StatusResponse) -> u64 {
    status.header().map_or(0, etcd_client::ResponseHeader::cluster_id)
}

fn space_finding(status: &StatusResponse) -> Finding {
    let (size, reported) = (status.db_size(), status.db_size_quota());
    let quota = if reported > 0 { reported } else { DEFAULT_QUOTA };
    let assumed = if reported > 0 { "" } else { " (the default quota)" };
    let member = member_of(status);
    let message = format!(
        "the database of member {member:x} uses {} of {} MiB{assumed}",
        size >> 20,
        quota >> 20
    );
    if size > quota / 5 * 4 {
        return Finding::warning("space", message, NO_SPACE);
    }
    Finding::ok("space", message)
}

fn alarm_finding(alarm: &str) -> Finding {
    let advice = match alarm {
        full if full.contains("NOSPACE") => NO_SPACE,
        corrupt if corrupt.contains("CORRUPT") => {
            "its data differs from the other members': remove the member, wipe it, and add it again"
        }
        _ => "see `etcdctl endpoint status` and the member's log",
    };
    Finding::error("alarm", format!("a member reports: {}", alarm.trim()), advice)
}

fn describe(error: EtcdError) -> String {
    Error::from(error).chain().to_string()
}
