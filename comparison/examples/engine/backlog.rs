//! What a subscriber that never reads costs: so much and no more.

use crate::fixture::{ServiceFixture, one_thread};
use crate::heap::Heap;
use anyhow::{Result, ensure};
use comparison::figures::{Figure, Report};
use comparison::meter::as_f64;
use futures_util::{FutureExt, StreamExt};
use tokio::task::yield_now;

/// How many batches a view holds for subscribers that do not read.
const BACKLOG: u64 = 1024;

/// Makes changes that one subscriber does not read, and looks whether memory grows without end.
pub(crate) fn bounded(report: &mut Report) -> Result<()> {
    let grown = one_thread()?.block_on(async {
        let mut fixture = ServiceFixture::new(10).await?;
        for _ in 0..BACKLOG {
            fixture.change().await?; // no subscriber yet: nothing is held
            yield_now().await;
        }
        let mut stuck = fixture.view.updates();
        ensure!(stuck.next().now_or_never().is_some(), "it begins with the state");
        let heap = Heap::now();
        let mut grown = Vec::new();
        for _ in 0..4 {
            for _ in 0..BACKLOG {
                fixture.change().await?;
                yield_now().await;
            }
            grown.push(heap.grown());
        }
        anyhow::Ok(grown)
    })?;
    let each = grown[0] / as_f64(BACKLOG);
    report.add(Figure::counted("stuck: held for each of 1,024 unread changes", each, "B"));
    let more = (grown[3] - grown[1]) / as_f64(2 * BACKLOG);
    report.add(Figure::counted("stuck: held for each change after that", more, "B").at_most(1.0));
    Ok(())
}
