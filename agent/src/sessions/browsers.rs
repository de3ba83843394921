//! Real browsers, out of the warm pool, as sessions see them.

use std::{process::ExitStatus, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};

use super::{Lent, Source};
use crate::{
    browser::{Browser, LaunchOptions, Pool},
    cdp::Mux,
    files::Trays,
    gateway::{Account, Way},
};

impl Source for Pool {
    fn take<'a>(
        &'a self,
        options: &'a LaunchOptions,
    ) -> BoxFuture<'a, Result<Box<dyn Lent>, String>> {
        async move {
            match Pool::take(self, options).await {
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

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Browser::close(*self).boxed()
    }
}
