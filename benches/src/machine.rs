//! The machine, and the versions of the measured programs.

use std::{fs, process::Command};

use sqlx::{Connection, MySqlConnection};

/// One line per item, in the order of the page, without unknown items.
pub async fn describe() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut put = |name: &str, text: Option<String>| {
        lines.extend(text.filter(|text| !text.is_empty()).map(|text| (name.to_owned(), text)));
    };
    put("commit", run("git", &["rev-parse", "--short", "HEAD"]));
    put("date", run("date", &["-u", "+%Y-%m-%d"]));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = line("/proc/cpuinfo", "model name").unwrap_or_default();
    put("processor", Some(format!("{model}, {cores} cores")));
    put("memory", line("/proc/meminfo", "MemTotal").map(gibibytes));
    put("system", run("uname", &["-sr"]));
    put("compiler", run("rustc", &["--version"]));
    put("SQLite", Some(rusqlite::version().to_owned()));
    put("PostgreSQL", postgres().await);
    put("MariaDB", mariadb().await);
    put("Redis", redis().await);
    put("MongoDB", mongodb().await);
    put("DynamoDB", dynamodb());
    put(
        "drivers",
        Some(locked(&["rusqlite", "sqlx", "tokio-postgres", "redis", "mongodb", "aws-sdk-dynamodb"])),
    );
    let peers = [
        "tower-sessions-sqlx-store",
        "tower-sessions-redis-store",
        "tower-sessions-mongodb-store",
        "tower-sessions-dynamodb-store",
        "tower-sessions-moka-store",
        "teloxide",
        "actix-session",
        "moka",
        "quick_cache",
        "opendal",
        "object_store",
    ];
    put("peers", Some(locked(&peers)));
    lines
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn line(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn gibibytes(kilobytes: String) -> String {
    let number: f64 = kilobytes.trim_end_matches(" kB").parse().unwrap_or_default();
    format!("{:.0} GiB", number / 1024.0 / 1024.0)
}

async fn postgres() -> Option<String> {
    let server = larder_test_servers::postgres().await.ok()?;
    let (client, connection) = tokio_postgres::connect(server.url(), tokio_postgres::NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client.query_one("SHOW server_version", &[]).await.ok()?.get(0))
}

async fn mariadb() -> Option<String> {
    let server = larder_test_servers::mariadb().await.ok()?;
    let mut connection = MySqlConnection::connect(server.url()).await.ok()?;
    sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut connection).await.ok()
}

async fn redis() -> Option<String> {
    let server = larder_test_servers::redis().await.ok()?;
    let client = redis::Client::open(server.url()).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok()?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?;
    Some(format!("{}, appendfsync always", version.trim()))
}

async fn mongodb() -> Option<String> {
    let server = larder_test_servers::mongodb().await.ok()?;
    let client = mongodb::Client::with_uri_str(server.url()).await.ok()?;
    let info = client.database("admin").run_command(mongodb::bson::doc! { "buildInfo": 1 }).await.ok()?;
    let version = info.get_str("version").ok()?.to_owned();
    let stand_in = std::env::var("LARDER_TEST_MONGODB_URL").is_err();
    Some(if stand_in { format!("{version}, or SecantusDB as its stand-in") } else { version })
}

fn dynamodb() -> Option<String> {
    let stand_in = std::env::var("LARDER_TEST_DYNAMODB_URL").is_err();
    stand_in.then(|| "DynamoDB Local, or dynalite as its stand-in".to_owned())
}

/// The packages, with their versions in the lock file.
fn locked(packages: &[&str]) -> String {
    let lock = include_str!("../Cargo.lock");
    let after = |text: &'static str, begin: &str| text.split_once(begin).map(|(_, rest)| rest);
    let ours =
        after(lock, "name = \"larder-benches\"").and_then(|rest| rest.split_once(']')).unwrap_or_default().0;
    let version = |package: &&str| {
        // If the lock file has several versions of a package, the dependency names the version too.
        let version = after(ours, &format!("\"{package} "))
            .or_else(|| after(lock, &format!("name = \"{package}\"\nversion = \"")))?;
        Some(format!("{package} {}", version.split_once('"')?.0))
    };
    packages.iter().filter_map(version).collect::<Vec<_>>().join(", ")
}
