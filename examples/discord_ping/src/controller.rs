//! The ping controller.

use larder_session::{KvSessions, Result, SessionKey};

use crate::interaction::Interaction;

/// The name of the count in a session, as in discord.js-mvc's example.
const PONGED: &str = "ponged";

pub(crate) struct Controller {
    sessions: KvSessions,
}

impl Controller {
    pub(crate) const fn new(sessions: KvSessions) -> Self {
        Self { sessions }
    }

    pub(crate) async fn answer(&self, interaction: &Interaction) -> anyhow::Result<String> {
        if interaction.is_health_check() {
            return Ok("pong, without a session".to_owned());
        }
        let session = interaction.session_key();
        Ok(match interaction.command() {
            Some("ping") => self.ping(session).await?,
            Some("session") => serde_json::to_string(&self.sessions.all(session).await?)?,
            Some("forget") => self.forget(session).await?,
            Some(other) => format!("unknown command {other}: use ping, session or forget"),
            None => "this bot handles only commands".to_owned(),
        })
    }

    /// Reads and writes in one update, so that concurrent pings all count.
    async fn ping(&self, session: SessionKey) -> Result<String> {
        let ponged = self.sessions.try_modify(session, |session| {
            let ponged = session.get(PONGED)?.unwrap_or(0_u64) + 1;
            session.set(PONGED, ponged)?;
            Result::Ok(ponged)
        });
        Ok(format!("pong ({} times)", ponged.await?))
    }

    async fn forget(&self, session: SessionKey) -> Result<String> {
        let had = self.sessions.delete(session, PONGED).await?;
        Ok(if had { "forgotten" } else { "nothing to forget" }.to_owned())
    }
}
