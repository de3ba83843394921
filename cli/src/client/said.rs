//! What a command has to say: to people on a terminal, and to programs.

use std::process::ExitCode;

use comfy_table::{Table, presets::NOTHING};

use super::{Answer, Error};
use crate::style::say;

/// The outcome of a command, before anyone has seen it.
#[derive(Debug, Default)]
pub struct Said {
    /// To stdout, for people.
    people: String,
    /// To stdout, for programs: the API's own words.
    json: String,
    /// To stderr, for people: what is not the answer itself.
    note: String,
    /// What of several things went wrong.
    failures: Vec<Error>,
}

impl Said {
    /// What the API answered, and how people read it.
    pub fn new(answer: Answer, people: impl Into<String>) -> Self {
        Self { people: people.into(), json: answer.text, ..Self::default() }
    }

    /// That it is done, where the API's answer has no body.
    pub fn done(people: impl Into<String>) -> Self {
        Self { people: people.into(), ..Self::default() }
    }

    /// Adds what people should know besides.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Does the same to several things, and goes on where one of them fails.
    pub async fn each<T, F: Future<Output = Result<String, Error>>>(
        things: Vec<T>,
        mut act: impl FnMut(T) -> F,
    ) -> Self {
        let mut said = Self::default();
        let mut done = Vec::new();
        for thing in things {
            match act(thing).await {
                Ok(line) => done.push(line),
                Err(error) => said.failures.push(error),
            }
        }
        said.people = done.join("\n");
        said
    }

    /// Prints it, and answers how it went: as its first failure says.
    pub fn print(self, json: bool) -> ExitCode {
        let text = if json { &self.json } else { &self.people };
        if !text.is_empty() {
            say(text.trim_end());
        }
        if !json && !self.note.is_empty() {
            eprintln!("{}", self.note);
        }
        for failure in &self.failures {
            failure.print(json);
        }
        let code = self.failures.first().map_or(0, Error::exit_code);
        ExitCode::from(code)
    }

    /// What people read on stdout.
    #[cfg(test)]
    pub fn people(&self) -> &str {
        &self.people
    }

    /// What programs read on stdout.
    #[cfg(test)]
    pub fn for_programs(&self) -> &str {
        &self.json
    }

    /// What people read on stderr.
    #[cfg(test)]
    pub fn noted(&self) -> &str {
        &self.note
    }
}

/// Rows under a head, in columns.
pub fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    let rows: Vec<_> = rows.into_iter().map(|row| row.map(|cell| plain(&cell))).collect();
    if rows.is_empty() {
        return String::new();
    }
    table.set_header(head).add_rows(rows);
    lay_out(&mut table)
}

/// Names and what they stand for, one a line.
pub fn card(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    let told = rows.iter().filter(|(_, value)| !value.is_empty());
    table.add_rows(told.map(|(name, value)| [(*name).to_owned(), plain(value)]));
    lay_out(&mut table)
}

fn lay_out(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A text that can neither command the terminal nor break a table: names, labels and the like
/// come from others.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// An API's time to the second, with a Z for UTC.
pub fn when(time: &str) -> String {
    match time.get(..19).filter(|_| time.ends_with('Z')) {
        Some(to_the_second) => format!("{}Z", to_the_second.replacen('T', " ", 1)),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_columns_and_nothing_else() {
        let rows = [["a", "long one"], ["longer", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["ID", "NAME"], rows), "ID      NAME\na       long one\nlonger");
        assert_eq!(table(["ID"], []), "");
    }

    #[test]
    fn a_card_leaves_out_what_is_not_there() {
        let rows = [("Id", "x".into()), ("Proxy", String::new()), ("Status", "RUNNING".into())];
        assert_eq!(card(&rows), "Id      x\nStatus  RUNNING");
    }

    #[test]
    fn a_label_cannot_command_the_terminal() {
        assert_eq!(
            table(["A"], [["\u{1b}[31mx\ny\u{9b}".into()]]),
            "A\n\u{fffd}[31mx\u{fffd}y\u{fffd}"
        );
    }

    #[test]
    fn times_are_read_to_the_second() {
        assert_eq!(when("2026-11-22T12:00:00.009Z"), "2026-11-22 12:00:00Z");
        assert_eq!(when("soon"), "soon");
    }

    #[tokio::test]
    async fn one_failure_does_not_keep_the_others_from_being_tried() {
        let act = |n: u32| async move {
            if n == 2 { Err(Error::usage("two")) } else { Ok(n.to_string()) }
        };
        let said = Said::each(vec![1, 2, 3], act).await;
        assert_eq!(said.people, "1\n3");
        assert_eq!(said.failures.len(), 1);
    }
}
