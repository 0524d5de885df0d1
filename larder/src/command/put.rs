//! `larder put`.

use std::io::{self, Read};

use anyhow::Context;
use larder::{Condition, ErrorKind, Expiry, Storage};

use super::{args::Put, exit::Outcome, output::say, store};

pub(super) async fn run(arguments: &Put) -> anyhow::Result<Outcome> {
    let value = match &arguments.value {
        Some(value) => value.clone().into_bytes(),
        None => {
            let mut value = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut value)
                .context("cannot read the value from standard input")?;
            value
        }
    };
    let expiry = Expiry::from(arguments.ttl);
    let storage = store::open(&arguments.url).await?;
    store::closing(&*storage, async {
        if arguments.if_absent {
            match storage.write_if(&arguments.key, value.into(), expiry, Condition::Absent).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    say("there is an entry under this key already; it stays as it was");
                    return Ok(Outcome::Negative);
                }
                written => drop(written?),
            }
        } else {
            storage.write(&arguments.key, value.into(), expiry).await?;
        }
        Ok(Outcome::Done)
    })
    .await
}
