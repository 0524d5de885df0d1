//! Copies sessions from SQLite to PostgreSQL, each time in a process of its own, whose peak memory is that of the
//! copy.

use std::{fs, process::Stdio, time::Instant};

use larder::transfer::{self, CopyOptions, VerifyOptions};
use tokio::process::Command;
use tokio_postgres::NoTls;

use crate::{contenders::fill, data::Data, results::Copied};

/// The names of the measured copies. The others are compared with this one.
pub const PLAIN: &str = "copy";
pub const VERIFY: &str = "copy --verify";
pub const RESUME: &str = "copy --resume, half is there";
pub const RESUME_ALL: &str = "copy --resume, all is there";

pub async fn measure(entries: u64, rounds: usize) -> Vec<Copied> {
    let home = crate::output::scratch();
    let from = format!("sqlite:{}", home.path().join("from.db").display());
    let source = larder_sqlite::connect(&from).await.unwrap();
    fill(&source, Data { keys: entries, size: 200 }).await;
    source.close().await.unwrap();

    let server = larder_test_servers::postgres().await.unwrap();
    let url = crate::stores::address(&server).await;
    let (admin, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let to = format!("{url}?table=bench_copies");
    let mut copies: Vec<_> = [PLAIN, VERIFY, RESUME, RESUME_ALL]
        .map(|what| Copied { what: what.to_owned(), entries, seconds: Vec::new(), peak_bytes: None })
        .into();
    for _ in 0..rounds {
        for copied in &mut copies {
            let prepare = match copied.what.as_str() {
                RESUME => "DELETE FROM bench_copies WHERE version % 2 = 0; VACUUM bench_copies",
                RESUME_ALL => "",
                _ => "DROP TABLE IF EXISTS bench_copies",
            };
            for statement in prepare.split(';').chain(["CHECKPOINT"]) {
                admin.batch_execute(statement).await.unwrap();
            }
            let output = Command::new(std::env::current_exe().unwrap())
                .args([CHILD, &copied.what, &from, &to])
                .stderr(Stdio::inherit())
                .output()
                .await
                .unwrap();
            assert!(output.status.success(), "{} failed", copied.what);
            let text = String::from_utf8(output.stdout).unwrap();
            let (seconds, peak) = text.trim().split_once(' ').unwrap();
            copied.seconds.push(seconds.parse().unwrap());
            copied.peak_bytes = copied.peak_bytes.max(peak.parse().ok().filter(|peak| *peak > 0));
        }
    }
    admin.batch_execute("DROP TABLE bench_copies").await.unwrap();
    copies
}

/// The argument that makes a process copy, and print the seconds and the peak memory.
pub const CHILD: &str = "copy-child";

pub async fn child(what: &str, from: &str, to: &str) {
    let (from, to) = (larder::open_existing(from).await.unwrap(), larder::open(to).await.unwrap());
    let started = Instant::now();
    let options = CopyOptions::default().resume(what.contains("--resume"));
    let copied = transfer::copy(&from, &to, &options, |_| ()).await.unwrap();
    assert_eq!(copied.failed + copied.kept + copied.expired, 0, "{copied:?}");
    if what == VERIFY {
        let verified = transfer::verify(&from, &to, &VerifyOptions::default(), |_| ()).await.unwrap();
        assert!(verified.is_equal(), "{verified:?}");
    }
    let seconds = started.elapsed().as_secs_f64();
    to.close().await.unwrap();
    println!("{seconds} {}", peak().unwrap_or(0));
}

/// The peak memory of this process, on Linux.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
