//! One call at a time: the registry beside the raw client, which makes the same requests.

use crate::cost::Cost;
use crate::one_thread;
use crate::relay::Relay;
use crate::server::{self, Server};
use crate::twin::{Looking, Twin};
use anyhow::{Result, ensure};
use comparison::arms::Arm;
use comparison::arms::ours::Ours;
use comparison::figures::{Figure, Report};
use comparison::paired::{self, Comparison, Plan, Round};
use comparison::work::{Lane, Work};
use std::time::Duration;

/// Those whose names begin with `only`.
pub(crate) fn report(quick: bool, only: &str) -> Result<Report> {
    let plan = if quick {
        Plan { rounds: 3, round: Duration::from_millis(100), turns: 3, batch: 1 }
    } else {
        Plan { rounds: 21, round: Duration::from_secs(1), turns: 3, batch: 1 }
    };
    one_thread()?.block_on(async {
        let server = Server::start().await?;
        let mut report = Report::default();
        let calls = Calls { server: &server, plan, quick, only };
        let alone = async |at| twin(at, false).await;
        let called = [("register", Work::Register), ("keep_alive", Work::KeepAlive)];
        for (name, work) in called {
            Box::pin(calls.compare(&mut report, name, work, ours, alone)).await?;
        }
        let (name, work) = ("keep_alive that looks", Work::KeepAlive);
        let looking = async |at: String| {
            anyhow::Ok(Looking { elsewhere: ours(at.clone()).await?, ours: ours(at).await? })
        };
        let looks = async |at| twin(at, true).await;
        Box::pin(calls.compare(&mut report, name, work, looking, looks)).await?;
        let called = [("load of 100", Work::Load(100)), ("register to watch", Work::RegisterToWatch)];
        for (name, work) in called {
            Box::pin(calls.compare(&mut report, name, work, ours, alone)).await?;
        }
        ensure!(!report.is_empty(), "no call begins with `{only}`: leave out --only to see them all");
        report.note(&server.told);
        report.note("p50, in turns at every call, each round over new connections; raw makes the same requests, without deadlines, checks of its answers, or other members");
        report.note("round trips: over a link that takes 25 ms each way; bytes: both ways, by a relay that counts; requests: by the server");
        Ok(report)
    })
}

async fn ours(address: String) -> Result<Ours> {
    Ok(Ours::new(server::registry(&address).await?))
}

async fn twin(address: String, looks: bool) -> Result<Twin> {
    Twin::connect(&address, looks).await
}

struct Calls<'a> {
    server: &'a Server,
    plan: Plan,
    quick: bool,
    only: &'a str,
}

impl Calls<'_> {
    /// Compares a call, by whoever `ours` and `raw` give for an address.
    async fn compare<O: Arm, R: Arm>(
        &self,
        report: &mut Report,
        name: &str,
        work: Work,
        ours: impl AsyncFn(String) -> Result<O>,
        raw: impl AsyncFn(String) -> Result<R>,
    ) -> Result<()> {
        if !name.starts_with(self.only) {
            return Ok(());
        }
        let mut rounds = Vec::with_capacity(self.plan.rounds);
        for _ in 0..self.plan.rounds {
            rounds.push(self.round(work, &ours, &raw).await?);
        }
        let figures = Comparison::new(&rounds);
        add_times(report, name, &figures);
        if !figures.is_sound() {
            report.note(format!("{name}: void, A/A left 0.98..1.02"));
        }
        let relays =
            [Relay::start(&self.server.address).await?, Relay::start(&self.server.address).await?];
        let ours = ours(relays[0].address.clone()).await?;
        let raw = raw(relays[1].address.clone()).await?;
        let calls = if self.quick { 20 } else { 500 };
        let ours = Cost::of(&ours, work, calls, &relays[0], self.server).await?;
        let raw = Cost::of(&raw, work, calls, &relays[1], self.server).await?;
        add_cost(report, name, &ours, &raw);
        Ok(())
    }

    /// A round over new connections: one differs from another by some percent, for as long as it lasts.
    async fn round<O: Arm, R: Arm>(
        &self,
        work: Work,
        ours: &impl AsyncFn(String) -> Result<O>,
        raw: &impl AsyncFn(String) -> Result<R>,
    ) -> Result<Round> {
        let at = || self.server.address.clone();
        let (ours, raw, again) = (ours(at()).await?, raw(at()).await?, raw(at()).await?);
        let mut ours = Lane::prepare("ours", &ours, work).await?;
        let mut raw = Lane::prepare("raw", &raw, work).await?;
        let mut again = Lane::prepare("raw, again", &again, work).await?;
        let warm_up = Plan { round: self.plan.round / 3, ..self.plan };
        paired::round(&mut ours, &mut raw, &mut again, warm_up).await?;
        let round = paired::round(&mut ours, &mut raw, &mut again, self.plan).await?;
        for lane in [ours, raw, again] {
            lane.finish().await?;
        }
        Ok(round)
    }
}

fn add_times(report: &mut Report, name: &str, figures: &Comparison) {
    let Comparison { first, second, ratio, floor } = *figures;
    report.add(Figure::timed(format!("{name}: ours"), first * 1e6, "us"));
    report.add(Figure::timed(format!("{name}: raw"), second * 1e6, "us"));
    report.add(Figure::spread(format!("{name}: ours / raw"), ratio, "x").at_most(1.05));
    report.add(Figure::spread(format!("{name}: A/A: raw / raw"), floor, "x"));
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
