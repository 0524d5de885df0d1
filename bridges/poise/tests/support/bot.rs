//! A bot with commands that misuse sessions.

use std::{
    error::Error as StdError,
    fmt::Write,
    sync::{Arc, Mutex},
};

use larder_core::Store;
use larder_poise::{
    CommandSession, CommandSessions, HasSessions, KvSessions, Open, Scope, SessionExt, Sessions, ok,
};
use poise::{
    CreateReply, FrameworkContext, FrameworkError, FrameworkOptions,
    serenity_prelude::{CreateInteractionResponse, CreateInteractionResponseMessage, FullEvent, Interaction},
};
use tokio::sync::Semaphore;

type Error = Box<dyn StdError + Send + Sync>;
type Context<'a> = poise::Context<'a, Arc<Data>, Error>;

const SCOPES: [Scope; 5] =
    [Scope::User, Scope::Channel, Scope::Guild, Scope::UserInChannel, Scope::UserInGuild];

/// Several kinds of sessions.
pub(crate) struct Data {
    pub(crate) sessions: CommandSessions,
    scopes: [CommandSessions; 5],
    coins: CommandSessions<Sessions<u64>>,
    /// All errors that `on_error` got, in each way to print them.
    pub(crate) errors: Mutex<String>,
    /// `slow` adds a permit to `entered`, and waits for a permit of `gate`.
    pub(crate) entered: Semaphore,
    pub(crate) gate: Semaphore,
}

impl HasSessions for Data {
    type Kind = KvSessions;

    fn sessions(&self) -> &CommandSessions {
        &self.sessions
    }
}

/// Creates sessions of named values.
pub(crate) fn sessions(storage: impl Into<Store>, scope: Scope) -> CommandSessions {
    CommandSessions::new(KvSessions::builder().storage(storage).prefix("discord:").build().unwrap(), scope)
}

pub(crate) fn data(storage: impl Into<Store>) -> Arc<Data> {
    let storage = storage.into();
    let coins = Sessions::builder().storage(&storage).prefix("coins:").build().unwrap();
    let kv = KvSessions::builder().storage(&storage).prefix("scopes:").build().unwrap();
    Arc::new(Data {
        sessions: sessions(storage, Scope::UserInChannel),
        scopes: SCOPES.map(|scope| CommandSessions::new(kv.clone(), scope)),
        coins: CommandSessions::new(coins, Scope::User),
        errors: Mutex::default(),
        entered: Semaphore::new(0),
        gate: Semaphore::new(0),
    })
}

pub(crate) fn options() -> FrameworkOptions<Arc<Data>, Error> {
    FrameworkOptions {
        commands: vec![
            scopes(),
            count(),
            by_hand(),
            borrow(),
            coins(),
            deferred(),
            slow(),
            fail(),
            panic(),
            panic_in_update(),
            forgetful(),
            twice(),
            update_while_open(),
            open_within_update(),
            reopen(),
            guild(),
        ],
        event_handler: |framework, event| Box::pin(on_event(framework, event)),
        on_error: |error| Box::pin(on_error(error)),
        prefix_options: poise::PrefixFrameworkOptions {
            prefix: Some("!".into()),
            ..poise::PrefixFrameworkOptions::default()
        },
        ..FrameworkOptions::default()
    }
}

/// Counts in the session.
async fn counted(session: CommandSession<'_>) -> larder_poise::Result<u64> {
    session
        .update(async |mut session| {
            let ponged = session.get("ponged")?.unwrap_or(0_u64) + 1;
            session.set("ponged", ponged)?;
            ok(ponged)
        })
        .await
}

/// Counts in each scope; answers with the counts, with a dash for a missing session.
#[poise::command(slash_command)]
async fn scopes(ctx: Context<'_>) -> Result<(), Error> {
    let mut counts = Vec::new();
    for sessions in &ctx.data().scopes {
        counts.push(match counted(sessions.of(ctx)).await {
            Ok(count) => count.to_string(),
            Err(error) if error.kind() == larder_poise::ErrorKind::InvalidKey => "-".to_owned(),
            Err(error) => return Err(error.into()),
        });
    }
    ctx.say(counts.join(" ")).await?;
    Ok(())
}

/// Counts.
#[poise::command(slash_command)]
async fn count(ctx: Context<'_>) -> Result<(), Error> {
    let ponged = counted(ctx.session()).await?;
    ctx.say(ponged.to_string()).await?;
    Ok(())
}

/// Counts without a handler. Also works in messages, but does not answer them.
#[poise::command(slash_command, prefix_command)]
async fn by_hand(ctx: Context<'_>) -> Result<(), Error> {
    let ponged = ctx.session().await?.get::<u64>("ponged")?.unwrap_or_default();
    let mut session = ctx.session().await?;
    session.set("ponged", ponged + 1)?;
    Open::save(session).await?;
    if let poise::Context::Application(_) = ctx {
        ctx.say((ponged + 1).to_string()).await?;
    }
    Ok(())
}

/// Uses a handler that borrows from the command.
#[poise::command(slash_command)]
async fn borrow(ctx: Context<'_>) -> Result<(), Error> {
    let (name, suffix) = (&ctx.author().name, "!".to_owned());
    let greeting = ctx
        .session()
        .update(async |mut session| -> Result<String, Error> {
            tokio::task::yield_now().await;
            session.set("name", name)?;
            Ok(format!("{name}{suffix}"))
        })
        .await?;
    ctx.say(greeting).await?;
    Ok(())
}

/// Uses typed sessions in another scope.
#[poise::command(slash_command)]
async fn coins(ctx: Context<'_>) -> Result<(), Error> {
    let sessions = &ctx.data().coins;
    let one = "1".to_owned();
    sessions
        .of(ctx)
        .update(async |mut coins| -> Result<(), Error> {
            tokio::task::yield_now().await;
            *coins += one.parse::<u64>()?;
            Ok(())
        })
        .await?;
    let mut coins = sessions.of(ctx).await?;
    *coins += 1;
    Open::save(coins).await?;
    let coins = sessions.of(ctx).get().await?.unwrap_or_default();
    ctx.say(coins.to_string()).await?;
    Ok(())
}

/// Counts after it has deferred its answer.
#[poise::command(slash_command)]
async fn deferred(ctx: Context<'_>) -> Result<(), Error> {
    ctx.defer().await?;
    let ponged = counted(ctx.session()).await?;
    ctx.say(ponged.to_string()).await?;
    Ok(())
}

/// Waits for the test inside an update.
#[poise::command(slash_command)]
async fn slow(ctx: Context<'_>) -> Result<(), Error> {
    ctx.session()
        .update(async |mut session| {
            ctx.data().entered.add_permits(1);
            let _open = ctx.data().gate.acquire().await;
            session.set("slow", true)
        })
        .await?;
    ctx.say("done").await?;
    Ok(())
}

/// Changes the session and fails.
#[poise::command(slash_command)]
async fn fail(ctx: Context<'_>) -> Result<(), Error> {
    ctx.session()
        .update(async |mut session| -> Result<(), Error> {
            session.set("ponged", 1_000)?;
            Err("refused".into())
        })
        .await
}

/// Panics with its session open.
#[poise::command(slash_command)]
#[allow(clippy::panic)] // The command must panic.
async fn panic(ctx: Context<'_>) -> Result<(), Error> {
    let mut session = ctx.session().await?;
    session.set("ponged", 1_000)?;
    panic!("on purpose");
}

/// Panics in an update.
#[poise::command(slash_command)]
#[allow(clippy::panic)] // The command must panic.
async fn panic_in_update(ctx: Context<'_>) -> Result<(), Error> {
    ctx.session()
        .update(async |mut session| -> larder_poise::Result<()> {
            session.set("ponged", 1_000)?;
            panic!("on purpose")
        })
        .await?;
    Ok(())
}

/// Opens the session and does not save it.
#[poise::command(slash_command)]
async fn forgetful(ctx: Context<'_>) -> Result<(), Error> {
    ctx.session().await?.set("ponged", 1_000)?;
    ctx.say("forgotten").await?;
    Ok(())
}

/// Opens its session while it is open.
#[poise::command(slash_command)]
async fn twice(ctx: Context<'_>) -> Result<(), Error> {
    let mut first = ctx.session().await?;
    first.set("ponged", 1_000)?;
    Open::save(ctx.session().await?).await?;
    Ok(())
}

/// Updates its session while it is open.
#[poise::command(slash_command)]
async fn update_while_open(ctx: Context<'_>) -> Result<(), Error> {
    let _open = ctx.session().await?;
    ctx.session().delete().await.map(drop).or_else(|error| {
        if error.kind() == larder_poise::ErrorKind::Unsupported { Ok(()) } else { Err(error) }
    })?;
    ctx.session().update(async |mut session| session.set("ponged", 1_000)).await?;
    Ok(())
}

/// Opens its session inside an update of it.
#[poise::command(slash_command)]
async fn open_within_update(ctx: Context<'_>) -> Result<(), Error> {
    ctx.session().update(async |_| Open::save(ctx.session().await?).await).await?;
    Ok(())
}

/// Opens its session again after a save, together with a session of another scope.
#[poise::command(slash_command)]
async fn reopen(ctx: Context<'_>) -> Result<(), Error> {
    let other = ctx.data().scopes[0].of(ctx).open().await?;
    for _ in 0..2 {
        Open::save(ctx.session().await?).await?;
    }
    drop(ctx.session().await?);
    ctx.session().update(async |mut session| session.set("reopened", true)).await?;
    Open::save(other).await?;
    ctx.say("saved").await?;
    Ok(())
}

/// Counts in the session of the guild.
#[poise::command(slash_command)]
async fn guild(ctx: Context<'_>) -> Result<(), Error> {
    let ponged = counted(ctx.data().scopes[2].of(ctx)).await?;
    ctx.say(ponged.to_string()).await?;
    Ok(())
}

/// Counts buttons and modals.
async fn on_event(framework: FrameworkContext<'_, Arc<Data>, Error>, event: &FullEvent) -> Result<(), Error> {
    let FullEvent::InteractionCreate { interaction } = event else { return Ok(()) };
    let sessions = &framework.user_data.sessions;
    let answer = |count: u64| {
        let message = CreateInteractionResponseMessage::new().content(count.to_string());
        CreateInteractionResponse::Message(message)
    };
    match interaction {
        Interaction::Component(press) => {
            let count = counted(sessions.of(press)).await?;
            press.create_response(framework.serenity_context, answer(count)).await?;
        }
        Interaction::Modal(modal) => {
            let count = counted(sessions.of(modal)).await?;
            modal.create_response(framework.serenity_context, answer(count)).await?;
        }
        _ => {}
    }
    Ok(())
}

async fn on_error(error: FrameworkError<'_, Arc<Data>, Error>) {
    match error {
        FrameworkError::Command { error, ctx, .. } => {
            ctx.data().note(&*error);
            let kind = error.downcast_ref().map(larder_poise::Error::kind);
            let kind = kind.map_or_else(|| "another".to_owned(), |kind| kind.to_string());
            let answer = CreateReply::default().content(format!("{kind}: {error}")).ephemeral(true);
            ctx.send(answer).await.unwrap();
        }
        FrameworkError::CommandPanic { ctx, .. } => {
            ctx.send(CreateReply::default().content("panic").ephemeral(true)).await.unwrap();
        }
        FrameworkError::EventHandler { error, framework, .. } => framework.user_data.note(&*error),
        _ => {}
    }
}

impl Data {
    fn note(&self, error: &(dyn StdError + 'static)) {
        let mut errors = self.errors.lock().unwrap();
        let mut next = Some(error);
        while let Some(error) = next {
            writeln!(errors, "{error} {error:?} {error:#?}").unwrap();
            next = error.source();
        }
    }
}
