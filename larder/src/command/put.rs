//! `larder put`.

use std::io::{self, Read};

use anyhow::Context;
use larder::{Condition, ErrorKind};

use super::{args::Put, exit::Exit, output::say, store};

pub(super) async fn run(arguments: &Put) -> anyhow::Result<Exit> {
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
    let store = store::open(&arguments.url).await?;
    store::closing(&store, async {
        let condition = if arguments.if_absent { Condition::Absent } else { Condition::Any };
        match store.write(&arguments.key, value).expiry(arguments.ttl).condition(condition).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                say("there is an entry under this key already; it stays as it was");
                Ok(Exit::Negative)
            }
            written => Ok(written.map(|_| Exit::Done)?),
        }
    })
    .await
}
