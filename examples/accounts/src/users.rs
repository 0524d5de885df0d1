//! The users, and the check of their passwords.

use std::{collections::HashMap, fmt, sync::Arc};

use axum_login::{AuthUser, AuthnBackend};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::task::{JoinError, spawn_blocking};

/// The demo users, for `--help` and the page of the sign-in.
pub(crate) const DEMO: &str =
    "Demo users: ann with the password \"correct horse\", bob with \"battery staple\".";

/// The demo users' names and the hashes of their passwords. A real service has a table of them.
const USERS: [(&str, &str); 2] = [
    (
        "ann",
        "$argon2id$v=19$m=19456,t=2,p=1$AzHoEGcgFN9Rh6Wk0CGZoQ$RqjJzBzuIKG8ogU/YavUSegPAO4fdLFehJvjOM1w/tE",
    ),
    (
        "bob",
        "$argon2id$v=19$m=19456,t=2,p=1$1zVGjzJGXPKeFrsMeQJIFg$9Yd9aR750LPcLmf3mwRQQx0+al6lJFFls/V19ds3I4Y",
    ),
];

/// The hash of a password that nobody has.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$uw57KZsliypwyhYtdslBYw$I5Wy9AmvSpf6w6Nm3/Y02ppinuA+Qfh2t/FZzcAeRz8";

/// A user.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    password_hash: &'static str,
    /// The mark of this password in the sessions: a new password ends the sessions of the old one. A hash of the hash,
    /// so that the sessions contain nothing with which to guess the password.
    password_mark: [u8; 32],
}

impl fmt::Debug for User {
    /// Omits the hashes: axum-login logs users at the level `debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl AuthUser for User {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    fn session_auth_hash(&self) -> &[u8] {
        &self.password_mark
    }
}

/// The fields of the sign-in.
#[derive(Clone, Deserialize)]
pub(crate) struct Credentials {
    name: String,
    password: String,
}

/// All users, by name.
#[derive(Clone)]
pub(crate) struct Users(Arc<HashMap<String, User>>);

impl Users {
    /// Returns the demo users.
    pub(crate) fn demo() -> Self {
        let user = |(name, password_hash): (&str, &'static str)| {
            let password_mark = Sha256::digest(password_hash).into();
            (name.to_owned(), User { name: name.to_owned(), password_hash, password_mark })
        };
        Self(Arc::new(USERS.into_iter().map(user).collect()))
    }
}

impl AuthnBackend for Users {
    type User = User;
    type Credentials = Credentials;
    type Error = JoinError;

    async fn authenticate(
        &self,
        Credentials { name, password }: Credentials,
    ) -> Result<Option<User>, JoinError> {
        let user = self.0.get(&name).cloned();
        // An unknown name takes as long as a wrong password. Otherwise the time would tell which names exist.
        let hash = user.as_ref().map_or(NOBODY, |user| user.password_hash);
        let verified = spawn_blocking(move || password_auth::verify_password(password, hash)).await?;
        Ok(user.filter(|_| verified.is_ok()))
    }

    async fn get_user(&self, name: &String) -> Result<Option<User>, JoinError> {
        Ok(self.0.get(name).cloned())
    }
}
