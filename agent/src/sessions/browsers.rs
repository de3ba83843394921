//! Real browsers, out of the warm pool, as sessions see them.

use std::{process::ExitStatus, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use proto::trace::TARGET;
use tracing::{Instrument, info_span};

use super::{Lent, Source};
use crate::{
    browser::{Browser, LaunchOptions, Pool},
    cdp::Mux,
    files::Trays,
    gateway::{Account, Way},
    limits::Excess,
};

impl Source for Pool {
    fn take<'a>(
        &'a self,
        options: &'a LaunchOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Lent>, String>> {
        async move {
            let span = info_span!(target: TARGET, "browser.take", ventus.browser.warm = false);
            match Pool::take(self, options).instrument(span).await {
                Ok(browser) => Ok(Box::new(browser) as Box<dyn Lent>),
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }
}

impl Lent for Browser {
    fn mux(&self) -> Arc<Mux> {
        self.mux.clone()
    }

    fn lend(&self, way: Way) -> Account {
        Browser::lend(self, way)
    }

    fn trays(&self) -> Arc<Trays> {
        Browser::trays(self)
    }

    fn exited(&mut self) -> BoxFuture<'_, ExitStatus> {
        Browser::exited(self).boxed()
    }

    fn exceeded(&self) -> BoxFuture<'static, Excess> {
        Browser::exceeded(self)
    }

    fn cause_of_end(&self) -> Option<Excess> {
        Browser::cause_of_end(self)
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Browser::close(*self).boxed()
    }
}
