//! Counts requests, by routes as the OpenAPI document writes them: never by a path that a caller
//! chose.

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::Method;
use tokio::time::Instant;

use super::{Answer, Question};
use crate::app::App;

/// What stands for every path that is none of ours.
const NO_ROUTE: &str = "none";
/// The status of an answer that nobody waited for, as other servers write it too.
const CLIENT_LEFT: u16 = 499;

/// The layer.
pub async fn measured(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut asked = Asked {
        app,
        method: name_of(request.method()),
        route,
        began: Instant::now(),
        counted: false,
    };
    let response = next.run(request).await;
    asked.answered(response.status().as_u16());
    response
}

/// A request that has no answer yet. Counted when it has one, or is dropped without.
struct Asked {
    app: App,
    method: &'static str,
    route: Option<MatchedPath>,
    began: Instant,
    counted: bool,
}

impl Asked {
    fn answered(&mut self, status: u16) {
        self.counted = true;
        let route = self.route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
        let question = Question { method: self.method, route };
        let metrics = &self.app.metrics;
        let took = self.began.elapsed().as_secs_f64();
        metrics.request_spans.get_or_create(&question).observe(took);
        metrics.requests.get_or_create(&Answer { question, status }).inc();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.counted {
            self.answered(if std::thread::panicking() { 500 } else { CLIENT_LEFT });
        }
    }
}

/// A method that callers made up is not told.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "other",
    }
}
