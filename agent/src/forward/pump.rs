//! Bytes both ways between a client and the agent that has its browser.

use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split},
    pin,
    time::timeout,
};

/// How long one direction may go on when the other has ended: a WebSocket's closing takes a
/// moment, and a peer that is dead must not hold the connection.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Passes on what comes, ends included, until both sides are done.
pub(super) async fn between(client: Upgraded, owner: Upgraded) {
    let (from_client, to_client) = split(TokioIo::new(client));
    let (from_owner, to_owner) = split(TokioIo::new(owner));
    let (there, back) = (one_way(from_client, to_owner), one_way(from_owner, to_client));
    pin!(there, back);
    let _ = tokio::select! {
        () = &mut there => timeout(AFTERWARDS, back).await,
        () = &mut back => timeout(AFTERWARDS, there).await,
    };
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // It holds a few kilobytes, and flushes before it waits: TLS keeps back what it is not told
    // to send. Whichever side broke: the other hears of it by the end that follows.
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
