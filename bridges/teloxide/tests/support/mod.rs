//! Helpers of the tests: the bots, and a bot that runs on a fake Telegram.

#![allow(dead_code)] // No test uses all of it.

#[path = "../../examples/purchase/bot.rs"]
pub(crate) mod purchase;

pub(crate) mod counter;

use std::sync::Arc;

use larder_core::{Error, ErrorKind};
use larder_fake_telegram::{Telegram, within_a_minute};
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

/// A running bot.
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

    /// Stops the bot when it has handled all updates.
    pub(crate) async fn stop(self) {
        let stopped = async {
            self.telegram.idle().await;
            // The returned future may never end; the task does.
            drop(self.shutdown.shutdown().expect("it runs"));
            self.task.await.expect("it has not panicked");
        };
        within_a_minute("the bot to stop", stopped).await;
    }
}

/// The errors that the bot's error handler has received.
pub(crate) struct Failures {
    sender: UnboundedSender<anyhow::Error>,
    receiver: Mutex<UnboundedReceiver<anyhow::Error>>,
}

impl Failures {
    pub(crate) fn new() -> Arc<Self> {
        let (sender, receiver) = unbounded_channel();
        Arc::new(Self { sender, receiver: Mutex::new(receiver) })
    }

    /// Waits for the next error.
    pub(crate) async fn next(&self) -> anyhow::Error {
        let mut receiver = self.receiver.lock().await;
        within_a_minute("an error", receiver.recv()).await.expect("the sender is here")
    }

    /// Waits for the next error, which must be Larder's, and returns its kind.
    pub(crate) async fn next_kind(&self) -> ErrorKind {
        let error = self.next().await;
        let storage = match error.downcast_ref() {
            Some(DialogueError::Storage(error)) => Some(error),
            _ => error.downcast_ref::<Error>(),
        };
        storage.unwrap_or_else(|| panic!("not an error of Larder: {error:#}")).kind()
    }

    /// Removes the other errors and returns their number.
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
        self.sender.send(error).expect("the receiver exists");
        Box::pin(std::future::ready(()))
    }
}
