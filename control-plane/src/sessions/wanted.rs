//! Where a session may run, as its creator wants it.

use proto::region::Region;
use serde_json::Value;

use super::validate::Object;
use crate::{app::App, db::Tx, error::Error, regions};

/// Stands for every region. No region is called so.
pub const ANY: &str = "any";
/// Most regions in a list.
const REGIONS_MAX: usize = 16;

/// The `region` of a create. Whether the regions exist is for the store to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// The server's default region.
    Default,
    /// One alone, as the caller spelled it.
    One(String),
    /// Every region, the default one first.
    Any,
    /// These, the best first.
    Several(Vec<String>),
}

impl Wanted {
    /// Takes `region` out of the body of a create.
    pub(super) fn take(body: &mut Object<'_, '_>) -> Self {
        let Some(region) = body.take("region") else { return Self::Default };
        let names = |items: &[Value]| -> Option<Vec<String>> {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        };
        match region {
            Value::String(name) if name == ANY => return Self::Any,
            Value::String(name) => return Self::One(name.clone()),
            Value::Array(items) if (1..=REGIONS_MAX).contains(&items.len()) => {
                if let Some(names) = names(items) {
                    return Self::Several(names);
                }
                body.invalid("region", "must have nothing but strings in it");
            }
            Value::Array(_) => {
                body.invalid("region", format!("must have 1 to {REGIONS_MAX} regions"));
            }
            _ => body.invalid("region", "must be a string, or an array of strings"),
        }
        Self::Default
    }

    /// The one region, where no other comes into question and its name is a good one.
    pub fn only(&self, app: &App) -> Option<Region> {
        match self {
            Self::Default => Some(app.config.default_region.clone()),
            Self::One(name) => name.parse().ok(),
            Self::Any | Self::Several(_) => None,
        }
    }

    /// All regions that come into question, the best first, and those that exist besides.
    pub async fn resolve(
        &self,
        app: &App,
        tx: &mut Tx,
    ) -> Result<(Vec<Region>, Vec<Region>), Error> {
        let default = &app.config.default_region;
        let mut known = regions::names(tx).await?;
        if let Err(place) = known.binary_search(default) {
            known.insert(place, default.clone());
        }
        let names = match self {
            Self::Default => vec![default.as_str()],
            Self::One(name) => vec![name.as_str()],
            Self::Several(names) => names.iter().map(String::as_str).collect(),
            Self::Any => {
                let others = known.iter().filter(|region| *region != default);
                [default].into_iter().chain(others).map(Region::as_str).collect()
            }
        };
        let mut wanted: Vec<Region> = Vec::new();
        for name in names {
            match known.iter().find(|region| region.as_str() == name) {
                Some(region) if wanted.contains(region) => (),
                Some(region) => wanted.push(region.clone()),
                None => {
                    return Err(Error::UnknownRegion { region: name.to_owned(), known });
                }
            }
        }
        known.retain(|region| !wanted.contains(region));
        Ok((wanted, known))
    }
}
