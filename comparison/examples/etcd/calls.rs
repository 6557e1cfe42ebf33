//! One call at a time: the registry beside the raw client, which makes the same requests.

use crate::cost::Cost;
use crate::relay::Relay;
use crate::server::{self, Server};
use crate::twin::{Twin, WithRecordCheck};
use anyhow::{Result, ensure};
use comparison::arms::Arm;
use comparison::arms::ours::Ours;
use comparison::calls;
use comparison::figures::{Figure, Report};
use comparison::sections::one_thread;
use comparison::workloads::Workload;

/// Those whose names begin with `only`.
pub(crate) fn report(quick: bool, only: &str) -> Result<Report> {
    one_thread()?.block_on(async {
        let server = Server::start().await?;
        let mut report = Report::default();
        let calls = Calls { server: &server, quick, only };
        let alone = async |at| twin(at, false).await;
        let called = [("register", Workload::Register), ("keep_alive", Workload::KeepAlive)];
        for (name, workload) in called {
            Box::pin(calls.compare(&mut report, name, workload, ours, alone)).await?;
        }
        let (name, workload) = ("keep_alive with a check of the record", Workload::KeepAlive);
        let checked = async |at: String| {
            anyhow::Ok(WithRecordCheck { registrant: ours(at.clone()).await?, ours: ours(at).await? })
        };
        let checks_record = async |at| twin(at, true).await;
        Box::pin(calls.compare(&mut report, name, workload, checked, checks_record)).await?;
        let called = [("load of 100", Workload::Load(100)), ("register to watch", Workload::RegisterToWatch)];
        for (name, workload) in called {
            Box::pin(calls.compare(&mut report, name, workload, ours, alone)).await?;
        }
        ensure!(!report.is_empty(), "no call begins with `{only}`: leave out --only to see them all");
        report.note(&server.description);
        report.note("p50, in turns at every call, each round over new connections; raw makes the same requests, without deadlines, checks of its answers, or other members");
        report.note("round trips: over a link that takes 25 ms each way; bytes: both ways, by a relay that counts; requests: by the server");
        Ok(report)
    })
}

async fn ours(address: String) -> Result<Ours> {
    Ok(Ours::new(server::registry(&address).await?))
}

async fn twin(address: String, checks_record: bool) -> Result<Twin> {
    Twin::connect(&address, checks_record).await
}

struct Calls<'a> {
    server: &'a Server,
    quick: bool,
    only: &'a str,
}

impl Calls<'_> {
    /// Compares a call of the arms that `ours` and `raw` return for an address.
    async fn compare<O: Arm, R: Arm>(
        &self,
        report: &mut Report,
        name: &str,
        workload: Workload,
        ours: impl AsyncFn(String) -> Result<O>,
        raw: impl AsyncFn(String) -> Result<R>,
    ) -> Result<()> {
        if !name.starts_with(self.only) {
            return Ok(());
        }
        let at = || self.server.address.clone();
        let (ours_anew, raw_anew) = (async || ours(at()).await, async || raw(at()).await);
        let figures =
            calls::compare(workload, calls::plan(self.quick), &ours_anew, &raw_anew).await?;
        calls::add_times(report, name, &figures, 1.05, 1.01);
        let relays =
            [Relay::start(&self.server.address).await?, Relay::start(&self.server.address).await?];
        let ours = ours(relays[0].address.clone()).await?;
        let raw = raw(relays[1].address.clone()).await?;
        let many = if self.quick { 20 } else { 500 };
        let ours = Cost::of(&ours, workload, many, &relays[0], self.server).await?;
        let raw = Cost::of(&raw, workload, many, &relays[1], self.server).await?;
        add_cost(report, name, &ours, &raw);
        Ok(())
    }
}

fn add_cost(report: &mut Report, name: &str, ours: &Cost, raw: &Cost) {
    let name = |what: &str, raw: f64| format!("{name}: {what} (raw {raw:.1})");
    let same =
        |what: &str, ours: f64, raw: f64| Figure::counted(name(what, raw), ours, "").exactly(raw);
    report.add(same("round trips", ours.round_trips, raw.round_trips));
    report.add(same("requests", ours.requests, raw.requests));
    // Lease ids are drawn, and as varints differ in length.
    let bytes = Figure::counted(name("bytes", raw.bytes), ours.bytes, "");
    report.add(bytes.at_most(raw.bytes * 1.02));
}
