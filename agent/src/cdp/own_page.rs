//! A page of the agent's own in a browser's default context, for what can only be done inside
//! one. Clients do not notice it: see [`hidden`](super::hidden).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{
    mux::Mux,
    own::{CommandError, Pending},
    routes::Key,
};

/// A page of the agent's own. Dropped, it is closed.
pub(crate) struct OwnPage {
    made: Made,
    session: Key,
    events: mpsc::UnboundedReceiver<Bytes>,
}

/// A page that Chrome has made, until this is dropped.
struct Made {
    mux: Arc<Mux>,
    target: String,
}

impl Drop for Made {
    fn drop(&mut self) {
        self.mux.close_target(&self.target);
    }
}

impl Mux {
    /// Opens a page of the agent's own: one at a time, others wait until it is gone.
    ///
    /// # Errors
    ///
    /// When Chrome refuses it, or is gone.
    pub(crate) async fn open_page(self: &Arc<Self>) -> Result<OwnPage, CommandError> {
        let permit = self.own.page.clone().acquire_owned().await;
        let permit = permit.map_err(|_| CommandError::Closed)?;
        let (sender, answer) = oneshot::channel();
        // Its answer says that Chrome has done all that was asked before.
        self.post(None, "Browser.getVersion", &json!({}), Pending::Hold);
        // Not in a window's tabs, where it would have a place and perhaps the focus.
        let params = json!({ "url": "about:blank", "hidden": true, "background": true });
        self.post(None, "Target.createTarget", &params, Pending::Page(permit, sender));
        // Without a limit: nothing but the answer ends the holding of messages.
        let answer = answer.await.unwrap_or(Err(CommandError::Closed))?;
        let target = answer["targetId"].as_str().unwrap_or_default().to_owned();
        let made = Made { mux: self.clone(), target };
        let params = json!({ "targetId": made.target, "flatten": true });
        let attached = self.command("Target.attachToTarget", params).await?;
        let session = attached["sessionId"].as_str().unwrap_or_default();
        let session = Key::read(session.as_bytes()).ok_or(CommandError::Closed)?;
        let (sender, events) = mpsc::unbounded_channel();
        self.routes().hidden.attached(session, sender);
        Ok(OwnPage { made, session, events })
    }
}

impl OwnPage {
    /// Its two ends: commands go while events are read.
    pub fn ends(&mut self) -> (Commands<'_>, Events<'_>) {
        let commands = Commands { mux: &self.made.mux, session: self.session };
        (commands, Events(&mut self.events))
    }
}

/// The end that takes commands.
#[derive(Clone, Copy)]
pub(crate) struct Commands<'a> {
    mux: &'a Mux,
    session: Key,
}

/// The end that events come out of.
pub(crate) struct Events<'a>(&'a mut mpsc::UnboundedReceiver<Bytes>);

impl Commands<'_> {
    /// Carries out a command on the page.
    pub async fn command(
        &self,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Value, CommandError> {
        let (sender, answer) = oneshot::channel();
        let session = Some(self.session);
        self.mux.ask(session, method, &params, limit, Pending::Answer(sender), answer).await
    }
}

impl Events<'_> {
    /// The next event.
    ///
    /// # Errors
    ///
    /// When the page is gone.
    pub async fn next(&mut self) -> Result<Value, CommandError> {
        let event = self.0.recv().await.ok_or(CommandError::Closed)?;
        serde_json::from_slice(&event).map_err(|_| CommandError::Closed)
    }
}
