//! A page that nobody sees, before a browser is lent.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::timeout;

use crate::cdp::{CommandError, Mux};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// With text in it, so that fonts are there. It comes from nowhere and leaves nothing.
const PAGE: &str = "data:text/html,<p>.";

/// Opens a page and closes it again: what Chrome loads for its first document it has then, and a
/// client's first page opens sooner.
///
/// # Errors
///
/// When the browser is gone, or takes too long.
pub(super) async fn rehearse(mux: &Arc<Mux>) -> Result<(), CommandError> {
    let rehearsal = async {
        let mut page = mux.open_page().await?;
        let (commands, mut events) = page.ends();
        commands.command("Page.enable", json!({}), LIMIT).await?;
        commands.command("Page.navigate", json!({ "url": PAGE }), LIMIT).await?;
        while events.next().await?["method"] != "Page.loadEventFired" {}
        Ok(())
    };
    timeout(LIMIT, rehearsal).await.unwrap_or(Err(CommandError::TimedOut))
}
