//! Completes the OpenAPI document with what no handler has to say of itself, because it
//! follows from what the operations and schemas are called and how they fail:
//!
//! - [`fields`]: the form of ids, times, cursors and labels, and that answers hold every field;
//! - [`examples`]: an example of each body, put together of the examples of its fields;
//! - [`answers`]: the headers of answers, and each kind of refusal once;
//! - [`links`]: from the operation that makes a thing to those on it.
//!
//! A new route is covered as soon as it is in `api.rs`; the tests here fail when one is not.

mod answers;
#[cfg(test)]
mod changes;
mod examples;
mod fields;
mod links;
#[cfg(test)]
mod tests;

pub use fields::{LABEL_KEY, NO_NUL};
use utoipa::openapi::{OpenApi, Paths, path::Operation};

/// Completes a document that has all operations.
pub fn complete(document: &mut OpenApi) {
    fields::describe(document);
    examples::add(document);
    answers::complete(document);
    links::add(document);
}

/// Every operation with its path.
fn operations(paths: &mut Paths) -> impl Iterator<Item = (&String, &mut Operation)> {
    paths.paths.iter_mut().flat_map(|(path, item)| {
        [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
            .into_iter()
            .flatten()
            .map(move |operation| (path, operation))
    })
}
