//! `/admin/v1/keys`: virtual keys. A secret is told once, when it is made; what is kept is its hash.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use reprise_accounts::{Change, Key, KeyBook, KeyError, Limits, NewKey};
use reprise_cache::TenantId;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::body::Fields;
use super::query::Params;
use super::{Admin, AdminError};
use crate::config::ADMIN_TENANT;
use crate::http::Segment;

const LONGEST_NAME: usize = 200;
/// The old secret of a rotated key holds at most so long.
const LONGEST_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A key without its hash.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub struct KeyView {
    id: String,
    name: String,
    tenant: String,
    /// The secret's beginning.
    hint: String,
    state: Validity,
    /// `null`: all.
    tiers: Option<Vec<String>>,
    limits: Limits,
    created_at: Timestamp,
    rotated_at: Option<Timestamp>,
    /// Until then the secret before the last rotation holds as well.
    previous_until: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "KeyState")]
enum Validity {
    Active,
    Expired,
    Revoked,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyList {
    data: Vec<KeyView>,
}

/// A key that was made or rotated.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KeyWithSecret")]
pub struct WithSecret {
    /// What the client sends. It is not told again.
    secret: String,
    #[serde(flatten)]
    key: KeyView,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    tenant: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
#[schemars(rename = "KeyRotation")]
pub struct Rotation {
    /// The old secret holds for so long.
    grace_s: u64,
}

pub async fn list(State(admin): State<Admin>, Params(filter): Params<Filter>) -> Json<KeyList> {
    let keys = admin.app().keys.book().list();
    let wanted = keys.iter().filter(|key| filter.tenant.as_ref().is_none_or(|tenant| key.tenant == *tenant));
    Json(KeyList { data: wanted.map(|key| KeyView::of(key)).collect() })
}

pub async fn show(State(admin): State<Admin>, Segment(id): Segment) -> Result<Json<KeyView>, AdminError> {
    let key = admin.app().keys.book().get(&id).ok_or(KeyError::Unknown(id))?;
    Ok(Json(KeyView::of(&key)))
}

pub async fn create(
    State(admin): State<Admin>,
    Fields(new): Fields<NewKey>,
) -> Result<(StatusCode, Json<WithSecret>), AdminError> {
    check_name(&new.name)?;
    check_tiers(&admin, new.tiers.as_deref())?;
    let _: TenantId = new.tenant.parse()?;
    if new.tenant == ADMIN_TENANT {
        return Err(AdminError::invalid("tenant", "`admin` is the tenant of the admin key"));
    }
    let made = change(&admin, move |book, now| book.create(new, now)).await?;
    Ok((StatusCode::CREATED, Json(told(made))))
}

pub async fn rotate(
    State(admin): State<Admin>,
    Segment(id): Segment,
    Fields(rotation): Fields<Rotation>,
) -> Result<Json<WithSecret>, AdminError> {
    let grace = Duration::from_secs(rotation.grace_s);
    if grace > LONGEST_GRACE {
        return Err(AdminError::invalid("grace_s", "must be at most 30 days"));
    }
    change(&admin, move |book, now| book.rotate(&id, grace, now)).await.map(|made| Json(told(made)))
}

pub async fn alter(
    State(admin): State<Admin>,
    Segment(id): Segment,
    Fields(wanted): Fields<Change>,
) -> Result<Json<KeyView>, AdminError> {
    if let Some(name) = &wanted.name {
        check_name(name)?;
    }
    check_tiers(&admin, wanted.tiers.as_ref().and_then(|tiers| tiers.as_deref()))?;
    let key = change(&admin, move |book, now| book.change(&id, wanted, now)).await?;
    Ok(Json(KeyView::of(&key)))
}

pub async fn revoke(State(admin): State<Admin>, Segment(id): Segment) -> Result<Json<KeyView>, AdminError> {
    let key = change(&admin, move |book, now| book.revoke(&id, now)).await?;
    Ok(Json(KeyView::of(&key)))
}

/// On a blocking thread: it returns when the change is on the disk.
async fn change<T: Send + 'static>(
    admin: &Admin,
    change: impl FnOnce(&KeyBook, Timestamp) -> Result<T, KeyError> + Send + 'static,
) -> Result<T, AdminError> {
    Ok(admin.blocking(move |admin| change(admin.app().keys.book(), Timestamp::now())).await??)
}

fn told((key, secret): (std::sync::Arc<Key>, SecretString)) -> WithSecret {
    WithSecret { secret: secret.expose_secret().to_owned(), key: KeyView::of(&key) }
}

fn check_name(name: &str) -> Result<(), AdminError> {
    if name.trim().is_empty() || name.len() > LONGEST_NAME {
        return Err(AdminError::invalid("name", format!("must have 1 to {LONGEST_NAME} bytes")));
    }
    Ok(())
}

fn check_tiers(admin: &Admin, tiers: Option<&[String]>) -> Result<(), AdminError> {
    let config = admin.app().config();
    for name in tiers.unwrap_or_default() {
        if !config.tiers.iter().any(|tier| tier.name() == name) {
            return Err(AdminError::invalid("tiers", format!("there is no tier `{name}`")));
        }
    }
    Ok(())
}

impl KeyView {
    fn of(key: &Key) -> Self {
        let state = match key.revoked_at {
            Some(_) => Validity::Revoked,
            None if key.is_valid(Timestamp::now()) => Validity::Active,
            None => Validity::Expired,
        };
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            tenant: key.tenant.clone(),
            hint: format!("{}…", key.hint),
            state,
            tiers: key.tiers.clone(),
            limits: key.limits.clone(),
            created_at: key.created_at,
            rotated_at: key.rotated_at,
            previous_until: key.previous.as_ref().map(|previous| previous.until),
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
        }
    }
}
