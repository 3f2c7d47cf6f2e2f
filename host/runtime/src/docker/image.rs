//! Which image a name means.

use std::fmt;

use super::engine::{Engine, QUICK, status};
use crate::RuntimeError;

/// Where images lie that `podman build` made, and where those that came through the interface.
const HOMES: [&str; 2] = ["localhost", "docker.io/library"];

/// An image, as people tell it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    name: String,
    id: String,
    created: String,
    /// The longer names of this one and of another one that the short name could mean as well.
    twins: Option<[String; 2]>,
}

impl Image {
    /// What to say if another tool has built an image of the same name, which is not the one used.
    pub(super) fn doubt(&self) -> Option<(String, String)> {
        let [used, other] = self.twins.as_ref()?;
        let what = format!(
            "{} means {used}, made {}; {other} is another image, which is not used",
            self.name, self.created
        );
        let help = format!(
            "remove the one that you do not want, as with `podman rmi {other}`, or write the whole \
             name as containers.image"
        );
        Some((what, help))
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, made {})", self.name, self.id, self.created)
    }
}

/// The image that `name` means to the engine; `None` if there is none.
pub(super) async fn find(engine: &Engine, name: &str) -> Result<Option<Image>, RuntimeError> {
    let Some((id, created)) = inspect(engine, name).await? else { return Ok(None) };
    let mut twins = None;
    if engine.facts().await?.podman && !name.contains('/') {
        let names = HOMES.map(|home| format!("{home}/{name}"));
        let (first, second) =
            (inspect(engine, &names[0]).await?, inspect(engine, &names[1]).await?);
        if let (Some((first, _)), Some((second, _))) = (first, second)
            && first != second
        {
            let [first_name, second_name] = names;
            twins = Some(if id == first {
                [first_name, second_name]
            } else {
                [second_name, first_name]
            });
        }
    }
    let id = id.trim_start_matches("sha256:").chars().take(12).collect();
    // To the second is enough for people.
    let created = created.chars().take(19).collect();
    Ok(Some(Image { name: name.to_owned(), id, created, twins }))
}

/// The id of that image.
pub(super) async fn id(engine: &Engine, name: &str) -> Result<Option<String>, RuntimeError> {
    Ok(inspect(engine, name).await?.map(|(id, _)| id))
}

async fn inspect(engine: &Engine, name: &str) -> Result<Option<(String, String)>, RuntimeError> {
    let question = engine.client().await?.inspect_image(name);
    match engine.answer(QUICK, question).await? {
        Ok(found) => {
            let created = found.created.map(|at| at.to_string()).unwrap_or_default();
            Ok(Some((found.id.unwrap_or_default(), created)))
        }
        Err(error) if status(&error) == 404 => Ok(None),
        Err(error) => Err(engine.unavailable(&error.to_string())),
    }
}
