//! The bot: its commands, its button, and its errors.

use std::error::Error as StdError;

use larder_poise::{CommandSession, CommandSessions, ErrorKind, Result as Larder, SessionExt, ok};
use poise::{
    CreateReply, FrameworkContext, FrameworkError, FrameworkOptions,
    serenity_prelude::{
        CreateActionRow, CreateButton, CreateInteractionResponse, CreateInteractionResponseMessage,
        FullEvent, Interaction,
    },
};

pub(crate) type Error = Box<dyn StdError + Send + Sync>;

/// The bot's data are its sessions.
type Context<'a> = poise::Context<'a, CommandSessions, Error>;

/// The name of the count in a session, as in the example of discord.js-mvc.
const PONGED: &str = "ponged";
/// The `custom_id` of the button.
pub(crate) const AGAIN: &str = "again";

pub(crate) fn options() -> FrameworkOptions<CommandSessions, Error> {
    FrameworkOptions {
        commands: vec![ping(), session(), forget()],
        event_handler: |framework, event| Box::pin(on_event(framework, event)),
        on_error: |error| Box::pin(on_error(error)),
        ..FrameworkOptions::default()
    }
}

/// Counts the ping.
#[poise::command(slash_command)]
async fn ping(ctx: Context<'_>) -> Result<(), Error> {
    let pong = count(ctx.session()).await?;
    ctx.send(CreateReply::default().content(pong).components(vec![again()])).await?;
    Ok(())
}

/// Shows all values of the session.
#[poise::command(slash_command)]
async fn session(ctx: Context<'_>) -> Result<(), Error> {
    // A read does not wait for an update of the session.
    let values = ctx.session().all().await?;
    ctx.say(serde_json::to_string(&values)?).await?;
    Ok(())
}

/// Deletes the count.
#[poise::command(slash_command)]
async fn forget(ctx: Context<'_>) -> Result<(), Error> {
    let existed = ctx.session().modify(|session| session.delete(PONGED)).await?;
    ctx.say(if existed { "forgotten" } else { "there was nothing to forget" }).await?;
    Ok(())
}

/// Reads and writes in one update, so that simultaneous pings all count. The update ends before the answer is sent, so
/// that other pings do not wait for Discord.
async fn count(session: CommandSession<'_>) -> Larder<String> {
    let ponged = session.try_modify(|session| {
        let ponged = session.get(PONGED)?.unwrap_or(0_u64) + 1;
        session.set(PONGED, ponged)?;
        ok(ponged)
    });
    Ok(format!("pong ({} times)", ponged.await?))
}

fn again() -> CreateActionRow {
    CreateActionRow::Buttons(vec![CreateButton::new(AGAIN).label("again")])
}

/// Counts in the session of the user who presses the button.
async fn on_event(
    framework: FrameworkContext<'_, CommandSessions, Error>,
    event: &FullEvent,
) -> Result<(), Error> {
    if let FullEvent::InteractionCreate { interaction: Interaction::Component(press) } = event
        && press.data.custom_id == AGAIN
    {
        let answer = CreateInteractionResponseMessage::new();
        let answer = match count(framework.user_data.of(press)).await {
            Ok(pong) => answer.content(pong).components(vec![again()]),
            Err(error) => answer.content(apology(&error)).ephemeral(true),
        };
        press.create_response(framework.serenity_context, CreateInteractionResponse::Message(answer)).await?;
    }
    Ok(())
}

async fn on_error(error: FrameworkError<'_, CommandSessions, Error>) {
    let answered = match error {
        FrameworkError::Command { error, ctx, .. } => {
            let answer = CreateReply::default().content(apology(&*error)).ephemeral(true);
            ctx.send(answer).await.map(drop)
        }
        // Answers errors of the user, and logs the others.
        other => poise::builtins::on_error(other).await,
    };
    if let Err(error) = answered {
        eprintln!("ping: an answer was not sent: {error}");
    }
}

/// The answer to the user. The operator of the bot sees the full error.
fn apology(error: &(dyn StdError + 'static)) -> &'static str {
    eprintln!("ping: {error}");
    match error.downcast_ref().map(larder_poise::Error::kind) {
        Some(ErrorKind::InvalidKey) => "Counts are not available here.",
        Some(ErrorKind::Unavailable | ErrorKind::Timeout) => {
            "The count is not available now; please try again."
        }
        _ => "An error occurred; nothing was changed.",
    }
}
