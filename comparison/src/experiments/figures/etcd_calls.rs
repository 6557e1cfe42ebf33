//! One call at a time on etcd: the registry beside the raw client, which makes the same requests.

use crate::arms::{EtcdTwin, Ours};
use crate::harness::{
    EtcdServer, Figure, Figures, WireCost, compare_anew, etcd_server, plan, prepare,
};
use crate::workloads::{Contender, Workload};
use anyhow::Result;
use registry_testbed::proxy::Proxy;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let server = EtcdServer::start().await?;
    let mut figures = Figures::default();
    let workloads = [
        ("register", Workload::Register),
        ("update", Workload::Update),
        ("keep_alive", Workload::KeepAlive),
        ("load of 100", Workload::Load(100)),
        ("register to watch", Workload::RegisterToWatch),
    ];
    for (name, workload) in workloads {
        let ours = async |at: &str| anyhow::Ok(Ours::new(etcd_server::registry(at).await?));
        let raw = async |at: &str| EtcdTwin::connect(at).await;
        let at = &server.address;
        let runners = async || {
            let (ours, raw, again) = (ours(at).await?, raw(at).await?, raw(at).await?);
            prepare([&ours, &raw, &again], workload).await
        };
        let compared = compare_anew(plan(quick), runners).await?;
        let is_update = workload == Workload::Update;
        let limit = if is_update { 1.10 } else { 1.05 };
        let target = |figure: Figure| figure.at_most(limit).aim(1.01);
        figures.add_comparison([name, "ours", "raw"], &compared, ("us", 1e6), target);
        if is_update {
            continue; // raw makes fewer requests
        }
        let proxies = [Proxy::start(at.parse()?).await?, Proxy::start(at.parse()?).await?];
        let [ours_at, raw_at] = proxies.each_ref().map(|proxy| proxy.address().to_string());
        let arms: [Box<dyn Contender>; 2] =
            [Box::new(ours(&ours_at).await?), Box::new(raw(&raw_at).await?)];
        let many = if quick { 20 } else { 500 };
        // Each call of the other workload also loads, and deregisters, which the registry does in more steps.
        let with_bytes = workload != Workload::RegisterToWatch;
        let counted =
            if workload == Workload::Register { Workload::RegisterMore } else { workload };
        let ours = WireCost::of(&*arms[0], counted, many, (&proxies[0], &server)).await?;
        let raw = WireCost::of(&*arms[1], counted, many, (&proxies[1], &server)).await?;
        ours.add(&mut figures, name, &raw, with_bytes);
    }
    figures.note(&server.description);
    figures.note("p50, in turns at every call, each round over new connections; raw makes the same requests, without deadlines, checks of its answers, or other members");
    figures.note("update: raw is a put, beside a transaction and a renewal at once");
    figures.note("round trips: over a link that takes 25 ms each way; bytes: both ways, as a proxy counts them; requests: by the server");
    Ok(figures)
}
