//! `ventus session events`

use std::time::Duration;

use proto::id::SessionId;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::{
    super::{said::plain, table, when},
    Api, Request, Result, Said, path,
    show::Reason,
};
use crate::style::say;

/// How often to look for new ones.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Events {
    items: Vec<Box<RawValue>>,
}

/// One transition.
#[derive(Deserialize)]
struct Event {
    status: String,
    at: String,
    reason: Option<Reason>,
}

impl Event {
    fn is_last(&self) -> bool {
        matches!(self.status.as_str(), "COMPLETED" | "EXPIRED" | "ERRORED")
    }

    fn row(&self) -> [String; 3] {
        let reason = self.reason.as_ref().map(|reason| reason.message.clone());
        [when(&self.at), self.status.clone(), reason.unwrap_or_default()]
    }
}

/// All until now.
pub async fn once(api: &Api, id: SessionId) -> Result<Said> {
    let answer = api.send(Request::get(path(id, "/events"))).await?;
    let events: Events = answer.read()?;
    let events = events.items.iter().map(|item| read(item)).collect::<Result<Vec<_>>>()?;
    let table = table(["TIME", "STATUS", "REASON"], events.iter().map(Event::row));
    Ok(Said::new(answer, table))
}

/// All until the session is over, each as it comes: a line for people, or the API's object.
pub async fn follow(api: &Api, id: SessionId, json: bool) -> Result<Said> {
    let mut seen = 0;
    loop {
        let events: Events = api.send(Request::get(path(id, "/events"))).await?.read()?;
        for item in events.items.iter().skip(seen) {
            let event = read(item)?;
            say(&if json { item.get().to_owned() } else { line(&event) });
            if event.is_last() {
                return Ok(Said::default());
            }
        }
        seen = events.items.len();
        sleep(LOOK).await;
    }
}

fn line(event: &Event) -> String {
    let [time, status, reason] = event.row();
    plain(&format!("{time}  {status:<12}  {reason}")).trim_end().to_owned()
}

fn read(item: &RawValue) -> Result<Event> {
    let event = serde_json::from_str(item.get());
    Ok(event.map_err(|error| anyhow::anyhow!("the server's events cannot be read: {error}"))?)
}
