//! What a profile asks of an engine, and whether it is there.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Inner, image, refused};
use crate::{Profile, RuntimeError};
use twobox_system::lock::lock;

/// How long the image is taken for what it was: a talk should not ask the engine with each message.
const IMAGE_KNOWN_FOR: Duration = Duration::from_secs(2);

/// What the names of the images begin with that this project makes.
const OURS: &str = "twobox-runner:";

impl Inner {
    /// The id of the image that a start would take, as the engine said it not long ago.
    pub(super) async fn image_id(&self, name: &str) -> Option<String> {
        let known = || lock(&self.images);
        if let Some((when, id)) = known().get(name)
            && when.elapsed() < IMAGE_KNOWN_FOR
        {
            return Some(id.clone());
        }
        // One that is missing has no id, and one that comes back has.
        let id = image::id(&self.engine, name).await.ok()?.unwrap_or_default();
        let mut known = known();
        known.retain(|_, (when, _)| when.elapsed() < IMAGE_KNOWN_FOR); // names come and go
        known.insert(name.to_owned(), (Instant::now(), id.clone()));
        Some(id)
    }

    /// Whether an engine can be asked for `profile`: it honours all of it, but a folder that holds its
    /// own socket would hand the machine over.
    pub(super) fn accepts(&self, profile: &Profile) -> Result<(), String> {
        let socket = Path::new(&*self.engine.socket);
        let socket = socket.canonicalize().unwrap_or_else(|_| socket.to_owned());
        match profile.mounts.iter().find(|mount| socket.starts_with(&mount.source)) {
            None => Ok(()),
            Some(mount) => Err(format!(
                "mounts: source {:?} holds the engine's socket {}, with which an agent could do \
                 anything on this machine: name another folder",
                mount.source, self.engine.socket
            )),
        }
    }

    pub(super) async fn check_profile(&self, profile: &Profile) -> Result<(), RuntimeError> {
        self.accepts(profile).map_err(refused)?;
        match profile.image.own {
            true => self.image(&profile.image.value).await.map(drop),
            false => Ok(()), // see `check`
        }
    }

    /// The image that a start with `name` would take.
    pub(super) async fn image(&self, name: &str) -> Result<image::Image, RuntimeError> {
        let missing = || refused(format!("image {name} is missing: {}", self.build_advice(name)));
        image::find(&self.engine, name).await?.ok_or_else(missing)
    }

    pub(super) fn build_advice(&self, image: &str) -> String {
        match image.starts_with(OURS) {
            true => format!("build it with `scripts/build-image {image}`"),
            false => format!(
                "it is one of your own, so build it as docs/images.md says, or pull it, with the engine \
                 at {}; `scripts/build-image` only makes {OURS}local",
                self.engine.socket
            ),
        }
    }
}
