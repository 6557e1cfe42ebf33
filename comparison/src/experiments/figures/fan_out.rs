//! The time and memory to broadcast one change to 10,000 subscribers.

use crate::harness::{
    CountdownLatch, Figure, Figures, Heap, ServiceFixture, as_f64, in_turns, one_thread,
    two_threads,
};
use crate::workloads::fan_out::subscribe;
use crate::workloads::{FanOut, Subscription};
use anyhow::{Result, ensure};
use futures_util::{FutureExt, StreamExt};
use registry_core::Record;
use std::sync::Arc;

const MANY: usize = 10_000;
const MAX_BYTES: f64 = 1023.0; // per subscriber: less than 1 KiB

pub(super) fn figures(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let rounds = if quick { 11 } else { 101 };
    let runtimes = [("a change, 1 thread", one_thread()?), ("a change, 2 threads", two_threads()?)];
    for (label, runtime) in runtimes {
        runtime.block_on(compare(&mut figures, label, rounds))?;
    }
    one_thread()?.block_on(async {
        if Heap::IS_COUNTED {
            allocations(&mut figures).await?;
            footprint(&mut figures).await?;
        } else {
            figures.note("bytes are counted with `--features heap`");
        }
        anyhow::Ok(())
    })?;
    figures.note(
        "from before `register` (mpsc: the first send) until the last subscriber has the change",
    );
    figures.note("mpsc: a tokio mpsc channel for each task, with an `Arc` per message");
    Ok(figures)
}

/// Measures the time from a change until the last subscriber has it. The arms alternate.
async fn compare(figures: &mut Figures, label: &str, rounds: usize) -> Result<()> {
    let arms = [Subscription::Mpsc, Subscription::Updates, Subscription::Changed];
    let mut fan_outs = Vec::new();
    for arm in arms {
        fan_outs.push(FanOut::new(arm, 100, MANY).await?);
    }
    let samples = in_turns(rounds, async |arm: usize| {
        Ok(fan_outs[arm % arms.len()].change().await?.as_secs_f64() * 1e3)
    })
    .await?;
    let [mpsc, updates, changed] = arms.map(Subscription::name);
    figures.add_turns(label, [mpsc, updates, changed, mpsc], &samples, "ms", |x| x.at_most(1.3));
    Ok(())
}

/// Counts the bytes that a change allocates. All subscribers share one new snapshot.
async fn allocations(figures: &mut Figures) -> Result<()> {
    for subscription in [Subscription::Updates, Subscription::Changed] {
        let cost = async |instances, subscribers| {
            let mut fan_out = FanOut::new(subscription, instances, subscribers).await?;
            let mut least = f64::INFINITY; // the least of 40, because a queue may grow at some changes
            for _ in 0..40 {
                let heap = Heap::now();
                fan_out.change().await?;
                least = least.min(as_f64(heap.allocated()));
            }
            anyhow::Ok(least)
        };
        let few = cost(100, 100).await?;
        let (many, larger) = (cost(100, MANY).await?, cost(1_100, MANY).await?);
        let name = |figure: &str| format!("{}: a change, {figure}", subscription.name());
        figures.add(Figure::counted(name("in total with 100 instances"), many, "B"));
        let (per_instance, record) = ((larger - many) / 1_000.0, as_f64(size_of::<Record>()));
        figures.add(Figure::counted(name("per instance"), per_instance, "B").exactly(record));
        let per_subscriber = (many - few) / as_f64(MANY as u64 - 100);
        figures.add(Figure::counted(name("per subscriber"), per_subscriber, "B").exactly(0.0));
    }
    Ok(())
}

/// Counts the bytes that a subscriber holds.
async fn footprint(figures: &mut Figures) -> Result<()> {
    let per_subscriber = |grown: f64| grown / as_f64(MANY);
    let fixture = ServiceFixture::new(100).await?;
    let mut streams = Vec::with_capacity(MANY);
    let heap = Heap::now();
    for _ in 0..MANY {
        let mut updates = fixture.view.updates();
        ensure!(updates.next().now_or_never().is_some(), "the first update is missing");
        ensure!(updates.next().now_or_never().is_none(), "an update came without a change");
        streams.push(updates);
    }
    let size = as_f64(size_of_val(&streams[0]) as u64);
    let figure = Figure::counted("updates(): subscriber", per_subscriber(heap.grown()) + size, "B");
    figures.add(figure.at_most(MAX_BYTES));
    for subscription in [Subscription::Updates, Subscription::Changed] {
        let fixture = ServiceFixture::new(100).await?;
        let latch = Arc::new(CountdownLatch::default());
        let heap = Heap::now();
        let _tasks = subscribe(&fixture.view, subscription, MANY, &latch).await?;
        let figure = format!("{}: subscriber and task", subscription.name());
        figures.add(Figure::counted(figure, per_subscriber(heap.grown()), "B").at_most(MAX_BYTES));
    }
    Ok(())
}
