//! What the bot answers, and what it remembers: teloxide's purchase bot.

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

const APOLOGY: &str = "Something is wrong here. Please try again later.";

const PRODUCTS: [&str; 4] = ["Apple", "Banana", "Orange", "Potato"];

/// How far a purchase has come. It is stored as `"ReceiveFullName"`, say, under `dialogue:42` for chat 42.
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

/// Everything that dispatches updates to the bot; what is left is to build it.
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

    // Only what people write: not that they have joined a group, or that it has become a supergroup.
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

/// Where an update cannot be handled, tells the chat so, and the dispatcher's error handler which chat it was.
///
/// That handler is given nothing but the error, and an error of the storage knows of no chat. So this stands
/// before all that can fail, also before the dialogue is entered.
fn apologize() -> UpdateHandler<Error> {
    // It asks for no updates of its own, and takes only what every dispatcher provides: it is an entry.
    from_fn_with_description(
        DpHandlerDescription::entry(),
        async |dependencies: DependencyMap, next: Cont<'static, HandlerResult>| {
            let bot = dependencies.get::<Bot>();
            let update = dependencies.get::<Update>();
            match (next(dependencies).await, update.chat()) {
                (ControlFlow::Break(Err(error)), Some(chat)) => {
                    // If that fails as well, it is still the first error that somebody has to look at.
                    let _ = bot.send_message(chat.id, APOLOGY).await;
                    let what = format!("{}: the message was not handled", chat.id);
                    ControlFlow::Break(Err(error.context(what)))
                }
                (outcome, _) => outcome,
            }
        },
        HandlerSignature::Entry,
    )
}

// Each of these stores first and speaks then: what the user has been told is not forgotten.

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
    // The data of a press comes from the user's side, and need not be that of a button.
    let Some(product) = PRODUCTS.into_iter().find(|product| query.data.as_deref() == Some(product)) else {
        return invalid_state(bot, dialogue).await;
    };
    dialogue.exit().await?;
    let text = format!("{full_name}, product '{product}' has been purchased successfully!");
    bot.send_message(dialogue.chat_id(), text).await?;
    Ok(())
}

/// The button shows that it is waiting until the query is answered.
async fn stop_waiting(bot: Bot, query: CallbackQuery) {
    // One that stays like that for a while is no reason to leave the press unhandled.
    let _ = bot.answer_callback_query(query.id).await;
}
