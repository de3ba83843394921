//! Pages of lists: what a query says of `limit`, `cursor` and a list's own filters, and where
//! the next page begins.

use std::{collections::HashSet, fmt::Display, str::FromStr};

use proto::{
    id::WorkspaceId,
    problem::{FieldError, Problem},
};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{cursor, error::fault, request::Query, secrets::Secrets};

/// How many items a page may have.
const LIMITS: std::ops::RangeInclusive<i64> = 1..=100;
const DEFAULT_LIMIT: i64 = 50;

/// What [`Filters::take`] says of a parameter that the list does not have.
pub const UNKNOWN: &str = "unknown parameter";

/// Which items of a list are wanted.
pub trait Filters: Default + Serialize {
    /// Tells the list's cursors from those of other lists.
    const LIST: &'static str;
    /// Parameters that may be there more than once.
    const REPEATED: &'static [&'static str] = &[];

    /// Takes one parameter, or says what is wrong with it.
    fn take(&mut self, name: &str, value: String) -> Result<(), &'static str>;

    /// Once all are taken: what means the same is to look the same.
    fn settle(&mut self) {}
}

/// For lists without filters, named by their cursors' key.
macro_rules! unfiltered {
    ($name:ident, $list:literal) => {
        #[derive(Debug, Default, serde::Serialize)]
        struct $name {}

        impl $crate::paging::Filters for $name {
            const LIST: &'static str = $list;

            fn take(&mut self, _: &str, _: String) -> Result<(), &'static str> {
                Err($crate::paging::UNKNOWN)
            }
        }
    };
}
pub(crate) use unfiltered;

/// One page, as a query asks for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted<F> {
    limit: i64,
    cursor: Option<String>,
    /// Which items.
    pub filters: F,
}

impl<F: Filters> Wanted<F> {
    /// Reads a query, and finds all that is wrong with it at once.
    pub fn read(query: Query) -> Result<Self, Problem> {
        let mut wanted = Self { limit: DEFAULT_LIMIT, cursor: None, filters: F::default() };
        let mut faults = Vec::new();
        let mut seen = HashSet::new();
        for (name, value) in query.0 {
            let again = !seen.insert(name.clone()) && !F::REPEATED.contains(&name.as_str());
            let taken = match name.as_str() {
                _ if again => Err("is there more than once"),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| LIMITS.contains(limit));
                    limit
                        .map(|limit| wanted.limit = limit)
                        .ok_or("must be an integer from 1 to 100")
                }
                "cursor" => {
                    wanted.cursor = Some(value);
                    Ok(())
                }
                _ => wanted.filters.take(&name, value),
            };
            faults.extend(taken.err().map(|wrong| fault(format!("?{name}"), wrong)));
        }
        wanted.filters.settle();
        if faults.is_empty() { Ok(wanted) } else { Err(refusal(faults)) }
    }

    /// The item behind which the page begins; `None`: the first page.
    pub fn after<I: FromStr>(
        &self,
        secrets: &Secrets,
        workspace: WorkspaceId,
    ) -> Result<Option<I>, Problem> {
        let Some(given) = &self.cursor else { return Ok(None) };
        let after = cursor::decode(secrets, workspace, &self.canonical(), given);
        let wrong = "is not one of ours, or belongs to another list or other filters";
        after.map(Some).ok_or_else(|| refusal(vec![fault("?cursor", wrong)]))
    }

    /// How many rows to read: one more than wanted tells whether there is a next page.
    pub fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// Leaves the page's own of the rows that were read. Answers the cursor of the next page,
    /// if there is one.
    pub fn cut<R, I: Display>(
        &self,
        rows: &mut Vec<R>,
        secrets: &Secrets,
        workspace: WorkspaceId,
        id: impl Fn(&R) -> I,
    ) -> Option<String> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| has_more)?;
        Some(cursor::encode(secrets, workspace, &self.canonical(), id(last)))
    }

    /// One text for each list and set of filters, to bind a cursor to.
    fn canonical(&self) -> String {
        let filters = serde_json::to_string(&self.filters).unwrap_or_default();
        format!("{} {filters}", F::LIST)
    }
}

/// What all ids of a page are less than: the one that its cursor names, and on the first page
/// something greater than any. So a page far down costs no more than the first: an index finds
/// where it begins.
pub fn below(after: Option<impl Display>) -> String {
    after.map_or_else(|| "~".to_owned(), |id| id.to_string())
}

/// Reads a filter by time: RFC 3339, into Unix microseconds.
pub fn time(text: &str) -> Result<i64, &'static str> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "must be an RFC 3339 time")?;
    i64::try_from(time.unix_timestamp_nanos() / 1000).map_err(|_| "is out of range")
}

fn refusal(errors: Vec<FieldError>) -> Problem {
    let all: Vec<_> =
        errors.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect();
    Problem::malformed(all.join("; ")).with_errors(errors)
}

/// A query as pairs, for the tests of lists.
#[cfg(test)]
pub(crate) fn read<F: Filters>(pairs: &[(&str, &str)]) -> Result<Wanted<F>, Problem> {
    let owned = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Wanted::read(Query(owned.collect()))
}

/// Whether a parameter is refused, alone and by its name.
#[cfg(test)]
pub(crate) fn refuses<F: Filters>(bad: (&str, &str)) -> bool {
    read::<F>(&[bad]).is_err_and(|problem| {
        problem.status() == 400 && problem.detail().contains(&format!("?{}", bad.0))
    })
}

#[cfg(test)]
mod tests {
    use proto::id::ProfileId;

    use super::*;

    unfiltered!(Plain, "plain");
    unfiltered!(Other, "other");

    #[test]
    fn every_fault_of_a_query_is_named() {
        let bad = [("limit", "0"), ("limit", "101"), ("limit", "x"), ("limit", ""), ("nope", "1")];
        assert!(bad.into_iter().all(refuses::<Plain>));
        assert!(read::<Plain>(&[("limit", "1"), ("limit", "1")]).is_err());
        let both = read::<Plain>(&[("limit", "0"), ("nope", "1")]).unwrap_err();
        assert!(both.detail().contains("?limit") && both.detail().contains("?nope"));
    }

    #[test]
    fn a_page_ends_where_the_next_one_begins() {
        let (secrets, workspace) = (Secrets::for_tests(), WorkspaceId::generate());
        let mut rows: Vec<_> = std::iter::repeat_with(ProfileId::generate).take(3).collect();
        let all = rows.clone();
        let wanted = read::<Plain>(&[("limit", "2")]).unwrap();
        assert_eq!(wanted.rows(), 3);
        let next = wanted.cut(&mut rows, &secrets, workspace, |&id| id).unwrap();
        assert_eq!(rows, all[..2]);
        let wanted = read::<Plain>(&[("cursor", &next), ("limit", "1")]).unwrap();
        assert_eq!(wanted.after(&secrets, workspace).unwrap(), Some(all[1]));
        assert_eq!(wanted.cut(&mut vec![all[2]], &secrets, workspace, |&id| id), None);
        assert_eq!(below(Some(all[1])), all[1].to_string());
        assert!(below(None::<ProfileId>) > all[0].to_string(), "nothing is left out");
        // Of another list or workspace it is worth nothing.
        let other = read::<Other>(&[("cursor", &next)]).unwrap();
        assert!(other.after::<ProfileId>(&secrets, workspace).is_err());
        assert!(wanted.after::<ProfileId>(&secrets, WorkspaceId::generate()).is_err());
    }
}
