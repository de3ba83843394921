//! What confines the browsers of agents: told by each, and put together by region.

use std::collections::BTreeMap;

use proto::agent;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most layers that an agent may tell of.
const LAYERS_MAX: usize = 16;
/// Longest name and longest detail, in bytes.
const NAME_MAX: usize = 64;
const DETAIL_MAX: usize = 512;

/// One layer of what confines the browsers of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Such as `landlock`.
    pub name: String,
    /// Whether it is on.
    pub active: bool,
    /// How far it goes, or why it is off.
    pub detail: String,
}

/// The layers that an agent tells of, in its order. `None`: no agent of ours says so much.
pub fn told(layers: &[agent::Layer]) -> Option<Vec<Layer>> {
    let fits =
        |layer: &agent::Layer| layer.name.len() <= NAME_MAX && layer.detail.len() <= DETAIL_MAX;
    (layers.len() <= LAYERS_MAX && layers.iter().all(fits)).then(|| {
        let layers = layers.iter().map(|agent::Layer { name, active, detail }| Layer {
            name: name.clone(),
            active: *active,
            detail: detail.clone(),
        });
        layers.collect()
    })
}

/// What isolates the browsers of a region from each other and from their machines.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Isolation {
    /// Layers that all of its agents have on.
    #[schema(example = json!(["user", "landlock", "seccomp"]))]
    pub active: Vec<String>,
    /// Layers that are off on at least one of them.
    pub missing: Vec<MissingLayer>,
}

/// A layer that is off somewhere.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MissingLayer {
    /// What it is called.
    #[schema(example = "cgroup")]
    pub name: String,
    /// Why it is off.
    #[schema(example = "no controllers are delegated to the agent")]
    pub detail: String,
}

impl Isolation {
    /// What agents have in common. One of an older version, which tells nothing, has nothing.
    pub fn common<'a>(agents: impl IntoIterator<Item = &'a [Layer]>) -> Self {
        let mut agents_count = 0;
        let mut order = Vec::new();
        let mut known: BTreeMap<&str, (usize, Option<&str>)> = BTreeMap::new();
        for layers in agents {
            agents_count += 1;
            for layer in layers {
                let (on, why) = known.entry(&layer.name).or_insert_with(|| {
                    order.push(layer.name.as_str());
                    (0, None)
                });
                if layer.active {
                    *on += 1;
                } else {
                    why.get_or_insert(&layer.detail);
                }
            }
        }
        let mut common = Self::default();
        for name in order {
            match known[name] {
                (on, _) if on == agents_count => common.active.push(name.to_owned()),
                (_, why) => common.missing.push(MissingLayer {
                    name: name.to_owned(),
                    detail: why.unwrap_or("an agent does not know it").to_owned(),
                }),
            }
        }
        common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, why_off: Option<&str>) -> Layer {
        Layer {
            name: name.to_owned(),
            active: why_off.is_none(),
            detail: why_off.unwrap_or("on").to_owned(),
        }
    }

    fn off(name: &str, detail: &str) -> MissingLayer {
        MissingLayer { name: name.to_owned(), detail: detail.to_owned() }
    }

    #[test]
    fn a_layer_is_a_regions_only_if_every_agent_has_it() {
        let one = [layer("user", None), layer("landlock", None), layer("cgroup", Some("none"))];
        let other = [layer("user", None), layer("landlock", Some("too old"))];
        let common = Isolation::common([&one[..], &other]);
        assert_eq!(common.active, ["user"]);
        assert_eq!(common.missing, [off("landlock", "too old"), off("cgroup", "none")]);
    }

    #[test]
    fn an_agent_that_tells_nothing_has_nothing() {
        let common = Isolation::common([&[layer("user", None)][..], &[]]);
        assert!(common.active.is_empty());
        assert_eq!(common.missing, [off("user", "an agent does not know it")]);
        assert_eq!(Isolation::common([]), Isolation::default());
    }

    #[test]
    fn what_is_too_much_is_not_taken() {
        let layer = agent::Layer { name: "n".repeat(65), active: true, detail: String::new() };
        assert_eq!(told(&[layer]), None);
        assert_eq!(told(&vec![agent::Layer::default(); 17]), None);
        assert_eq!(told(&[agent::Layer::default()]).map(|layers| layers.len()), Some(1));
    }
}
