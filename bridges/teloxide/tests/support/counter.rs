//! A bot with sessions that counts.

use larder_core::Store;
use larder_teloxide::{By, LazySession, Sessions, enter_lazy_session, enter_session};
use serde::{Deserialize, Serialize};
use teloxide::{
    dispatching::{DefaultKey, DispatcherBuilder, UpdateHandler},
    prelude::*,
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) count: u64,
}

type Session = LazySession<Tally>;
type Outcome = anyhow::Result<()>;

pub(crate) fn sessions(storage: impl Into<Store>) -> Sessions<Tally> {
    Sessions::builder().storage(storage).prefix("tally:").build().expect("the storage supports sessions")
}

/// Counts each `+1`; `/count` reads, `/forget` deletes, `/fail` counts and fails.
pub(crate) fn bot(
    bot: Bot,
    by: By,
    sessions: Sessions<Tally>,
) -> DispatcherBuilder<Bot, anyhow::Error, DefaultKey> {
    with(bot, enter_session::<Tally, _>(by), sessions)
}

/// The same bot with a lazy session; `/idle` does not use the session.
pub(crate) fn lazy_bot(
    bot: Bot,
    by: By,
    sessions: Sessions<Tally>,
) -> DispatcherBuilder<Bot, anyhow::Error, DefaultKey> {
    with(bot, enter_lazy_session::<Tally, _>(by), sessions)
}

fn with(
    bot: Bot,
    enter: UpdateHandler<anyhow::Error>,
    sessions: Sessions<Tally>,
) -> DispatcherBuilder<Bot, anyhow::Error, DefaultKey> {
    let says =
        |command: &'static str| dptree::filter(move |message: Message| message.text() == Some(command));
    let counting = enter.branch(
        Update::filter_message()
            .branch(says("/count").endpoint(tell))
            .branch(says("/forget").endpoint(forget))
            .branch(says("/fail").endpoint(fail))
            .branch(says("/idle").endpoint(idle))
            .branch(says("/safe").endpoint(safe))
            .branch(dptree::filter(|message: Message| message.text() == Some("+1")).endpoint(count)),
    );
    let tree = dptree::entry().branch(counting).branch(Update::filter_message().endpoint(other));
    Dispatcher::builder(bot, tree).dependencies(dptree::deps![sessions])
}

async fn count(bot: Bot, message: Message, session: Session) -> Outcome {
    let count = session
        .modify(|tally| {
            tally.count += 1;
            tally.count
        })
        .await?;
    say(&bot, &message, count.to_string()).await
}

async fn tell(bot: Bot, message: Message, session: Session) -> Outcome {
    let tally = session.get().await?;
    say(&bot, &message, tally.count.to_string()).await
}

async fn forget(bot: Bot, message: Message, session: Session) -> Outcome {
    session.clear()?;
    say(&bot, &message, "forgotten").await
}

async fn fail(session: Session) -> Outcome {
    session.modify(|tally| tally.count += 100).await?;
    anyhow::bail!("the handler failed on purpose")
}

/// Counts, and answers only after the session is saved.
async fn safe(bot: Bot, message: Message, session: Session) -> Outcome {
    session.modify(|tally| tally.count += 1).await?;
    session.save().await?;
    say(&bot, &message, "safe").await
}

async fn idle(bot: Bot, message: Message) -> Outcome {
    say(&bot, &message, "idle").await
}

/// Handles messages that no branch inside the session has matched.
async fn other(bot: Bot, message: Message) -> Outcome {
    say(&bot, &message, "pardon?").await
}

async fn say(bot: &Bot, message: &Message, text: impl Into<String>) -> Outcome {
    bot.send_message(message.chat.id, text).await?;
    Ok(())
}
