//! Lists: those that come in pages, and short ones that come whole.

use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{
    Answer, Request,
    error::{Error, Result},
};

/// How much of a list is wanted.
#[derive(Debug, Default, Args)]
#[group(skip)]
pub struct Paging {
    /// Items of a page [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    /// Every page, as one
    #[arg(long, conflicts_with = "cursor")]
    pub all: bool,
}

/// A page, its items untouched.
#[derive(Deserialize, Serialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    #[serde(default)]
    next_cursor: Option<String>,
    #[serde(default)]
    has_more: bool,
}

/// What a list answered.
pub struct Listed<T> {
    /// The answer; of several pages, one that holds all their items.
    pub answer: Answer,
    /// The items, read.
    pub items: Vec<T>,
    /// How to have more, for people. Empty when this is all.
    pub note: String,
}

/// Asks for one page, or for all of them.
pub async fn page<T, F>(
    paging: &Paging,
    request: Request,
    send: impl Fn(Request) -> F,
) -> Result<Listed<T>>
where
    T: DeserializeOwned,
    F: Future<Output = Result<Answer>>,
{
    let limit = paging.limit.or(paging.all.then_some(100));
    let sized = match limit {
        Some(limit) => request.query("limit", limit.to_string()),
        None => request,
    };
    let from = |cursor: &Option<String>| match cursor {
        Some(cursor) => sized.clone().query("cursor", cursor),
        None => sized.clone(),
    };
    let mut answer = send(from(&paging.cursor)).await?;
    let mut page: Page = answer.read()?;
    if paging.all && page.has_more {
        while page.next_cursor.is_some() {
            let next: Page = send(from(&page.next_cursor)).await?.read()?;
            page.items.extend(next.items);
            page.next_cursor = next.next_cursor.filter(|_| next.has_more);
        }
        page.has_more = false;
        answer.text = serde_json::to_string(&page).map_err(anyhow::Error::from)?;
    }
    read(answer, page)
}

/// Reads a list that has no pages.
pub fn whole<T: DeserializeOwned>(answer: Answer) -> Result<Listed<T>> {
    let page = answer.read()?;
    read(answer, page)
}

fn read<T: DeserializeOwned>(answer: Answer, page: Page) -> Result<Listed<T>> {
    let note = match &page.next_cursor {
        Some(cursor) if page.has_more => format!("there are more: --all, or --cursor {cursor}"),
        _ => String::new(),
    };
    let items = page.items.iter().map(|item| serde_json::from_str(item.get()));
    let items = items.collect::<serde_json::Result<_>>().map_err(|error| {
        Error::Local(anyhow::anyhow!("the server's list cannot be read: {error}"))
    })?;
    Ok(Listed { answer, items, note })
}

impl<T> Listed<T> {
    /// What to say of it: a table of its items.
    pub fn said(self, of: &str, table: impl FnOnce(Vec<T>) -> String) -> super::Said {
        let none = if self.items.is_empty() { format!("no {of}") } else { self.note };
        super::Said::new(self.answer, table(self.items)).note(none)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::client::{Api, stand_in::StandIn};

    #[derive(Deserialize)]
    struct Item {
        id: u32,
    }

    /// Three items, one a page.
    async fn list(paging: Paging) -> (Listed<Item>, Vec<String>) {
        let server = StandIn::start(|asked| {
            let page = asked.uri.split("cursor=c").nth(1).map_or(0, |n| n.parse().unwrap());
            let cursor = (page < 2).then(|| format!("c{}", page + 1));
            let item = json!({"z": 1, "id": page, "a": 2});
            (200, json!({"items": [item], "has_more": page < 2, "next_cursor": cursor}))
        });
        let server = server.await;
        let api = Api::new(server.url.clone()).unwrap();
        let request = Request::get("/list").query("status", "x");
        let listed = page(&paging, request, |request| api.send(request)).await.unwrap();
        (listed, server.lines())
    }

    #[tokio::test]
    async fn a_page_says_how_to_have_the_next() {
        let (listed, asked) = list(Paging { limit: Some(1), ..Paging::default() }).await;
        assert_eq!(asked, ["GET /list?status=x&limit=1"]);
        assert_eq!(listed.items[0].id, 0);
        assert_eq!(listed.note, "there are more: --all, or --cursor c1");
        let (listed, asked) = list(Paging { cursor: Some("c2".into()), ..Paging::default() }).await;
        assert_eq!(asked, ["GET /list?status=x&cursor=c2"]);
        assert_eq!(listed.note, "");
    }

    #[tokio::test]
    async fn all_pages_come_as_one() {
        let (listed, asked) = list(Paging { all: true, ..Paging::default() }).await;
        let next = "GET /list?status=x&limit=100&cursor=c";
        assert_eq!(
            asked,
            ["GET /list?status=x&limit=100".into(), format!("{next}1"), format!("{next}2")]
        );
        assert_eq!(listed.items.iter().map(|item| item.id).collect::<Vec<_>>(), [0, 1, 2]);
        let text: Value = listed.answer.read().unwrap();
        assert_eq!(text["items"].as_array().unwrap().len(), 3);
        assert_eq!((&text["has_more"], &text["next_cursor"]), (&json!(false), &Value::Null));
        assert_eq!(listed.note, "");
    }
}
