//! What a browser sends, read for [`crate::strangers`].

use tokio::io::{AsyncRead, AsyncWrite};

use super::{near::Opening, socks};

/// Reads what a browser wants of a proxy: a place that can be connected to, or nothing.
pub(crate) async fn target<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    if let Ok(target) = socks::request(stream).await {
        assert_ne!(target.port, 0);
        assert!(!target.to_string().contains(char::is_control), "{target}");
    }
}

/// The first words on a connection: what is once told of them stays so.
pub(crate) fn opening(bytes: &[u8]) {
    let whole = Opening::of(bytes);
    if let Some(half) = Opening::of(&bytes[..bytes.len() / 2]) {
        assert_eq!(Some(half), whole);
    }
}
