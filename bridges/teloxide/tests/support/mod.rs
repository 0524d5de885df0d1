//! What the tests share: Telegram, the bots, and how they are run.

#![allow(dead_code)] // No test needs all of it.

#[path = "../../examples/purchase/bot.rs"]
pub(crate) mod purchase;
#[path = "../../examples/purchase/telegram/mod.rs"]
pub(crate) mod telegram;

pub(crate) mod counter;

use std::sync::Arc;

use larder_core::{Error, ErrorKind};
use larder_teloxide::DialogueError;
use teloxide::{
    Bot,
    dispatching::{DefaultKey, Dispatcher, DispatcherBuilder, ShutdownToken},
    error_handlers::ErrorHandler,
};
use tokio::{
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinHandle,
};

use self::telegram::{Telegram, patience::patiently};

/// A bot that runs.
pub(crate) struct Running {
    telegram: Telegram,
    shutdown: ShutdownToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start<E>(telegram: &Telegram, bot: DispatcherBuilder<Bot, E, DefaultKey>) -> Self
    where
        E: std::fmt::Debug + Send + Sync + 'static,
    {
        let mut dispatcher: Dispatcher<_, _, _> = bot.build();
        let shutdown = dispatcher.shutdown_token();
        let task = tokio::spawn(async move { dispatcher.dispatch().await });
        Self { telegram: telegram.clone(), shutdown, task }
    }

    /// Ends it when it has handled all that it has been sent.
    pub(crate) async fn stop(self) {
        let stopped = async {
            self.telegram.idle().await;
            // What it returns may wait for ever; that the task ends is what counts.
            drop(self.shutdown.shutdown().expect("it runs"));
            self.task.await.expect("it has not panicked");
        };
        patiently("the bot to stop", stopped).await;
    }
}

/// What the bot's error handler has been given.
pub(crate) struct Failures {
    sender: UnboundedSender<anyhow::Error>,
    receiver: Mutex<UnboundedReceiver<anyhow::Error>>,
}

impl Failures {
    pub(crate) fn new() -> Arc<Self> {
        let (sender, receiver) = unbounded_channel();
        Arc::new(Self { sender, receiver: Mutex::new(receiver) })
    }

    /// Waits for the next.
    pub(crate) async fn next(&self) -> anyhow::Error {
        let mut receiver = self.receiver.lock().await;
        patiently("an error", receiver.recv()).await.expect("the sender is here")
    }

    /// The kind of the next, which must be Larder's.
    pub(crate) async fn next_kind(&self) -> ErrorKind {
        let error = self.next().await;
        let storage = match error.downcast_ref() {
            Some(DialogueError::Storage(error)) => Some(error),
            _ => error.downcast_ref::<Error>(),
        };
        storage.unwrap_or_else(|| panic!("not Larder's: {error:#}")).kind()
    }

    /// How many there are that nobody has looked at; forgets them.
    pub(crate) async fn count(&self) -> usize {
        let mut receiver = self.receiver.lock().await;
        std::iter::from_fn(|| receiver.try_recv().ok()).count()
    }
}

impl ErrorHandler<anyhow::Error> for Failures {
    fn handle_error(
        self: Arc<Self>,
        error: anyhow::Error,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        self.sender.send(error).expect("the receiver is here");
        Box::pin(std::future::ready(()))
    }
}
