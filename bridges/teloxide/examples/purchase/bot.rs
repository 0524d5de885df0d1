//! teloxide's purchase bot: its commands, and its dialogue.

use std::{ops::ControlFlow, sync::Arc};

use larder_teloxide::{LarderStorage, enter_dialogue};
use serde::{Deserialize, Serialize};
use teloxide::{
    dispatching::{DefaultKey, DispatcherBuilder, DpHandlerDescription, UpdateHandler},
    dptree::{Cont, HandlerDescription, HandlerSignature, case, from_fn_with_description},
    prelude::*,
    types::{InlineKeyboardButton, InlineKeyboardMarkup, MessageKind},
    utils::command::BotCommands,
};

pub(crate) type Error = anyhow::Error;
pub(crate) type Dialogues = LarderStorage<State>;
type MyDialogue = Dialogue<State, Dialogues>;
type HandlerResult = Result<(), Error>;

const APOLOGY: &str = "An error occurred. Please try again later.";

const PRODUCTS: [&str; 4] = ["Apple", "Banana", "Orange", "Potato"];

/// The step of a purchase. It is stored as `"ReceiveFullName"`, say, under `dialogue:42` for chat 42.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    #[default]
    Start,
    ReceiveFullName,
    ReceiveProductChoice {
        full_name: String,
    },
}

/// These commands are supported:
#[derive(BotCommands, Clone)]
#[command(rename_rule = "lowercase")]
enum Command {
    /// Display this text.
    Help,
    /// Start the purchase procedure.
    Start,
    /// Cancel the purchase procedure.
    Cancel,
}

/// Returns the dispatcher of the bot, to be built.
pub(crate) fn dispatcher(bot: Bot, dialogues: Arc<Dialogues>) -> DispatcherBuilder<Bot, Error, DefaultKey> {
    Dispatcher::builder(bot, schema())
        .dependencies(dptree::deps![dialogues])
        .error_handler(Arc::new(async |error: Error| eprintln!("{error:#}")))
}

pub(crate) fn schema() -> UpdateHandler<Error> {
    let commands = teloxide::filter_command::<Command, _>()
        .branch(case![Command::Help].endpoint(help))
        .branch(case![Command::Start].endpoint(start))
        .branch(case![Command::Cancel].endpoint(cancel));

    // Not service messages, such as a new member of a group, or a group that became a supergroup.
    let messages = Update::filter_message()
        .filter(|message: Message| {
            matches!(message.kind, MessageKind::Common(_)) && message.chat_migration().is_none()
        })
        .branch(commands)
        .branch(case![State::ReceiveFullName].endpoint(receive_full_name))
        .branch(dptree::endpoint(invalid_state));

    let presses = Update::filter_callback_query()
        .inspect_async(stop_waiting)
        .branch(case![State::ReceiveProductChoice { full_name }].endpoint(receive_product_selection))
        .branch(dptree::endpoint(invalid_state));

    apologize().chain(enter_dialogue::<State, Error>()).branch(messages).branch(presses)
}

/// Tells the chat that its update could not be handled, and adds the chat to the error.
///
/// It comes before everything that can fail, which includes entering the dialogue: the dispatcher's error handler
/// receives only the error, and an error of the storage does not name the chat.
fn apologize() -> UpdateHandler<Error> {
    // An entry: it requests no kinds of updates, and needs only what every dispatcher provides.
    from_fn_with_description(
        DpHandlerDescription::entry(),
        async |dependencies: DependencyMap, next: Cont<'static, HandlerResult>| {
            let bot = dependencies.get::<Bot>();
            let update = dependencies.get::<Update>();
            match (next(dependencies).await, update.chat()) {
                (ControlFlow::Break(Err(error)), Some(chat)) => {
                    // The first error matters, even if this fails too.
                    let _ = bot.send_message(chat.id, APOLOGY).await;
                    let context = format!("{}: the message was not handled", chat.id);
                    ControlFlow::Break(Err(error.context(context)))
                }
                (outcome, _) => outcome,
            }
        },
        HandlerSignature::Entry,
    )
}

// Each handler stores the state before it answers, so that an answer is never ahead of the state.

async fn start(bot: Bot, dialogue: MyDialogue) -> HandlerResult {
    dialogue.update(State::ReceiveFullName).await?;
    bot.send_message(dialogue.chat_id(), "Let's start! What's your full name?").await?;
    Ok(())
}

async fn help(bot: Bot, dialogue: MyDialogue) -> HandlerResult {
    bot.send_message(dialogue.chat_id(), Command::descriptions().to_string()).await?;
    Ok(())
}

async fn cancel(bot: Bot, dialogue: MyDialogue) -> HandlerResult {
    dialogue.exit().await?;
    bot.send_message(dialogue.chat_id(), "Cancelling the dialogue.").await?;
    Ok(())
}

async fn invalid_state(bot: Bot, dialogue: MyDialogue) -> HandlerResult {
    let text = "Unable to handle the message. Type /help to see the usage.";
    bot.send_message(dialogue.chat_id(), text).await?;
    Ok(())
}

async fn receive_full_name(bot: Bot, dialogue: MyDialogue, message: Message) -> HandlerResult {
    let Some(full_name) = message.text() else {
        bot.send_message(dialogue.chat_id(), "Please, send me your full name.").await?;
        return Ok(());
    };
    dialogue.update(State::ReceiveProductChoice { full_name: full_name.to_owned() }).await?;
    let products = PRODUCTS.map(|product| InlineKeyboardButton::callback(product, product));
    bot.send_message(dialogue.chat_id(), "Select a product:")
        .reply_markup(InlineKeyboardMarkup::new([products]))
        .await?;
    Ok(())
}

async fn receive_product_selection(
    bot: Bot,
    dialogue: MyDialogue,
    full_name: String, // Available from `State::ReceiveProductChoice`.
    query: CallbackQuery,
) -> HandlerResult {
    // A client can send any data, not only that of a button.
    let Some(product) = PRODUCTS.into_iter().find(|product| query.data.as_deref() == Some(product)) else {
        return invalid_state(bot, dialogue).await;
    };
    dialogue.exit().await?;
    let text = format!("{full_name}, product '{product}' has been purchased successfully!");
    bot.send_message(dialogue.chat_id(), text).await?;
    Ok(())
}

/// Answers the query: the button shows a progress bar until then.
async fn stop_waiting(bot: Bot, query: CallbackQuery) {
    // If this fails, the press is handled nevertheless.
    let _ = bot.answer_callback_query(query.id).await;
}
