//! Rows that an operation adds and never reads: an event, the news of it, a deed. On PostgreSQL
//! they wait for the commit and go out together in one statement, since each statement is a
//! round trip and an operation has several of them.

use std::fmt::Write;

use serde_json::Value;
use sqlx::{
    Arguments, AssertSqlSafe, PgConnection, SqliteConnection, postgres::PgArguments, types::Json,
};

use super::answered;

/// What stands for one placeholder.
#[derive(Clone, Debug)]
pub enum Bind {
    /// A text, or NULL.
    Text(Option<String>),
    /// A number.
    Int(i64),
    /// JSON.
    Json(Value),
}

impl From<String> for Bind {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&str> for Bind {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<Option<String>> for Bind {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Bind {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<Value> for Bind {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

/// An `INSERT` whose placeholders are `$1` to `$n`, in the order of `binds`.
#[derive(Debug)]
pub(super) struct Addition {
    pub text: &'static str,
    pub binds: Vec<Bind>,
}

impl Addition {
    pub async fn run(self, db: &mut SqliteConnection) -> sqlx::Result<()> {
        let mut query = sqlx::query(self.text);
        for bind in self.binds {
            query = match bind {
                Bind::Text(text) => query.bind(text),
                Bind::Int(number) => query.bind(number),
                Bind::Json(value) => query.bind(Json(value)),
            };
        }
        query.execute(db).await.map(drop)
    }
}

/// Runs all of them as one statement. None of them sees what another one adds.
pub(super) async fn run_together(
    db: &mut PgConnection,
    additions: Vec<Addition>,
) -> sqlx::Result<()> {
    let texts: Vec<_> = additions.iter().map(|addition| addition.text).collect();
    let text = together(&texts);
    let mut arguments = PgArguments::default();
    for bind in additions.into_iter().flat_map(|addition| addition.binds) {
        match bind {
            Bind::Text(text) => arguments.add(text),
            Bind::Int(number) => arguments.add(number),
            Bind::Json(value) => arguments.add(Json(value)),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    let query = sqlx::query_with(AssertSqlSafe(text), arguments);
    answered(query.execute(db)).await.map(drop)
}

/// The first ones as parts of the last one, with the placeholders counted on.
fn together(texts: &[&str]) -> String {
    let (mut parts, mut taken) = (Vec::new(), 0);
    for text in texts {
        let mut pieces = text.split('$');
        let mut part = pieces.next().unwrap_or_default().to_owned();
        let mut greatest = 0;
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
            let number: usize = piece[..end].parse().unwrap_or_default();
            greatest = greatest.max(number);
            let _ = write!(part, "${}{}", taken + number, &piece[end..]);
        }
        taken += greatest;
        parts.push(part);
    }
    let last = parts.pop().unwrap_or_default();
    let parts: Vec<_> =
        parts.iter().enumerate().map(|(n, part)| format!("part{n} AS ({part})")).collect();
    if parts.is_empty() { last } else { format!("WITH {} {last}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_on_from_part_to_part() {
        let one = "INSERT INTO a VALUES ($1, $2, $1)";
        let other = "INSERT INTO b SELECT CAST($10 AS TEXT), $3";
        assert_eq!(together(&[one]), one);
        assert_eq!(
            together(&[one, other, one]),
            "WITH part0 AS (INSERT INTO a VALUES ($1, $2, $1)), \
             part1 AS (INSERT INTO b SELECT CAST($12 AS TEXT), $5) \
             INSERT INTO a VALUES ($13, $14, $13)"
        );
    }
}
