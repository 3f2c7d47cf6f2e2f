//! What is known of rooms: who is in them, and whether they are encrypted. Asked for when it is needed, kept up
//! to date by what is heard, and forgotten when there is too much of it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use twobox_system::lock::lock;

use super::client::{Ask, Client};
use super::events;
use super::kept::Token;
use super::path::step;
use super::trouble::Trouble;

/// How many rooms are remembered.
const ROOMS_MAX: usize = 1_000;

/// How many people of all rooms are remembered.
const PEOPLE_MAX: usize = 200_000;

/// With how many in it a room is no group: the account itself and one more.
const DIRECT: usize = 2;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<HashMap<String, Room>>);

#[derive(Debug, Default)]
struct Room {
    /// Names by ids of those who are in it.
    people: Option<HashMap<String, Option<String>>>,
    encrypted: Option<bool>,
}

/// Who says something to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Who {
    /// Whether nobody else is there.
    pub(super) direct: bool,
    /// The sender's name in the room.
    pub(super) name: Option<String>,
    /// The account's own.
    pub(super) ours: Option<String>,
}

#[derive(Deserialize)]
struct Members {
    joined: HashMap<String, Box<RawValue>>,
}

impl Rooms {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        lock(&self.0)
    }

    /// Who `sender` is in `room`, for the account `us`.
    ///
    /// # Errors
    /// [`Trouble`] of the homeserver.
    pub(super) async fn who(
        &self,
        client: &Client,
        token: &Token,
        room: &str,
        sender: &str,
        us: &str,
    ) -> Result<Who, Trouble> {
        let of = |people: &HashMap<String, Option<String>>| Who {
            direct: people.len() <= DIRECT,
            name: people.get(sender).cloned().flatten(),
            ours: people.get(us).cloned().flatten(),
        };
        if let Some(people) = self.all().get(room).and_then(|room| room.people.as_ref()) {
            return Ok(of(people));
        }
        let path = format!("client/v3/rooms/{}/joined_members", step(room));
        let members: Members = client.ask(Ask::get(token, path)).await?;
        let name = |it: Box<RawValue>| {
            let it: Value = serde_json::from_str(it.get()).unwrap_or_default();
            it["display_name"].as_str().map(events::name)
        };
        let people = members.joined.into_iter().map(|(user, it)| (user, name(it))).collect();
        let who = of(&people);
        self.change(room, |room| room.people = Some(people));
        Ok(who)
    }

    /// Whether `room` is encrypted.
    ///
    /// # Errors
    /// [`Trouble`] of the homeserver.
    pub(super) async fn is_encrypted(
        &self,
        client: &Client,
        token: &Token,
        room: &str,
    ) -> Result<bool, Trouble> {
        if let Some(known) = self.all().get(room).and_then(|room| room.encrypted) {
            return Ok(known);
        }
        let path = format!("client/v3/rooms/{}/state/m.room.encryption", step(room));
        let encrypted = match client.ask::<IgnoredAny>(Ask::get(token, path)).await {
            Ok(_) => true,
            Err(trouble) if trouble.refused(404).is_some() => false,
            // Whoever may not look may not send either, and is told so then.
            Err(trouble) if trouble.is_final() => return Ok(false),
            Err(trouble) => return Err(trouble),
        };
        // It may have been heard of meanwhile, and no room is encrypted no more.
        Ok(self.change(room, |room| *room.encrypted.get_or_insert(encrypted)))
    }

    /// It is encrypted, and stays so.
    pub(super) fn encrypt(&self, room: &str) {
        self.change(room, |room| room.encrypted = Some(true));
    }

    /// Somebody is in `room` under this name, or is there no longer.
    pub(super) fn member(&self, room: &str, user: &str, name: Option<String>, joined: bool) {
        if let Some(people) = self.all().get_mut(room).and_then(|room| room.people.as_mut()) {
            match joined {
                true => people.insert(user.to_owned(), name),
                false => people.remove(user),
            };
        }
    }

    /// Who is in `room` is to be asked anew.
    pub(super) fn forget_people(&self, room: &str) {
        if let Some(room) = self.all().get_mut(room) {
            room.people = None;
        }
    }

    /// Something happened in `room` that cannot be read: what it may have changed is to be asked anew.
    pub(super) fn doubt(&self, room: &str) {
        if let Some(room) = self.all().get_mut(room) {
            room.people = None;
            room.encrypted = room.encrypted.filter(|is_encrypted| *is_encrypted);
        }
    }

    /// Everything is to be asked anew.
    pub(super) fn forget(&self) {
        self.all().clear();
    }

    fn change<T>(&self, room: &str, change: impl FnOnce(&mut Room) -> T) -> T {
        let mut all = self.all();
        let people = |room: &Room| room.people.as_ref().map_or(0, HashMap::len);
        if all.len() >= ROOMS_MAX || all.values().map(people).sum::<usize>() >= PEOPLE_MAX {
            all.clear();
        }
        change(all.entry(room.to_owned()).or_default())
    }
}
