use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::index::HashIndex;
use super::key::{Key, Previous, Tiers, new_id, new_secret};
use crate::limits::Limits;
use crate::lines::{Lines, line};

/// All virtual keys, revoked ones too. A change is on the disk when it is told, and in force at once.
#[derive(Debug)]
pub struct KeyBook {
    /// Held while the disk syncs: changed on blocking threads only.
    file: Mutex<Lines>,
    table: ArcSwap<Table>,
}

#[derive(Debug, Default)]
struct Table {
    keys: BTreeMap<String, Arc<Key>>,
    /// By each secret that may be good; to which time it is.
    index: HashIndex<(Arc<Key>, Option<Timestamp>)>,
}

/// A line of the file: the key as it is from then on.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    at: Timestamp,
    what: Event,
    key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Created,
    Changed,
    Rotated,
    Revoked,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,64}$"))]
    pub tenant: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tiers: Tiers,
    #[serde(default, deserialize_with = "named")]
    pub limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
}

/// What is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "KeyChange")]
pub struct Change {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `null` or an empty list: all.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub tiers: Option<Tiers>,
    /// All of them at once.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named_if_given")]
    pub limits: Option<Limits>,
    /// `null`: never.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub expires_at: Option<Option<Timestamp>>,
}

fn named<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Limits, D::Error> {
    by_name(Map::deserialize(from)?)
}

fn named_if_given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Limits>, D::Error> {
    Option::<Map<String, Value>>::deserialize(from)?.map(by_name).transpose()
}

/// Limits by their names alone: a list of numbers without names would be taken for them in their order.
fn by_name<E: serde::de::Error>(map: Map<String, Value>) -> Result<Limits, E> {
    serde_json::from_value(Value::Object(map)).map_err(E::custom)
}

fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("there is no key {0}")]
    Unknown(String),
    #[error("the key {0} is revoked")]
    Revoked(String),
    #[error("the keys in {} cannot be used", .path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A line may be missing that revoked a key: none of them can be trusted.
    #[error("the keys in {} are damaged in {lines} lines: put a copy in its place, or move it away and make new keys", .path.display())]
    Damaged { path: PathBuf, lines: usize },
}

impl KeyBook {
    /// Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be used, or something in it does not hold.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let mut keys = BTreeMap::new();
        let opened = Lines::open(path, |entry: Entry| {
            keys.insert(entry.key.id.clone(), Arc::new(entry.key));
        });
        let (file, damage) = opened.map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
        if damage.lines > 0 {
            return Err(KeyError::Damaged { path: path.to_owned(), lines: damage.lines });
        }
        Ok(Self { file: Mutex::new(file), table: ArcSwap::from_pointee(Table::new(keys)) })
    }

    /// The key that this is a secret of, if it is good now.
    #[must_use]
    pub fn find(&self, presented: &str, now: Timestamp) -> Option<Arc<Key>> {
        let table = self.table.load();
        let (key, until) = table.index.find(presented)?;
        (key.is_valid(now) && until.is_none_or(|until| now < until)).then(|| Arc::clone(key))
    }

    /// Oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Key>> {
        let mut keys: Vec<_> = self.table.load().keys.values().cloned().collect();
        keys.sort_by_key(|key| key.created_at);
        keys
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Key>> {
        self.table.load().keys.get(id).cloned()
    }

    /// No key was ever made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.load().keys.is_empty()
    }

    /// The key, and its secret, which is told this once. Blocks on the disk.
    ///
    /// # Errors
    /// The disk's; then there is no such key.
    pub fn create(&self, new: NewKey, now: Timestamp) -> Result<(Arc<Key>, SecretString), KeyError> {
        let (secret, sha256, hint) = new_secret();
        let NewKey { name, tenant, tiers, limits, expires_at } = new;
        let tiers = tiers.filter(|tiers| !tiers.is_empty());
        let key = Key {
            id: new_id(),
            name,
            tenant,
            hint,
            sha256,
            previous: None,
            tiers,
            limits,
            created_at: now,
            rotated_at: None,
            expires_at,
            revoked_at: None,
        };
        let mut file = self.file.lock();
        self.enter(&mut file, now, Event::Created, key).map(|key| (key, secret))
    }

    /// A new secret; the old one holds for `grace` more. Blocks on the disk.
    ///
    /// # Errors
    /// There is no such key, it is revoked, or the disk's.
    pub fn rotate(
        &self,
        id: &str,
        grace: Duration,
        now: Timestamp,
    ) -> Result<(Arc<Key>, SecretString), KeyError> {
        let (secret, sha256, hint) = new_secret();
        let key = self.update(id, now, Event::Rotated, |key| {
            let until = now.checked_add(grace).unwrap_or(Timestamp::MAX);
            key.previous = (!grace.is_zero()).then_some(Previous { sha256: key.sha256, until });
            (key.sha256, key.hint, key.rotated_at) = (sha256, hint, Some(now));
        })?;
        Ok((key, secret))
    }

    /// Blocks on the disk.
    ///
    /// # Errors
    /// As [`Self::rotate`].
    pub fn change(&self, id: &str, change: Change, now: Timestamp) -> Result<Arc<Key>, KeyError> {
        self.update(id, now, Event::Changed, |key| {
            if let Some(name) = change.name {
                key.name = name;
            }
            if let Some(tiers) = change.tiers {
                key.tiers = tiers.filter(|tiers| !tiers.is_empty());
            }
            if let Some(limits) = change.limits {
                key.limits = limits;
            }
            if let Some(expires_at) = change.expires_at {
                key.expires_at = expires_at;
            }
        })
    }

    /// For good, with all its secrets. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Self::rotate`].
    pub fn revoke(&self, id: &str, now: Timestamp) -> Result<Arc<Key>, KeyError> {
        self.update(id, now, Event::Revoked, |key| {
            key.revoked_at = Some(now);
            key.previous = None;
        })
    }

    fn update(
        &self,
        id: &str,
        now: Timestamp,
        what: Event,
        change: impl FnOnce(&mut Key),
    ) -> Result<Arc<Key>, KeyError> {
        let mut file = self.file.lock();
        let mut key =
            self.get(id).map(|key| Key::clone(&key)).ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
        if key.revoked_at.is_some() {
            return Err(KeyError::Revoked(id.to_owned()));
        }
        change(&mut key);
        self.enter(&mut file, now, what, key)
    }

    fn enter(&self, file: &mut Lines, at: Timestamp, what: Event, key: Key) -> Result<Arc<Key>, KeyError> {
        let entry = Entry { at, what, key };
        let mut text = Vec::new();
        let written = line(&mut text, &entry).and_then(|()| file.append_synced(&text));
        written.map_err(|source| KeyError::Io { path: file.path().to_owned(), source })?;
        let key = Arc::new(entry.key);
        let mut keys = self.table.load().keys.clone();
        keys.insert(key.id.clone(), Arc::clone(&key));
        self.table.store(Arc::new(Table::new(keys)));
        Ok(key)
    }
}

impl Table {
    fn new(keys: BTreeMap<String, Arc<Key>>) -> Self {
        let mut index = HashIndex::default();
        for key in keys.values().filter(|key| key.revoked_at.is_none()) {
            if let Some(previous) = &key.previous {
                index.insert(previous.sha256, (Arc::clone(key), Some(previous.until)));
            }
            index.insert(key.sha256, (Arc::clone(key), None));
        }
        Self { keys, index }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn new(name: &str) -> NewKey {
        NewKey {
            name: name.into(),
            tenant: "t".into(),
            tiers: None,
            limits: Limits::default(),
            expires_at: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn book(folder: &tempfile::TempDir) -> KeyBook {
        KeyBook::open(&folder.path().join("keys.log")).unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_secret_alone_and_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let (key, secret) = book(&folder).create(new("a"), at(0)).unwrap();
        let (_, other) = book(&folder).create(new("b"), at(1)).unwrap();
        let again = book(&folder);
        assert_eq!(again.find(secret.expose_secret(), at(5)).unwrap().id, key.id);
        assert_eq!(again.find(other.expose_secret(), at(5)).unwrap().name, "b");
        assert!(again.find(&key.id, at(5)).is_none() && again.find(&key.sha256.to_string(), at(5)).is_none());
        let text = std::fs::read_to_string(folder.path().join("keys.log")).unwrap();
        assert!(!text.contains(secret.expose_secret()) && text.contains(&key.hint));
        assert_eq!(again.list().iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_rotated_key_has_two_secrets_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(&folder);
        let (key, old) = book.create(new("a"), at(0)).unwrap();
        let (_, new) = book.rotate(&key.id, Duration::from_secs(60), at(10)).unwrap();
        let finds = |secret: &SecretString, second| book.find(secret.expose_secret(), at(second)).is_some();
        assert!(finds(&new, 11) && finds(&old, 69) && !finds(&old, 70) && finds(&new, 70));
        let (_, newest) = book.rotate(&key.id, Duration::ZERO, at(71)).unwrap();
        assert!(!finds(&new, 71) && finds(&newest, 71));
    }

    #[test]
    fn a_revoked_or_expired_key_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let keys = book(&folder);
        let (key, secret) = keys.create(NewKey { expires_at: Some(at(100)), ..new("a") }, at(0)).unwrap();
        assert!(keys.find(secret.expose_secret(), at(99)).is_some());
        assert!(keys.find(secret.expose_secret(), at(100)).is_none());
        keys.revoke(&key.id, at(1)).unwrap();
        assert!(keys.find(secret.expose_secret(), at(2)).is_none());
        assert!(matches!(keys.rotate(&key.id, Duration::ZERO, at(3)), Err(KeyError::Revoked(_))));
        assert!(matches!(keys.revoke("key_x", at(3)), Err(KeyError::Unknown(_))));
        let again = book(&folder);
        assert!(again.find(secret.expose_secret(), at(2)).is_none() && !again.is_empty());
    }

    #[test]
    fn what_is_not_given_stays() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(&folder);
        let tiers = Some(vec!["small".to_owned()]);
        let (key, _) = book.create(NewKey { tiers: tiers.clone(), ..new("a") }, at(0)).unwrap();
        let of = |json: &str| book.change(&key.id, serde_json::from_str(json).unwrap(), at(1)).unwrap();
        let changed = of(r#"{"name": "b", "limits": {"tokens_per_minute": 5}}"#);
        assert_eq!((changed.name.as_str(), &changed.tiers), ("b", &tiers));
        assert_eq!(changed.limits.tokens_per_minute, Some(5));
        let changed = of(r#"{"tiers": null}"#);
        assert_eq!((changed.name.as_str(), &changed.tiers), ("b", &None));
        assert_eq!(changed.limits.tokens_per_minute, Some(5));
    }

    #[test]
    fn damaged_keys_are_not_trusted_and_a_torn_line_was_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.log");
        let (key, secret) = book(&folder).create(new("a"), at(0)).unwrap();
        let good = std::fs::read(&path).unwrap();
        book(&folder).revoke(&key.id, at(1)).unwrap();
        let revoked = std::fs::read(&path).unwrap();
        std::fs::write(&path, &revoked[..revoked.len() - 3]).unwrap();
        assert!(book(&folder).find(secret.expose_secret(), at(2)).is_some(), "it was not revoked yet");
        let mut text = [good.as_slice(), &revoked].concat();
        text[20] ^= 1;
        std::fs::write(&path, text).unwrap();
        assert!(matches!(KeyBook::open(&path), Err(KeyError::Damaged { lines: 1, .. })));
    }

    #[test]
    fn limits_have_names() {
        let read = |limits: Value| {
            serde_json::from_value::<NewKey>(
                serde_json::json!({"name": "n", "tenant": "t", "limits": limits}),
            )
        };
        assert_eq!(read(serde_json::json!({"budget_tokens": 5})).unwrap().limits.budget_tokens, Some(5));
        assert!(read(serde_json::json!([1, 2])).is_err());
        let change = serde_json::json!({"limits": [1, 2]});
        assert!(serde_json::from_value::<Change>(change).is_err());
    }
}
