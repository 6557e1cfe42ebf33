//! A door: an address at which connections arrive that are led on to somewhere else.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Who knows the way on from a door.
pub(super) trait Guide: Clone + Send + 'static {
    /// Connects who came `from` there to where they want to be.
    fn connect(
        &self,
        comer: &mut TcpStream,
        from: SocketAddr,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

/// Leads on whoever comes, for ever.
pub(super) async fn keep(door: TcpListener, guide: impl Guide) {
    /// How long to wait when the system gives no connection.
    const BREATH: Duration = Duration::from_millis(10);
    let mut led = JoinSet::new();
    loop {
        match door.accept().await {
            Ok((comer, from)) => {
                let guide = guide.clone();
                // Whatever goes wrong is an end of both connections, which both sides see.
                led.spawn(async move { lead(comer, from, guide).await.ok() });
            }
            Err(_) => sleep(BREATH).await,
        }
        while led.try_join_next().is_some() {}
    }
}

async fn lead(mut comer: TcpStream, from: SocketAddr, guide: impl Guide) -> io::Result<()> {
    let mut way = guide.connect(&mut comer, from).await?;
    comer.set_nodelay(true)?;
    way.set_nodelay(true)?;
    copy_bidirectional(&mut comer, &mut way).await.map(drop)
}
