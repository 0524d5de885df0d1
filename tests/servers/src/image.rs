//! The image of each server.

use std::fs;

use crate::{Kind, workspace};

/// Stands for the image that `ci/servers` could not get.
const NONE: &str = "none";

/// An image by name and tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) tag: String,
}

impl Image {
    fn parse(text: &str) -> Self {
        // The registry may have a port, so only a colon after the last slash starts a tag.
        let slash = text.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match text[slash..].rfind(':') {
            Some(colon) => (&text[..slash + colon], &text[slash + colon + 1..]),
            None => (text, "latest"),
        };
        Self { name: name.to_owned(), tag: tag.to_owned() }
    }
}

/// The image of a kind.
///
/// # Errors
///
/// A message with the way to get one.
pub(crate) fn of(kind: Kind) -> Result<Image, String> {
    let (variable, official) = variable(kind);
    match chosen(variable).as_deref().or(official) {
        Some(NONE) => Err(format!("no registry answered; run ci/servers --pull to ask again ({variable})")),
        Some(image) => Ok(Image::parse(image)),
        None => Err(format!("there is no official image; run ci/servers to build one ({variable})")),
    }
}

/// Whether `ci/servers` has found that this machine cannot get the image of a kind.
pub(crate) fn is_out_of_reach(kind: Kind) -> bool {
    chosen(variable(kind).0).as_deref() == Some(NONE)
}

/// The variable with the image of a kind, and the official image.
const fn variable(kind: Kind) -> (&'static str, Option<&'static str>) {
    match kind {
        Kind::Postgres | Kind::PostgresTls => ("LARDER_TEST_POSTGRES_IMAGE", Some("postgres:17")),
        Kind::Pgbouncer => ("LARDER_TEST_PGBOUNCER_IMAGE", None),
        Kind::Mariadb | Kind::MariadbTls | Kind::MariadbReplica => {
            ("LARDER_TEST_MARIADB_IMAGE", Some("mariadb:11.8"))
        }
        Kind::Mysql => ("LARDER_TEST_MYSQL_IMAGE", Some("mysql:8.4")),
        Kind::Redis | Kind::RedisPassword | Kind::RedisTls | Kind::RedisCluster | Kind::RedisSentinel => {
            ("LARDER_TEST_REDIS_IMAGE", Some("redis:8"))
        }
        Kind::Valkey => ("LARDER_TEST_VALKEY_IMAGE", Some("valkey/valkey:8")),
        Kind::Mongodb => ("LARDER_TEST_MONGODB_IMAGE", Some("mongo:8")),
        Kind::Dynamodb => ("LARDER_TEST_DYNAMODB_IMAGE", Some("amazon/dynamodb-local:2.5.2")),
    }
}

/// The image in the environment, or in the file of `ci/servers`.
fn chosen(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|image| !image.is_empty()).or_else(|| {
        let file = fs::read_to_string(workspace::target().join("servers.env")).ok()?;
        lookup(&file, variable)
    })
}

fn lookup(file: &str, variable: &str) -> Option<String> {
    file.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, value)| name.trim() == variable && !value.trim().is_empty())
        .map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, tag: &str) -> Image {
        Image { name: name.to_owned(), tag: tag.to_owned() }
    }

    #[test]
    fn a_colon_after_the_last_slash_starts_the_tag() {
        assert_eq!(Image::parse("redis:8"), image("redis", "8"));
        assert_eq!(Image::parse("redis"), image("redis", "latest"));
        assert_eq!(Image::parse("host:5000/a/redis"), image("host:5000/a/redis", "latest"));
        assert_eq!(Image::parse("host:5000/a/redis:7"), image("host:5000/a/redis", "7"));
    }

    #[test]
    fn images_are_read_from_the_file_of_the_script() {
        let file = "# a comment\nLARDER_TEST_REDIS_IMAGE=a/redis:8\nLARDER_TEST_VALKEY_IMAGE=\n";
        assert_eq!(lookup(file, "LARDER_TEST_REDIS_IMAGE").as_deref(), Some("a/redis:8"));
        assert_eq!(lookup(file, "LARDER_TEST_VALKEY_IMAGE"), None);
        assert_eq!(lookup(file, "LARDER_TEST_POSTGRES_IMAGE"), None);
    }
}
