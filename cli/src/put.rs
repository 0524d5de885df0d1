//! `larder put`.

use std::io::{self, Read};

use anyhow::Context;
use larder::{Condition, ErrorKind, Registry};

use super::{args::Put, exit::Exit, output::say, store};

pub(super) async fn run(arguments: &Put, registry: &Registry) -> anyhow::Result<Exit> {
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
    let store = store::open(&arguments.url, registry).await?;
    store::closing(&store, async {
        let condition = if arguments.if_absent { Condition::Absent } else { Condition::Any };
        match store.write(&arguments.key, value).expiry(arguments.ttl).condition(condition).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                say("the key already has an entry, which was not changed");
                Ok(Exit::Negative)
            }
            written => Ok(written.map(|_| Exit::Done)?),
        }
    })
    .await
}
