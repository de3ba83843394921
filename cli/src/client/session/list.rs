//! `ventus session list`

use clap::Args;
use proto::{region::Region, session::SessionStatus};

use super::{
    super::{Paging, page},
    Api, Request, Result, Said,
    create::label,
    show::{Session, table_of},
};

/// Which sessions are wanted.
#[derive(Debug, Default, Args)]
pub struct Wanted {
    /// Only these states; may be given several times
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Vec<SessionStatus>,
    /// Only this region
    #[arg(long, value_name = "NAME")]
    region: Option<Region>,
    /// Only those with this label; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Only younger ones (RFC 3339, for instance 2026-11-22T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    created_after: Option<String>,
    /// Only older ones
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

impl Wanted {
    /// Lists them.
    pub async fn list(self, api: &Api) -> Result<Said> {
        let request = self.request();
        let listed = page::<Session, _>(&self.paging, request, |request| api.send(request)).await?;
        Ok(listed.said("sessions", |sessions| table_of(&sessions)))
    }

    fn request(&self) -> Request {
        let mut request = Request::get("/v1/sessions");
        for status in &self.status {
            request = request.query("status", status.as_str());
        }
        if let Some(region) = &self.region {
            request = request.query("region", region.as_str());
        }
        for (key, value) in &self.label {
            request = request.query(format!("label.{key}"), value);
        }
        let times =
            [("created_after", &self.created_after), ("created_before", &self.created_before)];
        for (name, time) in times {
            if let Some(time) = time {
                request = request.query(name, time);
            }
        }
        request
    }
}

/// Reads a state, in capitals or not.
fn status(text: &str) -> Result<SessionStatus, String> {
    text.to_uppercase().parse().map_err(|_| {
        "not one of queued, provisioning, running, completed, expired, errored".to_owned()
    })
}
