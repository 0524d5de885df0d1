//! A running bot.

use std::sync::Arc;

use anyhow::Context as _;
use poise::{
    FrameworkOptions,
    serenity_prelude::{
        self as serenity, Client, ClientBuilder, Command, Framework, FullEvent, GatewayIntents, HttpBuilder,
        ShardManager, async_trait,
    },
};
use tokio::{sync::RwLock, task::JoinHandle};

pub(crate) struct Running {
    shards: Arc<ShardManager>,
    client: JoinHandle<serenity::Result<()>>,
    commands: Arc<RwLock<()>>,
}

impl Running {
    /// Registers the bot's commands, and connects to Discord.
    pub(crate) async fn start<D, E>(
        http: HttpBuilder,
        options: FrameworkOptions<D, E>,
        data: D,
    ) -> anyhow::Result<Self>
    where
        D: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let http = http.build();
        let application = http.get_current_application_info().await.context("cannot log in to Discord")?;
        http.set_application_id(application.id);
        let commands = poise::builtins::create_application_commands(&options.commands);
        Command::set_global_commands(&http, commands).await.context("cannot register the commands")?;

        let framework = poise::Framework::builder()
            .options(options)
            .initialize_owners(false)
            .setup(|_, _, _| Box::pin(async { Ok(data) }))
            .build();
        let commands = Arc::new(RwLock::new(()));
        let framework = Counted { framework, commands: Arc::clone(&commands) };
        // Interactions need no intents.
        let mut client =
            ClientBuilder::new_with_http(http, GatewayIntents::empty()).framework(framework).await?;
        let shards = Arc::clone(&client.shard_manager);
        let client = tokio::spawn(async move { client.start_autosharded().await });
        Ok(Self { shards, client, commands })
    }

    /// Waits until the connection to Discord ends.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        (&mut self.client).await?.context("the connection to Discord has ended")
    }

    /// Disconnects, and waits for the running commands. Then the store can be closed.
    pub(crate) async fn stop(&self) {
        self.shards.shutdown_all().await;
        self.client.abort();
        let _ = self.commands.write().await;
    }
}

/// poise's framework. Each event holds a shared lock while it is handled.
struct Counted<D, E> {
    framework: poise::Framework<D, E>,
    commands: Arc<RwLock<()>>,
}

#[async_trait]
impl<D: Send + Sync, E: Send + Sync> Framework for Counted<D, E> {
    async fn init(&mut self, client: &Client) {
        self.framework.init(client).await;
    }

    async fn dispatch(&self, context: serenity::Context, event: FullEvent) {
        let _running = self.commands.read().await;
        self.framework.dispatch(context, event).await;
    }
}
