use std::fmt;

use jiff::Timestamp;
use rand::Rng;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sha2::Sha256;

use crate::limits::Limits;

/// What every key of ours begins with: leaked ones can be searched for.
const PREFIX: &str = "sk-reprise-";

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub id: String,
    pub name: String,
    pub tenant: String,
    /// The secret's beginning, to tell keys apart.
    pub hint: String,
    pub sha256: Digest,
    /// The secret before the last rotation, as long as it holds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<Previous>,
    /// Only these; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tiers: Tiers,
    #[serde(default)]
    pub limits: Limits,
    pub created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rotated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
}

/// Names of tiers that a key may use.
pub type Tiers = Option<Vec<String>>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Previous {
    pub sha256: Digest,
    pub until: Timestamp,
}

impl Key {
    /// It can be used at this time, by whichever of its secrets.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

#[must_use]
pub fn sha256(secret: &str) -> Digest {
    Digest(<Sha256 as sha2::Digest>::digest(secret).into())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; 32];
        let wrong = || D::Error::custom("not a SHA-256 in hexadecimal digits");
        if text.len() != 64 {
            return Err(wrong());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let [high, low] = pair else { return Err(wrong()) };
            *byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

/// A new secret of 192 random bits, its hash, and what of it may be shown.
pub fn new_secret() -> (SecretString, Digest, String) {
    let random: [u8; 24] = rand::rng().random();
    let hex = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let secret = format!("{PREFIX}{hex}");
    let hint = format!("{PREFIX}{}", &hex[..4]);
    let digest = sha256(&secret);
    (secret.into(), digest, hint)
}

pub fn new_id() -> String {
    let random: [u8; 8] = rand::rng().random();
    random.iter().fold("key_".to_owned(), |id, byte| id + &format!("{byte:02x}"))
}
